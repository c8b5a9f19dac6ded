"""Kaggle Models, through `kagglehub`: its login (`kagglehub.login()`, KAGGLE_API_TOKEN, kaggle.json) and its cache.

segzoo neither takes nor reads a token. Messages quote what the server said, but no URL of a file, whose query may hold
a signature.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kagglehub
import requests
from kagglehub import exceptions

from segzoo.errors import HubError
from segzoo.hub import manifest
from segzoo.hub.address import Address
from segzoo.hub.retrying import ATTEMPTS, patiently
from segzoo.hub.services import PushOptions

_LOGIN = "Log in by kagglehub.login(), or set KAGGLE_API_TOKEN to a token of your account's settings on kaggle.com"
_BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


def fetch_from(address: Address, file: str, fresh: bool) -> tuple[Path, str]:
    """Fetch a file, see `Service.fetch`."""
    handle = address.repository + (f"/{address.revision}" if address.revision else "")
    try:
        with _quiet():
            path = Path(
                # It goes on where the last attempt stopped, and compares the MD5 that the server says.
                patiently(lambda: kagglehub.model_download(handle, file, force_download=fresh), _is_broken)
            )
    except Exception as error:
        raise _explained(error, address.of(file), "read") from error
    # The cache keeps OWNER/MODEL/FRAMEWORK/VARIATION/VERSION/FILE, as the folder of a notebook on Kaggle does.
    return path, path.parents[file.count("/")].name


def push_to(address: Address, folder: Path, options: PushOptions) -> None:
    """Push a folder as a new version, see `Service.push`; Kaggle numbers it when it has processed the files."""
    if address.revision is not None or options.revision is not None:
        raise HubError(
            f"Kaggle numbers versions itself, so none can be chosen: leave it out, kaggle://{address.repository}."
        )
    try:
        with _quiet():
            kagglehub.model_upload(address.repository, str(folder), options.license, options.message)
    except Exception as error:
        raise _explained(error, address, "write") from error


def _is_broken(error: Exception) -> bool:
    """Return True if the connection broke, or what came over it was damaged."""
    return isinstance(error, (*_BROKEN, exceptions.DataCorruptionError))


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out the library's remarks on each file; its progress bars stay."""
    logger = logging.getLogger("kagglehub")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def _explained(error: Exception, address: Address, purpose: str) -> HubError:
    """Return the error for a user, with the cure."""
    status = 401 if isinstance(error, exceptions.UnauthenticatedError) else _status(error)
    if status is not None:
        return HubError(_BY_STATUS.get(status, _answered)(error, address, purpose))
    explain = next((explain for kind, explain in _BY_KIND if isinstance(error, kind)), _failed)
    return HubError(explain(error, address, purpose))


def _page(address: Address) -> str:
    return f"https://www.kaggle.com/models/{'/'.join(address.repository.split('/')[:2])}"


def _no_login(error: Any, address: Address, purpose: str) -> str:
    return f"Kaggle does not let you {purpose} {address} without a login{_said(error)}. {_LOGIN}."


def _no_permission(error: Any, address: Address, purpose: str) -> str:
    return (
        f"You have no permission to {purpose} {address}{_said(error)}. Where the model asks for consent, give it on "
        f"{_page(address)}. {_LOGIN}; or ask the owner."
    )


def _not_found(error: Any, address: Address, purpose: str) -> str:
    what = "no model" if address.file is None else f"no file {address.file}"
    hint = "; a run that segzoo push has pushed has one" if address.file == manifest.NAME else ""
    return (
        f"Kaggle has {what} under {address.of(None)}{hint}, or it is private. Look at {_page(address)}. If it is "
        f"private: {_LOGIN}."
    )


def _answered(error: Any, address: Address, purpose: str) -> str:
    return f"Kaggle answered with status {_status(error)} for {address}{_said(error)}. Try again later."


def _broken(error: Any, address: Address, purpose: str) -> str:
    attempts = f" after {ATTEMPTS} attempts" if purpose == "read" else ""
    return (
        f"{address} could not be {_DONE[purpose]}{attempts}: the connection to Kaggle failed ({type(error).__name__}). "
        "Give the same command again. Without a connection only what the cache holds can be used, by an address with "
        "its version, such as .../3: which one is the newest, Kaggle alone says."
    )


def _damaged(error: Any, address: Address, purpose: str) -> str:
    return (
        f"{address} came damaged {ATTEMPTS} times: its MD5 was not the one that Kaggle says. It was not kept. Try "
        "another network, or one without a proxy that changes files."
    )


def _failed(error: Any, address: Address, purpose: str) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return (
            f"{address} cannot be stored: {error.filename or 'the cache of kagglehub'}: {error.strerror}. Make room or "
            "the folder writable, or set KAGGLEHUB_CACHE to another place."
        )
    return f"{address} cannot be {_DONE[purpose]}{_said(error)}: {_first_line(error)}."


_DONE = {"read": "fetched", "write": "pushed"}
_BY_STATUS = {401: _no_login, 403: _no_permission, 404: _not_found}
_BY_KIND: tuple[tuple[Any, Callable[[Any, Address, str], str]], ...] = (
    (_BROKEN, _broken),
    (exceptions.DataCorruptionError, _damaged),
)


def _status(error: Exception) -> int | None:
    """Return the status of an answer, None without one; Kaggle also wraps it into an answer of status 200."""
    if isinstance(error, exceptions.BackendError):
        return error.error_code
    response = getattr(error, "response", None)
    if response is None:
        return None
    try:
        return int(response.json()["code"])
    except (ValueError, TypeError, LookupError):
        return int(response.status_code)


def _said(error: Exception) -> str:
    """Return what the server said, in brackets; nothing if it said nothing."""
    response: Any = getattr(error, "response", None)
    try:
        said = str(response.json()["message"])
    except (AttributeError, ValueError, TypeError, LookupError):
        said = str(error) if isinstance(error, exceptions.BackendError) else ""
    return f" ({' '.join(said.split())[:200].rstrip('.')})" if said else ""


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__).strip().rstrip(".")
