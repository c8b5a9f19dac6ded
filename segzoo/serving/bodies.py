"""Body of a request: the bytes of the image in it, sent as they are or as the file of a form."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from segzoo.serving.limits import Limits, RefusedError

_FORM = "multipart/form-data"


async def read_image_bytes(request: Request, limits: Limits) -> bytes:
    """Read the image of a request: its body, or the one file of a form (`multipart/form-data`) of any field name.

    Any other content type is taken as the bytes of an image, such as the one that curl sends unasked.

    Raises:
        RefusedError: 400, a malformed form, no file or several in it, or a client that went away; 408, the body takes
            too long; 413, it is too large; 422, it is empty.
    """
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > limits.max_bytes:
        raise _too_large(limits)
    try:
        async with asyncio.timeout(limits.seconds):
            if request.headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM:
                found = await _file_of_form(request, limits)
            else:
                found = b"".join([chunk async for chunk in _limited(request, limits)])
    except TimeoutError:
        raise RefusedError(408, f"The body did not arrive within {limits.seconds:g} seconds.") from None
    except ClientDisconnect as error:
        raise RefusedError(400, "The body ended before its end.") from error
    if not found:
        raise RefusedError(422, "The image is empty: send the bytes of an image file as the body, or as a form's file.")
    return found


async def _limited(request: Request, limits: Limits) -> AsyncGenerator[bytes, None]:
    """Yield the chunks of a body up to the limit."""
    total = 0
    async for chunk in request.stream():
        total += len(chunk)
        if total > limits.max_bytes:
            raise _too_large(limits)
        yield chunk


async def _file_of_form(request: Request, limits: Limits) -> bytes:
    try:
        form = await MultiPartParser(request.headers, _limited(request, limits), max_files=1, max_fields=16).parse()
    except MultiPartException as error:
        raise RefusedError(400, f"The form cannot be read: {error.message} Send one file in it.") from error
    try:
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        if len(files) != 1:
            raise RefusedError(400, "The form has no complete file in it: send the image as one.")
        return await files[0].read()
    finally:
        await form.close()


def _too_large(limits: Limits) -> RefusedError:
    return RefusedError(
        413,
        f"The request has more than {limits.max_bytes} bytes, the limit of this server (segzoo serve --max-bytes). "
        "Send a smaller or better compressed image.",
    )
