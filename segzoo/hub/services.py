"""Table of hubs by the scheme of their addresses."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segzoo.errors import HubError, MissingPackageError
from segzoo.extras import install_command
from segzoo.hub.address import Address

_EXTRA = "hub"


@dataclass(frozen=True)
class PushOptions:
    """Options of a push, as far as a hub has them.

    Attributes:
        license: identifier of the licence as the hub spells it; None: nothing is stated.
        private: make the repository private if it is created.
        revision: branch to push to; None: the default one.
        message: message of the commit or version.
    """

    license: str | None = None
    private: bool = False
    revision: str | None = None
    message: str = "Push a run of segzoo"


@dataclass(frozen=True)
class Service:
    """A hub.

    Attributes:
        title: its name, for messages.
        package: module of the library through which it is reached.
        module: module of segzoo with the functions `fetch_from` and `push_to`.
    """

    title: str
    package: str
    module: str

    def fetch(self, address: Address, file: str, fresh: bool = False) -> tuple[Path, str]:
        """Fetch a file of a repository, from the library's cache where it is there.

        Args:
            address: the repository and its revision.
            file: path of the file in the repository.
            fresh: fetch it anew although the cache has it.

        Returns:
            The path of the file, and the commit or version that it is of.

        Raises:
            HubError: there is no such repository, revision or file, no permission, or no connection.
            MissingPackageError: the library is not installed.
        """
        return self._module(address).fetch_from(address, file, fresh)

    def push(self, address: Address, folder: Path, options: PushOptions) -> str | None:
        """Push the files of a folder in one commit or version.

        Returns:
            The commit or version; None where the hub does not say it.

        Raises:
            HubError: no permission, no connection, or options that the hub does not have.
            MissingPackageError: the library is not installed.
        """
        return self._module(address).push_to(address, folder, options)

    def _module(self, address: Address) -> Any:
        try:
            importlib.import_module(self.package)
        except ImportError as error:
            raise MissingPackageError(
                f"{address} needs {self.package}, which cannot be imported ({error}): {install_command(_EXTRA)}."
            ) from error
        return importlib.import_module(self.module)


SERVICES = {
    "hf": Service("Hugging Face Hub", "huggingface_hub", "segzoo.hub.huggingface"),
    "kaggle": Service("Kaggle Models", "kagglehub", "segzoo.hub.kaggle"),
}


def of(address: Address) -> Service:
    """Return the hub of an address."""
    return SERVICES[address.scheme]


def refuse_file(address: Address) -> None:
    """Raise HubError if an address names a file where a run is due."""
    if address.file is not None:
        raise HubError(f"{address} is a file, and a run is due here: leave the file out, {address.of(None)}.")
