"""Keeping TensorFlow's C++ start-up chatter off the screen."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_start() -> Iterator[None]:
    """Hold back what is written to the standard error's file descriptor; show it all if the block raises.

    The libraries beneath TensorFlow log before they read any setting (that oneDNN is on, that there is no GPU), from
    C++, so Python's own redirection does not reach it.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(saved, 2)
            held.seek(0)
            sys.stderr.write(held.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def start_backend() -> None:
    """Import keras and its backend, and let the backend look for its devices, without the chatter."""
    with quiet_start():
        import keras

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            tf.config.list_logical_devices()
