"""Hugging Face Hub, through `huggingface_hub`: its login, its cache, its endpoint (HF_ENDPOINT) and HF_HUB_OFFLINE.

The token is the library's affair (`hf auth login`, or HF_TOKEN): segzoo neither takes nor reads one. Messages quote
what the server said, but no URL, whose query may hold a signature.
"""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import huggingface_hub
from huggingface_hub import errors, file_download

import segzoo
from segzoo.errors import HubError, shortened
from segzoo.hub import manifest
from segzoo.hub.address import Address
from segzoo.hub.retrying import ATTEMPTS, patiently
from segzoo.hub.services import PushOptions

_LIBRARY = "segzoo"
_LOGIN = "hf auth login"


def fetch_from(address: Address, file: str, fresh: bool) -> tuple[Path, str]:
    """Fetch a file, see `Service.fetch`."""
    alone = not _is_found()  # the library would look for it six times, for 24 seconds

    def fetch() -> str:
        return huggingface_hub.hf_hub_download(
            address.repository,
            file,
            revision=address.revision,
            force_download=fresh,
            local_files_only=alone,
            library_name=_LIBRARY,
            library_version=segzoo.__version__,
        )

    try:
        with _without_signatures():
            path = Path(patiently(fetch, _is_broken))
    except Exception as error:  # of the library, of httpx, of the file system
        raise _explained(error, address.of(file), "read") from error
    # The cache keeps snapshots/COMMIT/FILE, online and offline.
    return path, path.parents[file.count("/")].name


def push_to(address: Address, folder: Path, options: PushOptions) -> str:
    """Push a folder in one commit, see `Service.push`."""
    api = huggingface_hub.HfApi(library_name=_LIBRARY, library_version=segzoo.__version__)
    repository = address.repository
    try:
        api.create_repo(repository, private=options.private or None, exist_ok=True)
        if options.private and not api.repo_info(repository).private:
            raise HubError(
                f"{address} is public already, and --private makes new repositories private alone. Nothing was pushed. "
                "Make it private in its settings on the hub, or push to another name."
            )
        if options.revision is not None:
            api.create_branch(repository, branch=options.revision, exist_ok=True)
        files = [
            huggingface_hub.CommitOperationAdd(path.name, str(path)) for path in sorted(folder.iterdir(), key=_last)
        ]
        done = api.create_commit(repository, files, commit_message=options.message, revision=options.revision)
    except HubError:
        raise
    except Exception as error:
        raise _explained(error, address, "write") from error
    return str(done.oid)


def _last(path: Path) -> tuple[bool, str]:
    return path.name == manifest.NAME, path.name


def _host() -> str:
    return urlsplit(huggingface_hub.constants.ENDPOINT).hostname or ""


def _is_found() -> bool:
    """Return False if the hub's name has no address here, and there is no proxy that could know one."""
    if {"http", "https", "all"} & getproxies().keys():
        return True
    try:
        socket.getaddrinfo(_host(), None)
    except OSError:
        return False
    return True


def _is_broken(error: Exception) -> bool:
    """Return True if the connection broke: the library itself resumes after some kinds of that only."""
    if isinstance(error, errors.HfHubHTTPError | errors.EntryNotFoundError | errors.OfflineModeIsEnabled):
        return False
    # What the file system says has a number. A download that ended early has none.
    return isinstance(error, errors.HTTPError) or (isinstance(error, OSError) and error.errno is None)


class _WithoutQueries(logging.Filter):
    """Takes the queries, which sign addresses of files, out of the library's warnings."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite a record; it is kept."""
        record.msg, record.args = re.sub(r"\?[^\s:]+", "", record.getMessage()), ()
        return True


@contextmanager
def _without_signatures() -> Iterator[None]:
    logger, without = logging.getLogger(file_download.__name__), _WithoutQueries()
    logger.addFilter(without)
    try:
        yield
    finally:
        logger.removeFilter(without)


def _explained(error: Exception, address: Address, purpose: str) -> HubError:
    """Return the error for a user, with the cure."""
    # The library wraps what kept it from fetching what its cache lacks, or from uploading a file.
    if not isinstance(error, errors.HTTPError) and isinstance(error.__cause__, errors.HTTPError):
        error = error.__cause__
    for kind, explain in _EXPLANATIONS:
        if isinstance(error, kind):
            return HubError(explain(error, address, purpose))
    return HubError(_malformed(error, address, purpose))


def _page(address: Address) -> str:
    return f"{huggingface_hub.constants.ENDPOINT}/{address.repository}"


def _gated(error: Any, address: Address, purpose: str) -> str:
    return (
        f"{address.of(None)} is gated: its owner lets in who has accepted the conditions. Accept them on "
        f"{_page(address)}, wait where the owner has to agree, log in by {_LOGIN} with a token that may read gated "
        "repositories, and give the same command again."
    )


def _no_repository(error: Any, address: Address, purpose: str) -> str:
    return (
        f"There is no repository {address.repository} on the Hugging Face Hub ({_page(address)}), or it is private and "
        f"you are not let in. Check the name; if it is private, log in by {_LOGIN} as somebody who may {purpose} it."
    )


def _no_revision(error: Any, address: Address, purpose: str) -> str:
    return (
        f"{address.repository} has no branch, tag or commit {shortened(address.revision or 'main')}. Its revisions "
        f"stand on {_page(address)}/tree/main; without one, {address.at('').of(None)}, the newest is taken."
    )


def _no_file(error: Any, address: Address, purpose: str) -> str:
    if address.file == manifest.NAME:
        return (
            f"{address.of(None)} holds no run of segzoo: it has no {manifest.NAME}, which segzoo push writes. Of any "
            f"other repository a single weights file can be taken by its address: {address.of('NAME.weights.h5')}."
        )
    return (
        f"{address.of(None)} has no file {shortened(str(address.file))}. Its files stand on {_page(address)}/tree/main."
    )


def _not_cached(error: Any, address: Address, purpose: str) -> str:
    if huggingface_hub.constants.is_offline_mode():
        return (
            f"{address} is not in the cache of huggingface_hub, and HF_HUB_OFFLINE forbids to fetch it. Fetch it once "
            "with a connection, by the same command without HF_HUB_OFFLINE."
        )
    if not _is_found():
        return (
            f"{address} is not in the cache of huggingface_hub, and there is no {_host()} to be found from here. Give "
            "the same command again with a connection; behind a proxy or at a mirror, set HTTPS_PROXY or HF_ENDPOINT."
        )
    return _broken(error, address, purpose)


def _offline(error: Any, address: Address, purpose: str) -> str:
    return f"{address}: HF_HUB_OFFLINE forbids all connections. Give the same command again without it."


def _answered(error: Any, address: Address, purpose: str) -> str:
    status, said = error.response.status_code, _said(error)
    if status == 401:
        reason = "You are not logged in" if huggingface_hub.get_token() is None else "Your token is not accepted"
        return f"{reason}, so the Hugging Face Hub does not let you {purpose} {address}{said}. Log in by {_LOGIN}."
    if status == 403:
        return (
            f"You have no permission to {purpose} {address}{said}. Log in by {_LOGIN} with a token that may {purpose} "
            "this repository (its kind and scope stand among the settings of your account), or ask its owner."
        )
    return f"The Hugging Face Hub answered with status {status} for {address}{said}. Try again later."


def _malformed(error: Any, address: Address, purpose: str) -> str:
    done = "pushed to" if purpose == "write" else "fetched"
    return f"{address} cannot be {done}: {type(error).__name__}, {_first_line(error)}."


def _broken(error: Exception, address: Address, purpose: str) -> str:
    attempts = f" after {ATTEMPTS} attempts" if purpose == "read" else ""
    return (
        f"{address} could not be {'pushed' if purpose == 'write' else 'fetched'}{attempts}: the connection to "
        f"{huggingface_hub.constants.ENDPOINT} failed ({type(error).__name__}). Nothing half was kept. Give the same "
        "command again; behind a proxy or at a mirror, set HTTPS_PROXY or HF_ENDPOINT."
    )


def _storage(error: Any, address: Address, purpose: str) -> str:
    if error.errno is None:  # a download that ended early
        return _broken(error, address, purpose)
    where = error.filename or huggingface_hub.constants.HF_HUB_CACHE
    return (
        f"{address} cannot be stored: {where}: {error.strerror}. Make room or the folder writable, or set HF_HOME to "
        "another place."
    )


def _said(error: Any) -> str:
    """Return what the server said, in brackets; nothing if it said nothing."""
    said = error.server_message or error.response.headers.get("X-Error-Message") or ""
    return f" ({' '.join(said.split())[:200].rstrip('.')})" if said else ""


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__).strip().rstrip(".")


# The first that fits; a gated repository is one that was not found, an entry that is not cached one that was not found.
_EXPLANATIONS: tuple[tuple[type[Exception], Callable[[Any, Address, str], str]], ...] = (
    (errors.GatedRepoError, _gated),
    (errors.RepositoryNotFoundError, _no_repository),
    (errors.RevisionNotFoundError, _no_revision),
    (errors.LocalEntryNotFoundError, _not_cached),
    (errors.EntryNotFoundError, _no_file),
    (errors.OfflineModeIsEnabled, _offline),
    (errors.HfHubHTTPError, _answered),
    (errors.HTTPError, _broken),
    (OSError, _storage),
)
