"""Start-up of the Keras backend with quiet logs and fast settings, and capabilities of the processor."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from segzoo.errors import ConfigError, MissingPackageError
from segzoo.files import expanded
from segzoo.keras_import import import_keras

BACKENDS = ("tensorflow", "jax", "torch")


@contextmanager
def quiet_start() -> Iterator[None]:
    """Capture output to the file descriptor of the standard error; show it if the block fails, not if a signal ends it.

    The libraries beneath TensorFlow log before they read any setting (that oneDNN is on, that there is no GPU), from
    C++, so Python's own redirection does not reach it.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:
            os.dup2(saved, 2)
            held.seek(0)
            sys.stderr.write(held.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


@contextmanager
def collection_paused() -> Iterator[Callable[[], None]]:
    """Pause Python's garbage collector within the block, or until what is yielded is called.

    While TensorFlow is imported, a network built and its step traced, millions of objects come into being that stay.
    The collector walks them time and again and finds nothing: 10 % of the time to the first step of U-Net on
    EfficientNet-B3. What has no references left is freed all the same; the collector is for cycles alone.
    """
    was_enabled = gc.isenabled()

    def resume() -> None:
        if was_enabled:
            gc.enable()

    gc.disable()
    try:
        yield resume
    finally:
        resume()


def check_backend() -> None:
    """Check that the backend that Keras would choose can be imported, instead of failing with its traceback.

    Raises:
        ConfigError: KERAS_BACKEND or Keras's settings file names a backend that does not exist or is not supported.
        MissingPackageError: the backend is not installed.
    """
    name, origin = _wanted_backend()
    cure = "Set KERAS_BACKEND=tensorflow for this command (or jax, torch), or leave it unset for what the file says."
    if origin != "KERAS_BACKEND":
        cure = f'Write "backend": "tensorflow" (or jax, torch) into {origin}, or set KERAS_BACKEND=tensorflow.'
    if name not in BACKENDS:
        raise ConfigError(
            f"{origin} names the Keras backend {name!r}, and segzoo runs on {', '.join(BACKENDS)}. {cure}"
        )
    if importlib.util.find_spec(name) is None:
        raise MissingPackageError(
            f"{origin} names the Keras backend {name!r}, which is not installed. Install it (pip install {name}), or "
            f"take one that is: {', '.join(filter(importlib.util.find_spec, BACKENDS)) or 'none'}. {cure}"
        )


def _wanted_backend() -> tuple[object, str]:
    """Return the backend that Keras would choose, and its origin: the environment, else the settings file."""
    if named := os.environ.get("KERAS_BACKEND"):
        return named, "KERAS_BACKEND"
    settings = keras_settings()
    try:
        found = json.loads(settings.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # Keras takes its defaults then
        return "tensorflow", str(settings)
    if not isinstance(found, dict):
        raise ConfigError(f"{settings} holds no settings of Keras, but {type(found).__name__}. Remove the file.")
    return found.get("backend", "tensorflow"), str(settings)


def backend_name() -> object:
    """Return the name of the backend that Keras runs on, or would choose; nothing is imported.

    Raises:
        ConfigError: Keras's settings file holds no settings.
    """
    if "keras" in sys.modules:
        import keras

        return keras.backend.backend()
    return _wanted_backend()[0]


def keras_settings() -> Path:
    """Return the path of the settings file of Keras."""
    if "KERAS_HOME" in os.environ:
        return _expanded(Path(os.environ["KERAS_HOME"])) / "keras.json"
    home = _expanded(Path("~"))
    return (home if os.access(home, os.W_OK) else Path("/tmp")) / ".keras" / "keras.json"


def _expanded(path: Path) -> Path:
    try:
        return expanded(path)
    except ValueError:  # nobody of this name; Keras takes it literally too
        return path


def start_backend() -> None:
    """Import keras and its backend and initialise its devices, without log output.

    On TensorFlow with two settings. Its memory on the CPU is kept from step to step: a step of U-Net on EfficientNet-B3
    otherwise takes fresh pages from the system and gives them back, four million page faults in eight steps against
    one million. Grappler's graph passes are off: they take seconds for a network of this size and gain nothing
    measurable per step. A program that computed with TensorFlow before keeps its own allocator.

    Raises:
        ConfigError: Keras's settings cannot be used (see `check_backend`).
        MissingPackageError: the backend is not installed.
    """
    os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "true")
    if "keras" not in sys.modules:
        check_backend()
    with quiet_start(), collection_paused():
        try:
            keras = import_keras(str(backend_name()))
        except (ImportError, ValueError) as error:  # a package that is broken, or other odd settings
            raise ConfigError(
                f"Keras and its backend cannot be imported: {str(error).strip() or type(error).__name__}. Look at the "
                f"installation, and at the settings in {keras_settings()}."
            ) from error

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
            tf.config.list_logical_devices()


def make_deterministic() -> None:
    """Enable deterministic kernels for the rest of the process.

    Slower on a GPU; an operation that has no such kernel raises. JAX is deterministic on a CPU, and on a GPU with
    `XLA_FLAGS=--xla_gpu_deterministic_ops=true`, which must be set before it starts.
    """
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    elif keras.backend.backend() == "torch":
        import torch

        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as PyTorch's notes on reproducibility ask for
        torch.use_deterministic_algorithms(True)


@contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Make `name` ("float32", "mixed_bfloat16", ...) Keras's global dtype policy within the block."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


GPU_REHEARSAL = "SEGZOO_GPU_REHEARSAL"
"""Environment variable which, at 1, makes segzoo choose on a processor what it chooses on a GPU (docs/xla.md)."""


def use_xla(setting: str = "auto") -> bool | str:
    """Return the value of Keras's `jit_compile`.

    Args:
        setting: `training.xla`: "on", "off", or "auto": XLA where it pays. On a CPU it makes convolutional networks
            several times as slow.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        return "auto"
    if setting != "auto":
        return setting == "on"
    if os.environ.get(GPU_REHEARSAL) == "1":
        return True  # for "auto" Keras would look for a GPU itself
    return "auto" if _has_gpu() else False


# Processor flags, x86 then ARM, that say that products of this number type are computed natively.
_NATIVE = {"bfloat16": {"avx512_bf16", "amx_bf16", "bf16"}, "float16": {"avx512_fp16", "amx_fp16", "asimdhp"}}


def precision_note(precision: str) -> str | None:
    """Return a warning if a 16-bit `precision` would be slow on this machine's processor; else None.

    Only Linux lists the processor's abilities in a file; elsewhere, and with a GPU, the answer is None.
    """
    if precision not in _NATIVE or _has_gpu():
        return None
    flags = processor_flags()
    if not flags or flags & _NATIVE[precision]:
        return None
    return (
        f"training.precision is {precision}, but this processor does not compute in {precision} natively: a step can "
        f"take ten times as long as in float32. Set training.precision: float32, or train on a GPU."
    )


def processor_flags() -> set[str]:
    """Return the abilities of the processor as Linux names them; elsewhere none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return next((set(line.split()) for line in lines if line.lower().startswith(("flags", "features"))), set())


def _has_gpu() -> bool:
    """Look for a GPU of the backend; a rehearsal has one in name. All that segzoo decides by a GPU asks here."""
    import keras

    if os.environ.get(GPU_REHEARSAL) == "1":
        return True
    if keras.backend.backend() != "tensorflow":
        return any(not device.startswith("cpu") for device in keras.distribution.list_devices())
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))
