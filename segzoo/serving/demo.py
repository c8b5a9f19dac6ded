"""Page to try a model on: an image is dropped on it, and its classes, their areas and files come back (Gradio)."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI

from segzoo.inference.outputs import OutputOptions
from segzoo.inference.predictor import Predictor
from segzoo.inference.writers.contract import Prediction
from segzoo.serving.answers import Answers
from segzoo.serving.limits import Limits, RefusedError
from segzoo.serving.uploads import decode
from segzoo.serving.view import View
from segzoo.serving.worker import PredictionWorker

_FILES = ("classes", "polygons")
_KEPT = 3600  # seconds that uploads and files to download are kept
_OPTIONS = OutputOptions(["classes"])


def create_app(
    predictor: Predictor, limits: Limits | None = None, names: Sequence[str] = (), examples: Sequence[Path] = ()
) -> FastAPI:
    """Create the application of the page, whose HTML names no other server that a browser would ask.

    Args:
        predictor: used by the application alone from here on; its reader gets the limit of pixels.
        limits: limits of uploads; None: those of `Limits()`.
        names: names of the models, for the title.
        examples: pictures to try, PNG or JPEG, in a folder without other files, all of which are served.

    Returns:
        the application; `app.state.missing` are the files that it cannot offer, with the reason.
    """
    limits = limits or Limits()
    predictor.reader.max_pixels = limits.max_pixels
    answers = Answers(predictor)
    worker = PredictionWorker(predictor, limits.batch)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        worker.start()
        yield
        worker.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.missing = {name: reason for name, reason in answers.missing.items() if name in _FILES}
    gr.set_static_paths([path.parent for path in examples[:1]])  # copies would be deleted with the uploads
    page = _page(predictor, answers, worker, ", ".join(names), examples)
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])  # others come from a server
    return gr.mount_gradio_app(
        app, page, "/", theme=theme, max_file_size=limits.max_bytes, ssr_mode=False, footer_links=[]
    )


def _page(
    predictor: Predictor, answers: Answers, worker: PredictionWorker, title: str, examples: Sequence[Path]
) -> gr.Blocks:
    offered = [name for name in _FILES if name in answers.names]
    with_probabilities = "probabilities" in answers.names

    def predict(path: str | None, alpha: float) -> Iterator[list[Any]]:
        """Predict an upload; yields the view, the picture, the choice of classes, the table and the files."""
        if path is None:
            yield [None, None, gr.update(choices=[], value=[]), "", *(None for _ in offered)]
            return
        try:
            upload = decode(Path(path).read_bytes(), predictor.reader, _OPTIONS)
            answers.check(_OPTIONS, upload)
        except RefusedError as error:
            raise gr.Error(str(error), duration=None) from error
        found = worker.submit(upload.image, with_probabilities).result()
        view = View(Prediction(upload.job, answers.legend, _OPTIONS, upload.image, *found, valid=upload.valid))
        present = [row.name for row in view.rows if row.pixels]
        choice = gr.update(choices=present, value=view.tinted)
        with tempfile.TemporaryDirectory(prefix="segzoo-") as folder:
            files = [str(view.write(name, Path(folder))) for name in offered]
            # Gradio copies the files into its cache before it goes on behind the yield.
            yield [view, view.overlay(view.tinted, alpha), choice, view.table(), *files]

    def draw(view: View | None, tinted: list[str], alpha: float) -> Any:
        """Draw the overlay anew."""
        return None if view is None else view.overlay(tinted, alpha)

    with gr.Blocks(title=f"segzoo: {title}", analytics_enabled=False, delete_cache=(_KEPT, _KEPT)) as page:
        gr.Markdown(f"## {title or 'segzoo'}")
        view = gr.State(time_to_live=_KEPT)
        with gr.Row():
            image = gr.Image(
                type="filepath", image_mode=None, sources=["upload", "clipboard", "webcam"], label="Image", buttons=[]
            )
            with gr.Column():
                picture = gr.Image(interactive=False, format="png", label="Overlay", buttons=["fullscreen"])
                alpha = gr.Slider(0, 1, 0.5, step=0.05, label="Opacity")
                tinted = gr.CheckboxGroup([], label="Classes shown")
        if examples:
            gr.Examples([str(path) for path in examples], image, label="Validation pictures")
        table = gr.HTML()
        with gr.Row():
            files = [gr.DownloadButton(f"Download {name}") for name in offered]
        image.change(predict, [image, alpha], [view, picture, tinted, table, *files], api_name="predict")
        for change in (alpha.release, tinted.input):
            change(draw, [view, tinted, alpha], picture, show_progress="hidden", api_name="draw")
    return page
