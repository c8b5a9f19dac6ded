"""Compute device: its name, the choice of another, and a warning if an NVIDIA card is not in use."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from segzoo.errors import SegzooError, shortened
from segzoo.extras import install_command

# Extra that installs a backend with its CUDA libraries; PyTorch's are part of its package, where it was built for CUDA.
_EXTRAS = {"tensorflow": "cuda", "jax": "jax-cuda"}
_OTHERWISE = "pip install torch --index-url https://download.pytorch.org/whl/cu128"
_KINDS = ("CPU", "GPU", "TPU")


def device_name() -> str:
    """Return the name of the backend's device: "NVIDIA A100", "2 x NVIDIA A100", or the processor and its cores."""
    gpus = _gpu_names()
    if not gpus:
        return processor_name()
    return ", ".join(name if count == 1 else f"{count} x {name}" for name, count in _counted(gpus))


def _counted(names: Sequence[str]) -> list[tuple[str, int]]:
    return [(name, list(names).count(name)) for name in dict.fromkeys(names)]


def _gpu_names() -> list[str]:
    """Return the names of the backend's GPUs or other accelerators; none on a processor."""
    import keras

    match keras.backend.backend():
        case "tensorflow":
            import tensorflow as tf

            found = tf.config.list_physical_devices("GPU")
            details = map(tf.config.experimental.get_device_details, found)
            return [of.get("device_name", gpu.name) for of, gpu in zip(details, found, strict=True)]
        case "jax":
            import jax

            return [device.device_kind for device in jax.devices() if device.platform != "cpu"]
        case "torch":
            import torch

            return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return []


def device_memory() -> int | None:
    """Return the bytes of memory of the backend's first GPU, else of the machine; None where nobody says.

    On JAX it is what JAX has reserved for itself, three quarters of the card by default. TensorFlow does not know the
    total, so nvidia-smi is asked.
    """
    import keras
    import psutil

    if not _gpu_names():
        return psutil.virtual_memory().total
    match keras.backend.backend():
        case "tensorflow":
            lines = _nvidia_smi("--query-gpu=memory.total", "--format=csv,noheader,nounits").split()
            return int(lines[0]) * 2**20 if lines and lines[0].isdigit() else None
        case "jax":
            import jax

            card = next(device for device in jax.local_devices() if device.platform != "cpu")
            return (card.memory_stats() or {}).get("bytes_limit")
        case "torch":
            import torch

            return torch.cuda.get_device_properties(0).total_memory
    return None


def device_line(precision: str, xla: bool) -> str:
    """Describe a run's device in a line: name, memory, backend and its version, precision, XLA.

    Args:
        precision: of the computation, such as "bfloat16".
        xla: whether XLA compiles the training step.
    """
    import keras

    backend = keras.backend.backend()
    memory = device_memory()
    size = f" ({memory / 2**30:.0f} GiB)" if memory else ""
    version = getattr(sys.modules.get(backend), "__version__", "")
    return f"{device_name()}{size}, {backend} {version}, {precision}, {'with' if xla else 'without'} XLA"


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the processor's model and the number of cores available to this process: "Xeon Gold 6248, 8 cores"."""
    model = ""
    try:
        lines = [line.partition(":") for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()]
        model = next((value.strip() for key, _, value in lines if key.strip().lower() == "model name"), "")
    except OSError:  # only Linux has it
        pass
    model = model or platform.processor() or platform.machine() or "processor"
    cores = available_cores()
    return f"{model}, {cores} core{'s' if cores > 1 else ''}"


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    return len(allowed(0)) if allowed is not None else os.cpu_count() or 1


def idle_card_note(
    root: Path = Path("/"), nvidia_smi: Callable[[], str] | None = None, gpus: Sequence[str] | None = None
) -> str | None:
    """Return a warning, with the cure, if the backend cannot use an NVIDIA card of this machine; else None.

    A card that `CUDA_VISIBLE_DEVICES` hides is idle on purpose, and not spoken of.

    Args:
        root: root of the machine's file system.
        nvidia_smi: returns what `nvidia-smi -L` prints, a line for each card; None: call the program, if it is there.
        gpus: names of the GPUs that the backend has; None: ask it.
    """
    import keras

    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if (_gpu_names() if gpus is None else gpus) or (hidden is not None and hidden.strip() in ("", "-1", "none")):
        return None
    card = _nvidia_card(root, nvidia_smi or _list_cards)
    if card is None:
        return None
    backend = keras.backend.backend()
    cure = install_command(_EXTRAS[backend]) if backend in _EXTRAS else _OTHERWISE
    version = sys.modules[backend].__version__ if backend in sys.modules else ""
    return (
        f"This machine has an NVIDIA card ({card}), but {backend} {version} cannot use it and computes on the "
        f"processor, many times slower. Install it with its CUDA libraries: {cure}. "
        "Where they are installed, the driver is too old or the container was started without the card: nvidia-smi "
        "must list it. To train on the processor on purpose: CUDA_VISIBLE_DEVICES=-1."
    )


def _nvidia_card(root: Path, nvidia_smi: Callable[[], str]) -> str | None:
    """Return the first evidence of an NVIDIA card; None without one."""
    listed = [line.strip() for line in nvidia_smi().splitlines() if line.startswith("GPU ")]
    if listed:
        return listed[0].partition(" (UUID")[0].partition(": ")[2] or listed[0]
    for sign in ("dev/nvidia0", "proc/driver/nvidia/version"):
        if (root / sign).exists():
            return f"/{sign}"
    return None


def _list_cards() -> str:
    return _nvidia_smi("-L")


def _nvidia_smi(*options: str) -> str:
    """Return the output of `nvidia-smi` with these options; "" if it is not installed or fails."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    try:
        return subprocess.run([program, *options], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError, ValueError):
        return ""


def devices() -> list[str]:
    """List the backend's devices by TensorFlow's names, such as "CPU:0" and "GPU:0"."""
    import keras

    match keras.backend.backend():
        case "tensorflow":
            import tensorflow as tf

            found = [device.name.removeprefix("/device:") for device in tf.config.list_logical_devices()]
            return [name for name in found if name.partition(":")[0] in _KINDS]
        case "jax":
            import jax

            cards = [device for device in jax.devices() if device.platform != "cpu"]
            return [f"{_kind(device.platform)}:{device.id}" for device in (*jax.devices("cpu"), *cards)]
        case "torch":
            import torch

            return ["CPU:0", *(f"GPU:{index}" for index in range(torch.cuda.device_count()))]
    return ["CPU:0"]


def check_device(name: str) -> str:
    """Return the full name of a device, such as "GPU:0" for gpu or /GPU:0.

    Raises:
        SegzooError: the backend has no such device.
    """
    kind, _, index = name.lower().removeprefix("/").removeprefix("device:").partition(":")
    wanted = f"{_kind(kind)}:{index or '0'}"
    if wanted not in (there := devices()):
        import keras

        raise SegzooError(
            f"{keras.backend.backend()} has no device {shortened(name)} here. There is: {', '.join(there)}."
        )
    return wanted


def on_device(name: str | None) -> AbstractContextManager[Any]:
    """Place new variables and computations on a device, by a name that `check_device` returned; None: no change."""
    import keras

    return nullcontext() if name is None else keras.device(name.lower())


def _kind(platform: str) -> str:
    return {"cuda": "GPU", "rocm": "GPU"}.get(platform.lower(), platform.upper())
