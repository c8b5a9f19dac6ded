"""Hubs: runs and weights files under addresses such as `hf://user/name`, fetched, checked and pushed.

Of what a hub holds only the files of `manifest.FILES` and single weights files are ever fetched or read: configuration,
weights and two tables of numbers, none of which can run code. Importing this starts no framework and no hub's library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segzoo.lazy import attach

if TYPE_CHECKING:
    from segzoo.hub.address import Address as Address
    from segzoo.hub.address import is_address as is_address
    from segzoo.hub.address import parse as parse
    from segzoo.hub.fetching import FetchedFile as FetchedFile
    from segzoo.hub.fetching import FetchedRun as FetchedRun
    from segzoo.hub.fetching import fetch_file as fetch_file
    from segzoo.hub.fetching import fetch_run as fetch_run
    from segzoo.hub.fetching import open_folder as open_folder
    from segzoo.hub.manifest import Manifest as Manifest
    from segzoo.hub.services import SERVICES as SERVICES

_OBJECTS = {
    "Address": "segzoo.hub.address",
    "is_address": "segzoo.hub.address",
    "parse": "segzoo.hub.address",
    "FetchedFile": "segzoo.hub.fetching",
    "FetchedRun": "segzoo.hub.fetching",
    "fetch_file": "segzoo.hub.fetching",
    "fetch_run": "segzoo.hub.fetching",
    "open_folder": "segzoo.hub.fetching",
    "Manifest": "segzoo.hub.manifest",
    "SERVICES": "segzoo.hub.services",
}

__all__ = list(_OBJECTS)

__getattr__, __dir__ = attach(__name__, _OBJECTS)
