"""Memory usage of this process on the host and on the accelerator."""

from __future__ import annotations

import keras
import psutil


def resident_bytes() -> int:
    """Return the resident set size of the process in bytes."""
    return psutil.Process().memory_info().rss


def device_bytes() -> int | None:
    """Return the bytes in use on the backend's first GPU, or other accelerator that reports them; else None."""
    match keras.backend.backend():
        case "tensorflow":
            import tensorflow as tf

            if not tf.config.list_logical_devices("GPU"):
                return None
            return int(tf.config.experimental.get_memory_info("GPU:0")["current"])
        case "jax":
            import jax

            found = jax.local_devices()[0].memory_stats()  # None on a CPU
            return int(found["bytes_in_use"]) if found else None
        case "torch":
            import torch

            return int(torch.cuda.memory_allocated()) if torch.cuda.is_available() else None
    return None


def memory_text() -> str:
    """Format the memory usage for a progress line: "2.1 GiB", followed by the accelerator's if there is one."""
    device = device_bytes()
    own = f"{resident_bytes() / 2**30:.1f} GiB"
    return own if device is None else f"{own}, GPU {device / 2**30:.1f} GiB"
