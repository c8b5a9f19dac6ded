"""Servers of predictions by a trained model: for programs, and a page to try it on."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from segzoo import backend
from segzoo.errors import MissingPackageError, SegzooError
from segzoo.extras import cure_of, missing_packages
from segzoo.workflows.compute import Compute, build_predictor
from segzoo.workflows.examples import write_examples
from segzoo.workflows.sources import open_models, thresholds_of_models

if TYPE_CHECKING:
    from segzoo.engine.checkpoint.thresholds import Thresholds
    from segzoo.workflows.sources import Model, Source

#: Packages of the extras, the modules whose `create_app` makes an application of a predictor, and the seconds that
#: requests have at its end: an open page has a request that never ends.
_APPLICATIONS = {
    "serve": (("fastapi", "uvicorn", "python_multipart"), "segzoo.serving.app", 60),
    "demo": (("gradio", "fastapi", "uvicorn"), "segzoo.serving.demo", 5),
}


@dataclass(frozen=True)
class Serving:
    """Server that has started.

    Attributes:
        address: such as "http://127.0.0.1:8000".
        private: whether only this machine reaches it.
        missing: outputs that it cannot give, and of a page "examples", with the reason.
    """

    address: str
    private: bool
    missing: dict[str, str]

    def __str__(self) -> str:
        """Return one line of the address, and one for everything that is missing."""
        return "\n".join([f"Serving at {self.address}; Ctrl-C stops.", *self.missing.values()])


def serve(
    run: Source | Sequence[Source],
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    max_bytes: int = 32 * 2**20,
    max_pixels: int | None = None,
    batch: int = 4,
    weights: Literal["best", "last"] | None = "best",
    overrides: Sequence[str] = (),
    saved: bool = False,
    tta: str | None = None,
    tile: int | None = None,
    overlap: int | None = None,
    device: str | None = None,
    threshold: float | Mapping[str, float] | None = None,
    started: Callable[[Serving], None] | None = None,
) -> None:
    """Serve predictions over HTTP until SIGTERM or SIGINT (docs/serve.md); needs the extra `serve`.

    Args:
        run: a run, a model file, or several for an ensemble, as `load` takes them.
        host: interface to listen on; by default requests of this machine alone are answered. There is no login.
        port: port to listen on; 0: a free one.
        max_bytes: most bytes of a request.
        max_pixels: most pixels of an image; by default data.max_pixels of the run.
        batch: most images of one size, of the requests that wait, or tiles of a large one, that are computed at once.
        weights: "best" or "last" weights of the run.
        overrides: changes to the run's configuration.
        saved: take the run's model.keras instead, which holds the best weights, as Keras loads it.
        tta: test-time augmentation, such as "mirror", "d4" or "mirror+scales"; see `segzoo.inference.Predictor`.
        tile: height and width of the tiles of larger images, a multiple of 32; 0: never tile. By default images above
            2048 x 2048 are predicted in tiles of 1024.
        overlap: pixels that neighbouring tiles share, a multiple of 32; by default a quarter of a tile.
        device: device that computes, such as "CPU" or "GPU:1"; by default the backend's choice.
        threshold: probability above which a class is predicted, as in `load`.
        started: called when requests are answered.

    Raises:
        MissingPackageError: the extra `serve` is not installed.
        SegzooError: the port is taken, a limit below 1, and as in `load`.
    """
    compute = Compute(tta, tile, overlap, batch, device)
    opening = partial(_opened, run, weights, overrides, saved, threshold)
    _run("serve", opening, compute, (host, port), max_bytes, max_pixels, started)


def demo(
    run: Source | Sequence[Source],
    host: str = "127.0.0.1",
    port: int = 7860,
    *,
    max_bytes: int = 32 * 2**20,
    max_pixels: int | None = None,
    batch: int = 4,
    weights: Literal["best", "last"] | None = "best",
    overrides: Sequence[str] = (),
    saved: bool = False,
    tta: str | None = None,
    tile: int | None = None,
    overlap: int | None = None,
    device: str | None = None,
    threshold: float | Mapping[str, float] | None = None,
    started: Callable[[Serving], None] | None = None,
) -> None:
    """Serve a page to try a model on, until SIGTERM or SIGINT (docs/serve.md#page); needs the extra `demo`.

    An image that is dropped on it comes back under the colours of its classes, with an opacity and a choice of classes,
    areas and confidences, and as files: class map and polygons. Pictures of the run's validation split are examples.

    Args:
        run: a run, a model file, or several for an ensemble, as `load` takes them.
        host: interface to listen on; by default requests of this machine alone are answered. There is no login.
        port: port to listen on; 0: a free one.
        max_bytes: most bytes of an upload.
        max_pixels: most pixels of an image; by default data.max_pixels of the run.
        batch: most images of one size, of the requests that wait, or tiles of a large one, that are computed at once.
        weights: "best" or "last" weights of the run.
        overrides: changes to the run's configuration.
        saved: take the run's model.keras instead, which holds the best weights, as Keras loads it.
        tta: test-time augmentation, such as "mirror", "d4" or "mirror+scales"; see `segzoo.inference.Predictor`.
        tile: height and width of the tiles of larger images, a multiple of 32; 0: never tile. By default images above
            2048 x 2048 are predicted in tiles of 1024.
        overlap: pixels that neighbouring tiles share, a multiple of 32; by default a quarter of a tile.
        device: device that computes, such as "CPU" or "GPU:1"; by default the backend's choice.
        threshold: probability above which a class is predicted, as in `load`.
        started: called when the page is there.

    Raises:
        MissingPackageError: the extra `demo` is not installed.
        SegzooError: the port is taken, a limit below 1, and as in `load`.
    """
    compute = Compute(tta, tile, overlap, batch, device)
    opening = partial(_opened, run, weights, overrides, saved, threshold)
    _run("demo", opening, compute, (host, port), max_bytes, max_pixels, started)


Opened = tuple[Sequence["Model"], "Thresholds"]


def _opened(
    run: Source | Sequence[Source],
    weights: Literal["best", "last"] | None,
    overrides: Sequence[str],
    saved: bool,
    threshold: float | Mapping[str, float] | None,
) -> Opened:
    models = open_models(run, weights, overrides, None, saved)
    return models, thresholds_of_models(models, threshold)


def _run(
    extra: str,
    opening: Callable[[], Opened],
    compute: Compute,
    place: tuple[str, int],
    max_bytes: int,
    max_pixels: int | None,
    started: Callable[[Serving], None] | None,
) -> None:
    """Check what can be checked without a framework, take the port, load the model and serve it."""
    packages, module, stop_seconds = _APPLICATIONS[extra]
    if missing := missing_packages(packages):
        names = [name.replace("_", "-") for name in missing]
        raise MissingPackageError(cure_of(f"segzoo {extra}", names, extra))
    from segzoo.serving.limits import Limits

    Limits(max_bytes=max_bytes, max_pixels=1 if max_pixels is None else max_pixels)
    models, thresholds = opening()
    from segzoo.serving import server

    with ExitStack() as stack:
        listener = stack.enter_context(closing(server.listen(*place)))
        backend.start_backend()
        predictor = build_predictor(models, compute, thresholds)
        limits = Limits(max_bytes, max_pixels or predictor.reader.max_pixels, compute.batch)
        names = [Path(model.name).name for model in models]
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="segzoo-")))
        more, absent = _examples(models[0], folder, limits.max_pixels) if extra == "demo" else ({}, {})
        app = importlib.import_module(module).create_app(predictor, limits, names, **more)
        serving = Serving(server.address_of(listener), server.is_private(listener), absent | app.state.missing)
        server.run(app, listener, None if started is None else lambda: started(serving), stop_seconds)


def _examples(model: Model, folder: Path, max_pixels: int) -> tuple[dict[str, list[Path]], dict[str, str]]:
    """Return the argument of the page for its examples; or the reason why there are none."""
    try:
        return {"examples": write_examples(model, folder, max_pixels)}, {}
    except SegzooError as error:
        return {}, {"examples": str(error)}
