"""Metadata of a `.keras` file: an entry in Keras's own metadata.json, which Keras leaves alone when it loads."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

from segzoo.errors import SegzooError
from segzoo.export.metadata import KEY, MOST
from segzoo.files import replacing

_MEMBER = "metadata.json"  # another member would make Keras unpack the whole archive to look for assets


def put_metadata(path: Path, text: str) -> None:
    """Write the JSON of a `ModelMetadata` into a `.keras` file, in place and atomically."""
    with replacing(path) as temporary, zipfile.ZipFile(path) as old, zipfile.ZipFile(temporary, "w") as new:
        for member in old.infolist():
            if member.filename == _MEMBER:
                new.writestr(member, json.dumps({**json.loads(old.read(member)), KEY: json.loads(text)}))
            else:
                with old.open(member) as source, new.open(member, "w") as target:
                    shutil.copyfileobj(source, target, 2**20)


def get_metadata(path: Path) -> str | None:
    """Return the JSON of a `.keras` file; None for one that segzoo did not write.

    Raises:
        SegzooError: no zip archive, or one without the parts of a `.keras` file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo(_MEMBER)
            if member.file_size > MOST:  # reading ends at this size, whatever the compressed data goes on to
                raise ValueError(f"its {_MEMBER} claims {member.file_size:,} bytes")
            found: Any = json.loads(archive.read(member))
            noted = found.get(KEY)
    except Exception as error:  # zip archives have a dozen kinds of errors, among them those of four compressions
        reason = str(error).strip() or type(error).__name__
        raise SegzooError(f"{path} cannot be read as a .keras file: {reason}.") from error
    return None if noted is None else json.dumps(noted)
