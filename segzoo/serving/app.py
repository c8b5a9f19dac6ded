"""Application of the server: POST /predict, GET /healthz and GET /."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from segzoo import __version__
from segzoo.inference.outputs import Coordinates, OutputOptions, Probabilities
from segzoo.inference.predictor import Predictor
from segzoo.inference.predicts import Found
from segzoo.inference.writers.contract import Prediction
from segzoo.serving.answers import ANSWERS, Answer, Answers
from segzoo.serving.bodies import read_image_bytes
from segzoo.serving.limits import Limits, RefusedError
from segzoo.serving.uploads import Upload, decode
from segzoo.serving.worker import PredictionWorker

_CODECS = 2  # threads that decode and encode while the worker computes: more would hold more images in memory


class Wishes(BaseModel):
    """Query of a prediction: the output, and the options of `OutputOptions` that it has."""

    model_config = ConfigDict(extra="forbid")

    output: Literal["classes", "overlay", "probabilities", "polygons"] = "classes"
    probabilities: Probabilities = "all"
    coordinates: Coordinates = "auto"
    min_area: int = Field(1, ge=1)
    fill_holes: int = Field(0, ge=0)
    georeference: bool = True
    alpha: float = Field(0.5, ge=0, le=1)
    contours: bool = True
    legend: bool = True

    def options(self) -> OutputOptions:
        """Return them as those of a prediction of files."""
        given = self.model_dump()
        return OutputOptions([given.pop("output")], **given)


class Service:
    """Predictions for requests: decoded and encoded by a few threads, computed by one.

    Args:
        predictor: used by the worker alone, but for its reader and its legend.
        limits: see `Limits`; `max_pixels` becomes the reader's.
    """

    def __init__(self, predictor: Predictor, limits: Limits):
        predictor.reader.max_pixels = limits.max_pixels
        self.limits = limits
        self.answers = Answers(predictor)
        self._reader = predictor.reader
        self._worker = PredictionWorker(predictor, limits.batch)
        self._codecs = ThreadPoolExecutor(_CODECS, "segzoo images")
        self._inside = 0

    def start(self) -> None:
        """Start the worker."""
        self._worker.start()

    def close(self) -> None:
        """End all threads when they have done what they were given."""
        self._worker.close()
        self._codecs.shutdown()

    async def predict(self, request: Request, options: OutputOptions) -> Answer:
        """Predict the image of a request.

        Raises:
            RefusedError: a request that cannot be answered.
        """
        with self._counted():
            self.answers.check(options)
            data = await read_image_bytes(request, self.limits)
            loop = asyncio.get_running_loop()
            upload = await loop.run_in_executor(self._codecs, decode, data, self._reader, options)
            self.answers.check(options, upload)
            future = self._worker.submit(upload.image, self.answers.needs_probabilities(options))
            found = await asyncio.wrap_future(future)
            return await loop.run_in_executor(self._codecs, self._encode, upload, found, options)

    def _encode(self, upload: Upload, found: Found, options: OutputOptions) -> Answer:
        (name,) = options.names
        return ANSWERS[name](
            Prediction(upload.job, self.answers.legend, options, upload.image, *found, valid=upload.valid)
        )

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Count a request in, or refuse it where as many as the limit are inside."""
        if self._inside >= self.limits.waiting:
            raise RefusedError(503, f"{self._inside} requests are being answered, as many as there may be: try again.")
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1


def create_app(predictor: Predictor, limits: Limits | None = None, names: Sequence[str] = ()) -> FastAPI:
    """Create the application of a predictor; its threads run from start to end of the application.

    Args:
        predictor: used by the application alone from here on; its reader gets the limit of pixels.
        limits: limits of requests; None: those of `Limits()`.
        names: names of the models, for `GET /`.

    Returns:
        the application; `app.state.missing` are the outputs that it cannot give, with the reason.

    Example:
        >>> app = create_app(segzoo.load("runs/unet_b3"))  # for any ASGI server, with one process
    """
    service = Service(predictor, limits or Limits())
    about = describe(predictor, service, names)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await asyncio.to_thread(service.close)

    # The pages of documentation would fetch their scripts from elsewhere; /openapi.json needs none.
    app = FastAPI(title="segzoo", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.missing = service.answers.missing
    _add_refusals(app)

    @app.get("/")
    async def index() -> dict[str, Any]:
        """Describe the model, its classes, the outputs and the limits."""
        return about

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Say that the server answers."""
        return {"status": "ok"}

    @app.post("/predict", response_class=Response, openapi_extra=_BODY)
    async def predict(request: Request, wishes: Annotated[Wishes, Query()]) -> Response:
        """Predict an image, sent as the body or as the file of a form."""
        answer = await service.predict(request, wishes.options())
        return Response(answer.body, media_type=answer.media_type)

    return app


_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM = {"schema": {"type": "object", "properties": {"image": _BINARY["schema"]}}}
_BODY = {
    "requestBody": {"required": True, "content": {"application/octet-stream": _BINARY, "multipart/form-data": _FORM}}
}


def describe(predictor: Predictor, service: Service, names: Sequence[str]) -> dict[str, Any]:
    """Describe a server as JSON."""
    legend, limits = service.answers.legend, service.limits
    return {
        "models": list(names),
        "mode": legend.mode,
        "channels": predictor.channels,
        "background": legend.background,
        "classes": legend.rows,
        "outputs": service.answers.names,
        "limits": {"bytes": limits.max_bytes, "pixels": limits.max_pixels, "requests": limits.waiting},
        "segzoo": __version__,
    }


def _add_refusals(app: FastAPI) -> None:
    """Answer everything that goes wrong by JSON with "error", and what nobody foresaw by a 500 that tells nothing."""

    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> JSONResponse:
        headers = {"Retry-After": "1"} if error.status == 503 else None
        return JSONResponse({"error": str(error)}, error.status, headers)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> JSONResponse:
        known = "There are POST /predict, GET /healthz and GET /."
        return JSONResponse({"error": f"{error.detail}. {known}"}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        parts = [f"{one['loc'][-1]}: {one['msg']}" for one in error.errors()]
        return JSONResponse({"error": f"{'; '.join(parts)}. Known: {', '.join(Wishes.model_fields)}."}, 422)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:  # the server logs it with its traceback
        return JSONResponse({"error": "The prediction failed; the server's log says why."}, 500)
