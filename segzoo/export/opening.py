"""Model files by their path: their format, their metadata, and a function that runs them."""

from __future__ import annotations

from pathlib import Path

from segzoo.errors import SegzooError
from segzoo.export import keras_file
from segzoo.export.contract import Format, Run
from segzoo.export.formats import FORMATS
from segzoo.export.metadata import ModelMetadata

KERAS = ".keras"


def is_model_file(path: Path) -> bool:
    """Return True for an exported file or folder, or a `.keras` file; by name alone, the content may be anything."""
    return path.suffix == KERAS or _find(path) is not None


def format_of(path: Path) -> str:
    """Return the name of the export format of a file or folder.

    A folder's format is told by its content; a file in it, such as model.xml of OpenVINO, stands for the folder.

    Raises:
        SegzooError: there is no such file, or it is no export.
    """
    found = _find(path)
    if found is None:
        known = ", ".join(f"{name} ({_shape(FORMATS[name])})" for name in FORMATS)
        reason = "is no exported model" if path.exists() else "does not exist"
        raise SegzooError(f"{path} {reason}. Exports are: {known}; segzoo export writes them.")
    return found


def run_exported(path: Path, threads: int | None = None) -> Run:
    """Load an exported model in its own runtime on the CPU, in float32 where it holds such numbers.

    Args:
        path: the file or folder.
        threads: number of threads; None: as many as the runtime chooses.

    Returns:
        A function from images `(B, H, W, C)`, float32 0..255, to what the file returns, see its metadata.

    Raises:
        SegzooError: no export, a package is missing, or its runtime refuses the file.
    """
    name = format_of(path)
    chosen: Format = FORMATS[name]
    chosen.check_packages(running=True)
    try:
        place = _artefact(chosen, path)
        return chosen.load(place) if threads is None else chosen.load(place, threads=threads)
    except SegzooError:
        raise
    except Exception as error:  # runtimes raise whatever they like
        raise _unreadable(path, name, error) from error


def read_metadata(path: Path) -> ModelMetadata | None:
    """Return the metadata of an exported file or folder, or of a `.keras` file; None where it has none.

    Nothing in the file is run, and its tensors are not read.

    Raises:
        SegzooError: no export, a package is missing, a damaged file, or metadata that cannot be used.
    """
    if path.suffix == KERAS:
        text = keras_file.get_metadata(path)
    else:
        name = format_of(path)
        chosen: Format = FORMATS[name]
        if chosen.get_metadata is None:
            return None
        chosen.check_packages(running=True)
        try:
            text = chosen.get_metadata(_artefact(chosen, path))
        except Exception as error:  # parsers raise whatever they like
            raise _unreadable(path, name, error) from error
    return None if text is None else ModelMetadata.from_json(text, path)


def _find(path: Path) -> str | None:
    for name in FORMATS:
        chosen: Format = FORMATS[name]
        if chosen.marker:
            if (path.name == chosen.marker and path.is_file()) or (path / chosen.marker).is_file():
                return name
        elif path.suffix == Path(chosen.artefact).suffix and path.is_file():
            return name
    return None


def _artefact(chosen: Format, path: Path) -> Path:
    return path.parent if chosen.marker and path.name == chosen.marker else path


def _shape(chosen: Format) -> str:
    return f"a folder with {chosen.marker}" if chosen.marker else f"a file *{Path(chosen.artefact).suffix}"


def _unreadable(path: Path, format: str, error: Exception) -> SegzooError:
    reason = (str(error).strip() or type(error).__name__).partition("\n")[0][:300].rstrip(".")
    return SegzooError(f"{path} cannot be read as {format}: {reason}. Export the model again by segzoo export.")
