"""Cache of the programs that JAX compiles, kept from run to run in the user's cache folder."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import sys
from pathlib import Path
from typing import Any

from segzoo.backend import processor_flags
from segzoo.files import expanded

MOST_BYTES = 4 << 30  # of all programs; those that were used longest ago are removed first


def keep_compiled_programs() -> Path | None:
    """Let JAX keep what it compiles in more than a second; return the folder, None where nothing is kept by this.

    JAX's environment variables and settings come first: with JAX_ENABLE_COMPILATION_CACHE=false nothing is kept, with
    JAX_COMPILATION_CACHE_DIR in that folder. A folder that cannot be written, or that others could write, is not used:
    JAX executes what it finds there. On another backend there is nothing to do.
    """
    import keras

    if keras.backend.backend() != "jax":
        return None
    import jax

    settings: Any = jax.config
    if not settings.jax_enable_compilation_cache or settings.jax_compilation_cache_dir is not None:
        return None
    folder = cache_folder()
    if not _is_private(folder):
        return None
    settings.update("jax_compilation_cache_dir", str(folder))
    if settings.jax_compilation_cache_max_size == -1 and importlib.util.find_spec("filelock") is not None:
        settings.update("jax_compilation_cache_max_size", MOST_BYTES)
    return folder


def cache_folder() -> Path:
    """Return the platform's folder for caches, of segzoo's on JAX, and there of processors like this one.

    XLA compiles for the processor at hand; a home folder may be mounted on several machines.
    """
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or expanded(Path("~/AppData/Local")))
    elif sys.platform == "darwin":
        base = expanded(Path("~/Library/Caches"))
    else:
        given = Path(os.environ.get("XDG_CACHE_HOME", ""))
        base = given if given.is_absolute() else expanded(Path("~/.cache"))  # relative ones are invalid by the XDG rule
    machine = f"{platform.machine()} {' '.join(sorted(processor_flags()))}"
    return base / "segzoo" / "jax" / hashlib.sha256(machine.encode()).hexdigest()[:12]


def _is_private(folder: Path) -> bool:
    """Create a folder where there is none; return True if this user, and on POSIX no other, can write there."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError:
        return False
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o022):
        return False
    return os.access(folder, os.W_OK | os.X_OK)
