"""Dilated ("atrous") convolution on a CPU under TensorFlow; see `segzoo.layers.convolution.AtrousConv2D`."""

from __future__ import annotations

import itertools

import tensorflow as tf

from segzoo.layers.activation import after


def atrous_convolution(inputs: tf.Tensor, kernel: tf.Tensor, rates: tuple[int, int]) -> tf.Tensor:
    """Convolve `(B, H, W, C)` with a kernel `(h, w, C, D)` of odd size, "same" padding, to `(B, H, W, D)`.

    The gradient is that of `tf.nn.conv2d`; its sums are taken in float32 where the inputs are of half precision.
    """

    @tf.custom_gradient
    def convolve(inputs, kernel):
        outputs = tf.nn.conv2d(inputs, kernel, 1, "SAME", dilations=rates)
        return outputs, lambda upstream: _gradients(after(upstream, inputs), kernel, upstream, rates)

    return convolve(tf.convert_to_tensor(inputs), tf.convert_to_tensor(kernel))


def _gradients(
    inputs: tf.Tensor, kernel: tf.Tensor, upstream: tf.Tensor, rates: tuple[int, int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the gradients of the inputs and the kernel, given the gradient of the outputs."""
    rows, columns, channels, filters = kernel.shape
    height, width = tf.shape(inputs)[1], tf.shape(inputs)[2]
    exact = inputs.dtype if inputs.dtype in (tf.float32, tf.float64) else tf.float32
    for_inputs = tf.zeros(tf.shape(inputs), exact)
    for_kernel = []
    for row, column in itertools.product(range(rows), range(columns)):
        # What the kernel point reads, and the outputs that it reads it for; empty where it lies off the map.
        read_y, for_y = _overlap(height, (row - rows // 2) * rates[0])
        read_x, for_x = _overlap(width, (column - columns // 2) * rates[1])
        read = inputs[:, read_y[0] : read_y[1], read_x[0] : read_x[1]]
        given = upstream[:, for_y[0] : for_y[1], for_x[0] : for_x[1]]
        flat = tf.reshape(given, (-1, filters))
        for_kernel.append(tf.matmul(tf.reshape(read, (-1, channels)), flat, transpose_a=True))
        part = tf.reshape(tf.matmul(flat, kernel[row, column], transpose_b=True), tf.shape(read))
        borders = [[0, 0], [read_y[0], height - read_y[1]], [read_x[0], width - read_x[1]], [0, 0]]
        for_inputs += tf.cast(tf.pad(part, borders), exact)
    return tf.cast(for_inputs, inputs.dtype), tf.reshape(tf.stack(for_kernel), kernel.shape)


def _overlap(size: tf.Tensor, shift: int) -> tuple[tuple[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Return the ranges, along one axis, of the pixels read at a shift and of the pixels that they are read for."""
    forward, back = tf.minimum(max(shift, 0), size), tf.minimum(max(-shift, 0), size)
    return (forward, size - back), (back, size - forward)
