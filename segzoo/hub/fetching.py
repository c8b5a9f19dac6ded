"""Runs and weights files of hubs: fetched, checked against their digests, and pinned to a revision."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from segzoo.errors import HubError
from segzoo.hub import manifest, services
from segzoo.hub.address import Address, parse
from segzoo.hub.manifest import Manifest

_WEIGHTS_ENDINGS = (".weights.h5", ".keras")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class FetchedFile:
    """A weights file of a hub on this machine.

    Attributes:
        origin: its address at the revision that was fetched.
        path: the file, in the cache of the hub's library.
        sha256: its digest, which was verified.
    """

    origin: str
    path: Path
    sha256: str


@dataclass(frozen=True)
class FetchedRun:
    """A pushed run on this machine.

    Attributes:
        origin: its address at the revision that was fetched, or its folder.
        folder: folder with its files; of a hub, in the cache of its library.
        files: name to sha256 of the files, which were verified.
    """

    origin: str
    folder: Path
    files: dict[str, str]

    @property
    def weights(self) -> FetchedFile:
        """The best weights, or the last where these are all that was pushed."""
        name = next(name for name in manifest.WEIGHTS if name in self.files)
        return FetchedFile(f"{self.origin}/{name}", self.folder / name, self.files[name])


def fetch_run(text: str) -> FetchedRun:
    """Fetch a run that `segzoo push` has pushed: the files of its manifest, and no others.

    Args:
        text: address of the run, without a file.

    Raises:
        AddressError: a malformed address.
        HubError: nothing there, no permission or connection, no run, or a file with another digest.
        MissingPackageError: the hub's library is not installed.
    """
    address = parse(text)
    services.refuse_file(address)
    service = services.of(address)
    path, revision = service.fetch(address, manifest.NAME)
    pinned = address.at(revision)
    listed = Manifest.read(path, str(pinned))
    for name, digest in listed.files.items():
        _fetch_checked(service, pinned, name, digest)
    return FetchedRun(str(pinned), path.parent, dict(listed.files))


def fetch_file(text: str, sha256: str | None = None) -> FetchedFile:
    """Fetch a weights file, or of the address of a run its best weights.

    Its digest is taken from `sha256`, else from the manifest beside it, else from the hub. A file that none of them
    describes is refused.

    Raises:
        AddressError: a malformed address.
        HubError: as `fetch_run`, or a file that is no weights file, or one without any digest.
        MissingPackageError: the hub's library is not installed.
    """
    address = parse(text)
    if address.file is None:
        return fetch_run(text).weights
    if not address.file.endswith(_WEIGHTS_ENDINGS):
        raise HubError(
            f"{address} does not end in {' or '.join(_WEIGHTS_ENDINGS)}. Other files can run code when they are read, "
            "so of a hub segzoo fetches weights alone. Download a checkpoint of PyTorch yourself, and make a weights "
            "file of it by segzoo weights convert."
        )
    service = services.of(address)
    path, revision = service.fetch(address.of(None), address.file)
    pinned = address.at(revision)
    digest = sha256.lower() if sha256 else _listed(service, pinned) or _digest_of_blob(path)
    if digest is None:
        raise HubError(
            f"Neither the hub nor a {manifest.NAME} says the digest of {pinned}, so it cannot be told whether it is "
            f"what its owner put there. Its sha256 here is {manifest.sha256_of(path)}: compare it with what the owner "
            "says, and set model.weights_sha256 to it."
        )
    return FetchedFile(str(pinned), _fetch_checked(service, pinned.of(None), address.file, digest), digest)


def open_folder(folder: Path) -> FetchedRun | None:
    """Check a folder that `segzoo push` wrote against its manifest; None for a folder without one, as of `train`.

    Raises:
        HubError: a manifest that cannot be read, or a file that is missing, or not what the manifest says.
    """
    path = folder / manifest.NAME
    if not path.is_file():
        return None
    listed = Manifest.read(path, str(folder))
    for name, digest in listed.files.items():
        file = folder / name
        if not file.is_file():
            raise HubError(f"{folder} lacks {name}, which its {manifest.NAME} lists. Copy or push it again.")
        if (found := manifest.sha256_of(file)) != digest:
            raise _another(str(file), found, digest, "Copy or push it again.")
    return FetchedRun(str(folder), folder, dict(listed.files))


def _fetch_checked(service: services.Service, pinned: Address, name: str, digest: str) -> Path:
    """Fetch a file, once more if its copy in the cache is damaged; HubError if it has another digest all the same."""
    path, _ = service.fetch(pinned, name)
    if manifest.sha256_of(path) == digest:
        return path
    try:
        path, _ = service.fetch(pinned, name, fresh=True)
    except HubError as error:
        cure = f"The cache holds it damaged, and it could not be fetched anew: {error}"
        raise _another(str(pinned.of(name)), manifest.sha256_of(path), digest, cure) from error
    if (found := manifest.sha256_of(path)) == digest:
        return path
    cure = "Fetched anew it was the same: it was changed after it was pushed. Ask its owner, or take another revision."
    raise _another(str(pinned.of(name)), found, digest, cure)


def _another(origin: str, found: str, digest: str, cure: str) -> HubError:
    return HubError(
        f"{origin} is not the file that was pushed: its sha256 is {found}, expected was {digest}. It was not read. "
        f"{cure}"
    )


def _listed(service: services.Service, pinned: Address) -> str | None:
    """Return the digest of a file in the manifest of its repository; None without either."""
    try:
        path, _ = service.fetch(pinned.of(None), manifest.NAME)
    except HubError:
        return None
    return Manifest.read(path, str(pinned.of(None))).files.get(str(pinned.file))


def _digest_of_blob(path: Path) -> str | None:
    """Return the digest by which huggingface_hub's cache calls the content of a large file; None elsewhere."""
    name = path.resolve().name
    return name if _SHA256.fullmatch(name) else None
