"""Dense prediction transformer: the tokens of a plain vision transformer, put together to maps and fused."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from segzoo.decoders.base import Decoder
from segzoo.decoders.table import DECODERS
from segzoo.errors import SegzooError
from segzoo.layers import ConvBlock, ResizeTo, light, light_gelu
from segzoo.layers.base import Layer
from segzoo.layers.tokens import up_to_whole
from segzoo.levels import IMAGE, LEVELS, TOKENS, levels_at, prefix_of

_READOUTS = ("cat", "add", "ignore")
_READ = tuple(name for level in TOKENS for name in (level, prefix_of(level)))


@DECODERS.register("dpt")
class DPT(Decoder):
    """Dense prediction transformer (Ranftl et al., 2021, https://arxiv.org/abs/2103.13413): `(B, H/2, W/2, fusion)`.

    The tokens after four blocks of a plain ViT become maps of strides 4, 8, 16 and 32, which are fused from the
    coarsest to the finest. A pyramid has no tokens, and is refused. Layers and parameters are those of
    segmentation_models.pytorch, which needs sides that are multiples of twice the patch; here, maps take the size of
    each other, and what lies beyond the image because it was padded to whole patches is cut off at the end. Patches of
    14 pixels are treated as those of 16: maps have strides 3.5, 7, 14 and 28, as in Depth Anything (Yang et al., 2024).

    Args:
        readout: what becomes of the class token: "cat" joins it to every token, and a linear layer with GELU makes one
            of both; "add" adds the mean of all prefix tokens, registers too; "ignore" leaves them out.
        intermediate_channels: channels of the maps, the finest first.
        fusion_channels: channels of all maps from there on, and of the output.
        dropout: rate of the dropout of whole channels at the end; segmentation_models.pytorch drops single values.
        align_corners: resize with the corner pixels aligned, as both the paper's code and
            segmentation_models.pytorch do.
        patch: side of the backbone's patches in pixels; `segzoo.build_model` fills it in.
        **kwargs: `normalization`, `activation`, `epsilon` and `groups` of Decoder.

    Raises:
        ValueError: an unknown readout, or another number of channels than four.
    """

    def __init__(
        self,
        readout: str = "cat",
        intermediate_channels: Sequence[int] = (256, 512, 1024, 1024),
        fusion_channels: int = 256,
        dropout: float = 0.1,
        align_corners: bool = True,
        patch: int = 16,
        **kwargs: Any,
    ):
        super().__init__(dropout=dropout, **kwargs)
        if readout not in _READOUTS:
            raise ValueError(f"readout must be one of {', '.join(_READOUTS)}, got {readout!r}.")
        if len(intermediate_channels) != len(TOKENS):
            raise ValueError(f"intermediate_channels must be {len(TOKENS)} numbers, got {list(intermediate_channels)}.")
        self.readout = readout
        self.intermediate_channels = tuple(intermediate_channels)
        self.fusion_channels = fusion_channels
        self.align_corners = align_corners
        self.patch = patch
        self.resize = ResizeTo(self.bilinear, dtype=self.dtype_policy, name="resize")

    @classmethod
    def levels(
        cls, output_stride: int, available: Sequence[str] = _READ, depth: int | None = None, **options: Any
    ) -> tuple[str, ...]:
        """Return the tokens that the decoder reads, and the image, for its size; SegzooError without tokens."""
        levels_at(output_stride, shallow=True)
        _check_tokens(available)
        wanted = TOKENS if options.get("readout") == "ignore" else _READ
        return (IMAGE, *(name for name in wanted if name in available))

    def build(self, features_shape: dict[str, tuple]) -> None:
        """Create the layers for tokens of these shapes."""
        _check_tokens(tuple(features_shape))
        policy, fusion = self.dtype_policy, self.fusion_channels
        doublings = (self.patch - 1).bit_length() - 2
        self.readouts, self.reassembled, self.fusions, self.projections = [], [], [], []
        for number, (level, channels) in enumerate(zip(TOKENS, self.intermediate_channels, strict=True)):
            width = features_shape[level][3]
            if self.readout == "cat":
                linear = keras.layers.Dense(width, activation=light_gelu, dtype=policy, name=f"readout_{level}")
                linear.build((None, None, None, 2 * width if prefix_of(level) in features_shape else width))
                self.readouts.append(linear)
            self.reassembled.append(self._reassemble(level, width, channels, doublings - number))
            fused = _Fusion(fusion, self.block_options, name=f"fuse_{level}", dtype=policy)
            fused.build((None, None, None, fusion))
            self.fusions.append(fused)
            projection = keras.layers.Conv2D(fusion, 1, dtype=policy, name=f"project_fused_{level}")
            projection.build((None, None, None, fusion))
            self.projections.append(projection)
        self.last = self.block("last", fusion, fusion)
        self.built = True

    def _reassemble(self, level: str, width: int, channels: int, doublings: int) -> list[Any]:
        """Return the built layers that make a map of the tokens of a level, doubled or halved so often."""
        policy, factor = self.dtype_policy, 2 ** abs(doublings)

        def built(kind: Any, inputs: int, outputs: int, size: int, step: str, **options: Any) -> Any:
            layer = kind(outputs, size, padding="same", dtype=policy, name=f"{step}_{level}", **options)
            layer.build((None, None, None, inputs))
            return layer

        layers = [built(keras.layers.Conv2D, width, channels, 1, "project")]
        if doublings > 0:
            layers.append(built(keras.layers.Conv2DTranspose, channels, channels, factor, "enlarge", strides=factor))
        elif doublings < 0:
            # Both sides padded alike, as PyTorch's convolution is.
            padding = keras.layers.ZeroPadding2D(1, dtype=policy, name=f"pad_{level}")
            padding.build((None, None, None, channels))
            layers.append(padding)
            layer = keras.layers.Conv2D(channels, 3, factor, dtype=policy, name=f"reduce_{level}")
            layer.build((None, None, None, channels))
            layers.append(layer)
        return [*layers, built(keras.layers.Conv2D, channels, self.fusion_channels, 3, "width", use_bias=False)]

    def call(self, features: dict[str, Any], training: bool | None = None) -> Any:
        """Reassemble each level's tokens, fuse from the coarsest map to the finest, and cut to the image."""
        maps = []
        for number, level in enumerate(TOKENS):
            x = self._read(number, features[level], features.get(prefix_of(level)))
            for layer in self.reassembled[number]:
                x = layer(x)
            maps.append(x)
        fused: Any = None
        for number in reversed(range(len(maps))):
            fused = self.fusions[number](maps[number], fused, training=training)
            reference = maps[number - 1] if number else _at_twice_the_size(fused)
            fused = self.projections[number](self.resize(fused, reference))
        height, width = (self._rows(size) for size in ops.shape(features[IMAGE])[1:3])
        return self.drop(self.last(fused[:, :height, :width], training=training), training=training)

    def _read(self, number: int, tokens: Any, prefix: Any) -> Any:
        """Return the map of tokens `(B, h, w, C)` with what the prefix tokens `(B, n, C)` say of the whole image."""
        if self.readout == "add" and prefix is not None:
            return tokens + ops.mean(prefix, axis=1)[:, None, None]
        if self.readout != "cat":
            return tokens
        if prefix is not None:
            whole = ops.broadcast_to(prefix[:, :1, None], ops.shape(tokens))
            tokens = ops.concatenate([tokens, whole], axis=-1)
        return self.readouts[number](tokens)

    def _rows(self, size: Any) -> Any:
        """Return how many rows of the last map, of which a patch has half as many as of pixels, an image has."""
        rows = 2 ** (self.patch - 1).bit_length() // 2
        return up_to_whole(size * rows, self.patch)

    def compute_output_shape(self, features_shape: dict[str, tuple]) -> tuple:
        """Shape `(B, H/2, W/2, fusion_channels)`."""
        height, width = (size and self._rows(size) for size in features_shape[IMAGE][1:3])
        return (features_shape[IMAGE][0], height, width, self.fusion_channels)

    def compute_output_spec(self, features: dict[str, Any], training: bool | None = None) -> keras.KerasTensor:
        """Shape `(B, H/2, W/2, fusion_channels)`, also where the size is unknown."""
        shapes = {name: feature.shape for name, feature in features.items()}
        return keras.KerasTensor(self.compute_output_shape(shapes), dtype=self.compute_dtype)


class _Fusion(Layer):
    """Fuse a map with the coarser ones: `(B, h, w, C)` to the same shape, by two residual units around their sum.

    Args:
        channels: C.
        options: of the blocks, see `Decoder.block_options`.
        **kwargs: arguments of the Keras layer, such as `name`.
    """

    def __init__(self, channels: int, options: Mapping[str, Any], **kwargs: Any):
        super().__init__(**kwargs)
        self.activate = keras.layers.Activation(
            light(options["activation"]), dtype=self.dtype_policy, name="activation"
        )
        plain = {**options, "activation": None}
        self.units = [
            (
                ConvBlock(channels, name=f"unit{unit}_conv1", **options),
                ConvBlock(channels, name=f"unit{unit}_conv2", **plain),
            )
            for unit in (1, 2)
        ]

    def build(self, x_shape: tuple) -> None:
        """Create the weights for `(B, h, w, C)` maps."""
        for block in itertools.chain(*self.units):
            block.build(x_shape)
        self.built = True

    def call(self, x: Any, coarser: Any = None, training: bool | None = None) -> Any:
        """Return the fused map; `coarser` has the size of `x`, or is None for the coarsest."""
        (first, second) = self.units
        x = self._unit(first, x, training)
        return self._unit(second, x if coarser is None else x + coarser, training)

    def _unit(self, blocks: Any, x: Any, training: bool | None) -> Any:
        """Apply a residual unit that begins with its activation."""
        inner, last = blocks
        return x + last(inner(self.activate(x), training=training), training=training)


def _at_twice_the_size(x: Any) -> Any:
    """Return any map of twice the height and width of `x`, as a reference for its size."""
    rows = ops.concatenate([x[..., :1]] * 2, axis=1)
    return ops.concatenate([rows] * 2, axis=2)


def _check_tokens(available: Sequence[str]) -> None:
    """Raise SegzooError unless all maps of tokens are among these features."""
    if missing := [level for level in TOKENS if level not in available]:
        found = ", ".join(level for level in available if level != IMAGE) or "nothing"
        what = "a pyramid" if any(level in LEVELS for level in available) else "not these"
        raise SegzooError(
            f"DPT reads the tokens of a plain vision transformer, {', '.join(TOKENS)}; the backbone has {found}: "
            f"{what}, without {', '.join(missing)}. Take a backbone vit_..., hub_vit_..., hub_dinov2_... or "
            "hub_dinov3_..., or a decoder that reads pyramids, such as upernet or fpn."
        )
