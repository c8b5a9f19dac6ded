"""The page of `segzoo demo` in a thread, for tests; they are skipped where gradio is missing."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from segzoo.inference.predictor import Predictor


@contextmanager
def demo_page(predictor: Predictor, **options) -> Iterator[str]:
    """Serve the page, and yield its address; options are those of `create_app`."""
    pytest.importorskip("gradio")
    import uvicorn

    from segzoo.serving.demo import create_app
    from segzoo.serving.server import address_of, listen

    app = create_app(predictor, names=["tiny"], **options)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield address_of(listener)
        server.should_exit = True
        thread.join(60)
