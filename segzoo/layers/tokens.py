"""Layers between images, maps and the tokens of a plain vision transformer (ViT), for images of any size.

The grid of patches begins at the upper left corner of the image; what the last row and column of patches hold beyond
it is zero, and is cut off again by whoever makes maps of the image's size from tokens.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from segzoo.layers.base import Layer


@keras.saving.register_keras_serializable("segzoo")
class PatchPadding(Layer):
    """Pad maps `(B, H, W, C)` with zeros below and on the right to whole patches: `(B, ceil(H/p) p, ceil(W/p) p, C)`.

    Behind the normalisation of pixels zero is the mean colour. Equal to timm's `dynamic_img_pad`.

    Args:
        patch: side p of a patch in pixels.
    """

    def __init__(self, patch: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.patch = patch

    def call(self, x: Any) -> Any:
        """Pad."""
        # First by a fixed number of pixels, of which some are cut: a graph knows the channels of the result then.
        height, width = (up_to_whole(size, self.patch) * self.patch for size in ops.shape(x)[1:3])
        most = (0, self.patch - 1)
        return ops.pad(x, ((0, 0), most, most, (0, 0)))[:, :height, :width]

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Shape with height and width rounded up."""
        height, width = (size and up_to_whole(size, self.patch) * self.patch for size in input_shape[1:3])
        return (input_shape[0], height, width, input_shape[3])

    def compute_output_spec(self, x: Any) -> keras.KerasTensor:
        """Shape with height and width rounded up, also where they are unknown."""
        return keras.KerasTensor(self.compute_output_shape(x.shape), dtype=self.compute_dtype)


@keras.saving.register_keras_serializable("segzoo")
class TokenEmbedding(Layer):
    """Make tokens `(B, 1 + registers + h w, C)` of embedded patches `(B, h, w, C)`: a class token and registers first.

    Learnt positions belong to a grid; they are interpolated to the h x w of the image in the graph, as the reference
    code of DINOv2 does (Oquab et al., 2023), in float32. Left out is the tenth of a patch that the authors add to the
    size against rounding. Registers (Darcet et al., 2023) have no position.

    Args:
        grid: side of the square grid that positions were learnt for; 0: there are none (they are rotary).
        registers: number of register tokens.
        antialias: whether interpolation to a smaller grid averages, see `cubic_shares`.
    """

    def __init__(self, grid: int, registers: int = 0, antialias: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.grid = grid
        self.registers = registers
        self.antialias = antialias

    def build(self, input_shape: tuple) -> None:
        """Create the tokens and positions."""
        channels = input_shape[-1]

        def tokens(count: int, name: str) -> Any:
            normal = keras.initializers.TruncatedNormal(stddev=0.02)
            return self.add_weight((1, count, channels), initializer=normal, autocast=False, name=name)

        self.class_token = tokens(1, "class_token")
        self.register_tokens = tokens(self.registers, "register_tokens") if self.registers else None
        self.positions = tokens(1 + self.grid**2, "position_embedding") if self.grid else None
        self.built = True

    def call(self, patches: Any) -> Any:
        """Add positions, and put the prefix tokens before those of the patches."""
        batch, height, width, channels = ops.shape(patches)
        first, rest = ops.convert_to_tensor(self.class_token), ops.cast(patches, "float32")
        if self.positions is not None:
            positions = ops.convert_to_tensor(self.positions)
            first = first + positions[:, :1]
            square = ops.reshape(positions[:, 1:], (self.grid, self.grid, channels))
            rows, columns = (cubic_shares(self.grid, new, self.antialias) for new in (height, width))
            rest = rest + ops.einsum("iy,yxc,jx->ijc", rows, square, columns)
        prefix = [first] if self.register_tokens is None else [first, ops.convert_to_tensor(self.register_tokens)]
        prefix = [ops.broadcast_to(tokens, (batch, tokens.shape[1], channels)) for tokens in prefix]
        tokens = ops.concatenate([*prefix, ops.reshape(rest, (batch, -1, channels))], axis=1)
        return ops.cast(tokens, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Shape `(B, 1 + registers + h w, C)`."""
        batch, height, width, channels = input_shape
        count = None if None in (height, width) else 1 + self.registers + height * width
        return (batch, count, channels)

    def compute_output_spec(self, patches: Any) -> keras.KerasTensor:
        """Shape `(B, 1 + registers + h w, C)`, also where the size is unknown."""
        return keras.KerasTensor(self.compute_output_shape(patches.shape), dtype=self.compute_dtype)


@keras.saving.register_keras_serializable("segzoo")
class TokenMap(Layer):
    """Lay the tokens of patches out as their map: `(B, prefix + h w, C)` and the patches `(B, h, w, C)` to the latter.

    Args:
        prefix: number of tokens before those of the patches, which are left out.
    """

    def __init__(self, prefix: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.prefix = prefix

    def call(self, tokens: Any, patches: Any) -> Any:
        """Return the map."""
        return ops.reshape(tokens[:, self.prefix :], ops.shape(patches))

    def compute_output_shape(self, tokens_shape: tuple, patches_shape: tuple) -> tuple:
        """Shape of the patches' map."""
        return patches_shape

    def compute_output_spec(self, tokens: Any, patches: Any) -> keras.KerasTensor:
        """Shape of the patches' map, also where its size is unknown."""
        return keras.KerasTensor(patches.shape, dtype=self.compute_dtype)


@keras.saving.register_keras_serializable("segzoo")
class PrefixTokens(Layer):
    """Take the prefix tokens, class token first: `(B, prefix + h w, C)` to `(B, prefix, C)`.

    Args:
        prefix: number of tokens before those of the patches.
    """

    def __init__(self, prefix: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.prefix = prefix

    def call(self, tokens: Any) -> Any:
        """Return the prefix tokens."""
        return tokens[:, : self.prefix]

    def compute_output_shape(self, tokens_shape: tuple) -> tuple:
        """Shape `(B, prefix, C)`."""
        return (tokens_shape[0], self.prefix, tokens_shape[2])

    def compute_output_spec(self, tokens: Any) -> keras.KerasTensor:
        """Shape `(B, prefix, C)`, also where the number of tokens is unknown."""
        return keras.KerasTensor(self.compute_output_shape(tokens.shape), dtype=self.compute_dtype)


def up_to_whole(size: Any, part: int) -> Any:
    """Return how many parts hold a size, an integer or a scalar tensor: their quotient, rounded up.

    Without a negative number, whose quotient tf2onnx rounds to zero instead of down.
    """
    return (size + part - 1) // part


def cubic_shares(old: int, new: Any, antialias: bool = False) -> Any:
    """Return the matrix `(new, old)` of cubic interpolation along one axis, float32, for any backend and in any graph.

    Half-pixel centres. Without `antialias` as PyTorch's `interpolate(mode="bicubic")`, with four values for each new
    one (Keys, 1981, with a = -0.75), the outermost ones repeated; with it as `antialias=True` there, for which the
    kernel (a = -0.5) is widened where `new` is the smaller one, and cut off at the borders.

    Args:
        old: number of values, known when the graph is built.
        new: number of values to interpolate, an integer or a scalar tensor.
        antialias: see above.
    """
    scale = ops.cast(old, "float32") / ops.cast(new, "float32")
    places = (ops.cast(ops.arange(new), "float32") + 0.5) * scale - 0.5
    if antialias:
        distances = places[:, None] - ops.arange(old, dtype="float32")[None, :]
        weights = _cubic(distances / ops.maximum(scale, 1.0), -0.5)
        return weights / ops.sum(weights, axis=1, keepdims=True)
    # Two values beyond each border, whose shares are the outermost value's.
    weights = _cubic(places[:, None] - ops.arange(-2, old + 2, dtype="float32")[None, :], -0.75)
    first, last = (ops.sum(part, axis=1, keepdims=True) for part in (weights[:, :3], weights[:, -3:]))
    if old == 1:
        return ops.sum(weights, axis=1, keepdims=True)
    return ops.concatenate([first, weights[:, 3:-3], last], axis=1)


def _cubic(distances: Any, a: float) -> Any:
    """Return the weights of the cubic convolution kernel at distances."""
    x = ops.abs(distances)
    inner = ((a + 2) * x - (a + 3)) * x * x + 1
    outer = a * (((x - 5) * x + 8) * x - 4)
    return ops.where(x <= 1, inner, ops.where(x < 2, outer, 0.0))
