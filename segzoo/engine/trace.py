"""Traces of single operations for TensorBoard, by the profiler of the framework that trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras


class Trace:
    """A recording of what the framework executes, written into a folder of TensorBoard when it is stopped.

    TensorBoard shows it with the package `tensorboard-plugin-profile` (TensorFlow, JAX), and that of PyTorch is a
    `.pt.trace.json`, which https://ui.perfetto.dev opens too.

    Args:
        folder: folder of event files; traces go to plugins/profile in it, those of PyTorch into it.

    Attributes:
        why_not: reason why there is no trace; empty while all is well.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.why_not = ""
        self._stop: Callable[[], Any] | None = None

    @property
    def is_running(self) -> bool:
        """True between `start` and `stop`."""
        return self._stop is not None

    def start(self) -> None:
        """Begin to record."""
        begin = _STARTS.get(keras.backend.backend())
        if begin is None:
            self.why_not = f"segzoo knows no profiler of the backend {keras.backend.backend()}"
            return
        self._attempt(lambda: setattr(self, "_stop", begin(self.folder)))

    def stop(self) -> None:
        """End the recording and write it; nothing where none runs."""
        stop, self._stop = self._stop, None
        if stop is not None:
            self._attempt(stop)

    def _attempt(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception as error:  # another profiler may be at work, or a library be missing: no reason to stop a run
            self.why_not = f"{type(error).__name__}: {error}"


def _start_tensorflow(folder: Path) -> Callable[[], Any]:
    import tensorflow as tf

    tf.profiler.experimental.start(str(folder))
    return tf.profiler.experimental.stop


def _start_jax(folder: Path) -> Callable[[], Any]:
    import jax

    jax.profiler.start_trace(str(folder))
    return jax.profiler.stop_trace


def _start_torch(folder: Path) -> Callable[[], Any]:
    import torch.profiler as profiler

    recording = profiler.profile(on_trace_ready=profiler.tensorboard_trace_handler(str(folder)))
    recording.start()
    return recording.stop


_STARTS: dict[str, Callable[[Path], Callable[[], Any]]] = {
    "tensorflow": _start_tensorflow,
    "jax": _start_jax,
    "torch": _start_torch,
}
