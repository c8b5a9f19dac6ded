"""Depthwise convolution on a CPU under JAX; see `segzoo.layers.convolution.DepthwiseConv2D`."""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp

Pair = tuple[int, int]


def depthwise_convolution(inputs: jax.Array, kernel: jax.Array, strides: Pair, padding: str, rates: Pair) -> jax.Array:
    """Convolve `(B, H, W, C)` with a kernel `(h, w, C, 1)` to `(B, H', W', C)`, as `keras.ops.depthwise_conv`.

    Sums are taken in float32 where the inputs are of half precision.

    Args:
        inputs: of sizes that are known.
        kernel: one map for each channel.
        strides: of rows and columns.
        padding: "same" or "valid".
        rates: dilation rates of rows and columns.
    """
    sides = [(0, 0)] * 2
    if padding == "same":
        sizes = zip(inputs.shape[1:3], kernel.shape[:2], strides, rates, strict=True)
        sides = [_same(*size) for size in sizes]
    padded = jnp.pad(inputs, ((0, 0), *sides, (0, 0)))
    return _convolve(padded, kernel[..., 0], tuple(strides), tuple(rates))


def _same(size: int, taps: int, stride: int, rate: int) -> Pair:
    """Return the padding before and after an axis with which the result has a stride-th of its size, rounded up."""
    missing = max(0, (-(-size // stride) - 1) * stride + (taps - 1) * rate + 1 - size)
    return missing // 2, missing - missing // 2


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(padded: jax.Array, kernel: jax.Array, strides: Pair, rates: Pair) -> jax.Array:
    height, width = _sizes(padded, kernel, strides, rates)
    total = jnp.zeros((), jnp.promote_types(padded.dtype, jnp.float32))
    for row, column in itertools.product(range(kernel.shape[0]), range(kernel.shape[1])):
        seen = _every(_every(padded, 1, row * rates[0], strides[0], height), 2, column * rates[1], strides[1], width)
        total = total + seen.astype(total.dtype) * kernel[row, column].astype(total.dtype)
    return total.astype(padded.dtype)


def _forward(
    padded: jax.Array, kernel: jax.Array, strides: Pair, rates: Pair
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _convolve(padded, kernel, strides, rates), (padded, kernel)


def _gradients(
    strides: Pair, rates: Pair, kept: tuple[jax.Array, jax.Array], upstream: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the gradients of the padded inputs and of the kernel, given the gradient of the outputs."""
    padded, kernel = kept
    # Of the inputs: a convolution with the turned kernel, the upstream gradient set apart by the strides.
    reach = [(taps - 1) * rate for taps, rate in zip(kernel.shape[:2], rates, strict=True)]
    spread = [(length - 1) * stride + 1 for length, stride in zip(upstream.shape[1:3], strides, strict=True)]
    rest = [size - length for size, length in zip(padded.shape[1:3], spread, strict=True)]
    borders = [(before, after, stride - 1) for before, after, stride in zip(reach, rest, strides, strict=True)]
    apart = jax.lax.pad(upstream, jnp.zeros((), upstream.dtype), ((0, 0, 0), *borders, (0, 0, 0)))
    for_inputs = _convolve(apart, kernel[::-1, ::-1], (1, 1), rates)

    # Of the kernel: row by row, as XLA adds up whole maps by channels in ten times as long.
    def add_row(row: int, total: jax.Array) -> jax.Array:
        given = jax.lax.dynamic_slice_in_dim(upstream, row, 1, axis=1).astype(total.dtype)
        read = jax.lax.dynamic_slice_in_dim(padded, row * strides[0], reach[0] + 1, axis=1).astype(total.dtype)
        places = itertools.product(range(kernel.shape[0]), range(kernel.shape[1]))
        sums = [
            jnp.sum(
                read[:, y * rates[0]][:, None]
                [:, :, x * rates[1] : x * rates[1] + spread[1] : strides[1]] * given,
                axis=(0, 1, 2),
            )
            for y, x in places
        ]  # fmt: skip
        return total + jnp.stack(sums)

    exact = jnp.promote_types(padded.dtype, jnp.float32)
    start = jnp.zeros((kernel.shape[0] * kernel.shape[1], kernel.shape[2]), exact)
    for_kernel = jax.lax.fori_loop(0, upstream.shape[1], add_row, start)
    return for_inputs, for_kernel.reshape(kernel.shape).astype(kernel.dtype)


_convolve.defvjp(_forward, _gradients)


def _sizes(padded: jax.Array, kernel: jax.Array, strides: Pair, rates: Pair) -> Pair:
    height, width = (
        (size - (taps - 1) * rate - 1) // stride + 1
        for size, taps, stride, rate in zip(padded.shape[1:3], kernel.shape[:2], strides, rates, strict=True)
    )
    return height, width


def _every(maps: jax.Array, axis: int, start: int, stride: int, count: int) -> jax.Array:
    """Return `count` rows or columns of maps, `stride` apart, from `start` on."""
    return jax.lax.slice_in_dim(maps, start, start + (count - 1) * stride + 1, stride, axis)
