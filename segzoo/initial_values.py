"""Initial values of weights on JAX, drawn in blocks of one size.

JAX compiles a program for every shape of which random values are drawn: 130 programs for the kernels of
EfficientNet-B3, 29 of the 33 seconds of processor time that U-Net on it took to build.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from segzoo.keras_compat import is_traced, random_functions

_BLOCK = 1 << 16  # values; many kernels have fewer, and the largest has a hundred times as many
_active = threading.local()


@contextmanager
def drawn_in_blocks() -> Iterator[None]:
    """Draw the random values within the block, on JAX, by one program for each distribution.

    Other backends draw as they do without it.

    Each seed has its own values, of the distributions asked for, but other values than those that Keras alone draws.
    """
    if keras.backend.backend() != "jax":
        yield
        return
    _install()
    before, _active.inside = getattr(_active, "inside", False), True
    try:
        yield
    finally:
        _active.inside = before


@functools.cache
def _install() -> None:
    """Extend Keras's functions, once; outside `drawn_in_blocks`, and in other threads, they do what they did."""
    functions = random_functions()

    def normal(shape: Sequence[int], mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = None, seed: Any = None) -> Any:
        return _drawn("normal", shape, lambda values: values * stddev + mean, dtype, seed)

    def truncated(shape: Sequence[int], mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = None, seed: Any = None) -> Any:
        return _drawn("truncated_normal", shape, lambda values: values * stddev + mean, dtype, seed)

    def uniform(shape: Sequence[int], minval: Any = 0.0, maxval: Any = 1.0, dtype: Any = None, seed: Any = None) -> Any:
        return _drawn("uniform", shape, lambda values: minval + values * (maxval - minval), dtype, seed)

    for name, in_blocks in (("normal", normal), ("truncated_normal", truncated), ("uniform", uniform)):
        setattr(functions, name, _where_active(in_blocks, getattr(functions, name)))


def _where_active(in_blocks: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def draw(*given: Any, **named: Any) -> Any:
        eager = getattr(_active, "inside", False) and not is_traced()
        return (in_blocks if eager else original)(*given, **named)

    return draw


def _drawn(
    distribution: str, shape: Sequence[int], scaled: Callable[[np.ndarray], np.ndarray], dtype: Any, seed: Any
) -> Any:
    """Return values of a standard distribution, scaled, as an array of JAX of the shape."""
    key = random_functions().jax_draw_seed(seed)
    count = math.prod(shape)
    draw = _program(distribution)
    blocks = [np.asarray(draw(key, place)) for place in range(-(-count // _BLOCK))]
    values = scaled(np.concatenate(blocks)[:count] if blocks else np.zeros(0, "float32"))
    return keras.ops.convert_to_tensor(values.reshape(tuple(shape)), dtype or keras.config.floatx())


@functools.cache
def _program(distribution: str) -> Callable[[Any, int], Any]:
    import jax

    limits = (-2.0, 2.0) if distribution == "truncated_normal" else ()

    @jax.jit
    def block(key: Any, place: int) -> Any:
        return getattr(jax.random, distribution)(jax.random.fold_in(key, place), *limits, shape=(_BLOCK,))

    return block
