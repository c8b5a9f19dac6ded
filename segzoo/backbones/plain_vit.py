"""Plain vision transformers (ViT, Dosovitskiy et al., 2020) for images of any size: networks, taps and weights.

A plain ViT has no pyramid: all its maps have the stride of its patches. Its features are the tokens of four blocks,
evenly spread over the depth, as maps "T1" to "T4" of the patches' grid, and the tokens before them, the class token
first, as "T1_prefix" to "T4_prefix". What a decoder needs of P2 to P5 is made of T4 by `segzoo.layers.SimplePyramid`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from segzoo.backbones.packages import import_package, preset_of
from segzoo.backbones.spec import REFERENCE_DROP_PATH, Pixels, Tap, Variant
from segzoo.layouts.vision_transformer import Layout
from segzoo.levels import TOKENS, prefix_of

_UNDILATED = "all maps of a plain vision transformer have the stride of its patches."
# Layers besides the blocks that have weights.
PATCHES, EMBEDDING = "patch_embedding", "token_embedding"


@dataclass(frozen=True, kw_only=True)
class PlainViT(Layout):
    """Constructor of a plain ViT with the interface of keras.applications; keras-hub is needed for its presets alone.

    Attributes:
        name: name of the variant.
        assign: sets the weights of the network to those of keras-hub's; None: it has no presets.
        hidden: channels of the hidden layer of MLPs; 0: four times `width`.
        antialias: whether positions are averaged where they are interpolated to a smaller grid.
        scale: initial value of the scales of branches; None: there are none.
        epsilon: of layer normalisation.
        rotary: base of the rotary angles; None: positions are learnt.
        key_bias: whether keys have a bias.
        backbone: class of keras-hub that has the presets; empty if none.
    """

    name: str
    assign: Callable[[Any, Any], None] | None = None
    hidden: int = 0
    antialias: bool = False
    scale: float | None = None
    epsilon: float = 1e-6
    rotary: float | None = None
    key_bias: bool = True
    backbone: str = ""

    @classmethod
    def of(cls, name: str, layout: Layout, **given: Any) -> PlainViT:
        """Return the constructor of a variant from its layout and the other attributes."""
        return cls(name=name, **asdict(layout), **given)

    def __call__(
        self, include_top: bool = False, weights: str | None = None, input_shape: tuple = (256, 256, 3)
    ) -> Any:
        """Build the network from normalised images to the last block's tokens; `weights` is None or a preset.

        Raises:
            MissingPackageError: keras-hub, which fetches the preset, is not installed.
            ValueError: a classifier is requested, which it has not, or a preset of a network that has none.
            WeightsError: the preset is of another network.
        """
        if include_top:
            raise ValueError(f"{self.name} has no classifier.")
        if weights is not None and self.assign is None:
            raise ValueError(f"No weights of {self.name} are published for Keras.")
        network = self.build(input_shape)
        if weights is not None:
            packaged = getattr(import_package("keras_hub").models, self.backbone).from_preset(weights)
            self.load(network, packaged, weights)
        return network

    @property
    def taken(self) -> dict[str, int]:
        """Map "T1" to "T4" to the number of the block, from 1 on, whose tokens they are."""
        return {level: self.depth * number // len(TOKENS) for number, level in enumerate(TOKENS, 1)}

    def build(self, input_shape: tuple) -> Any:
        """Build the network with initial values."""
        import keras

        from segzoo.layers import PatchPadding, PrefixTokens, TokenEmbedding, TokenMap, TransformerBlock

        images = keras.Input(input_shape)
        x = PatchPadding(self.patch, name="patch_padding")(images)
        patches = keras.layers.Conv2D(self.width, self.patch, self.patch, name=PATCHES)(x)
        x = TokenEmbedding(self.grid, self.registers, self.antialias, name=EMBEDDING)(patches)
        outputs = {}
        blocks = {number: level for level, number in self.taken.items()}
        for number in range(1, self.depth + 1):
            x = TransformerBlock(
                self.heads,
                self.hidden or 4 * self.width,
                self.scale,
                REFERENCE_DROP_PATH * (number - 1) / max(1, self.depth - 1),
                self.epsilon,
                self.rotary,
                self.prefix,
                self.key_bias,
                name=f"block_{number}",
            )(x, patches)
            if level := blocks.get(number):
                outputs[level] = TokenMap(self.prefix, name=f"tokens_{number}")(x, patches)
                outputs[prefix_of(level)] = PrefixTokens(self.prefix, name=f"prefix_{number}")(x)
        return keras.Model(images, outputs, name=self.name)

    def load(self, network: Any, packaged: Any, preset: str) -> None:
        """Set the weights of a network to those of keras-hub's with a preset.

        Raises:
            WeightsError: it is another network.
        """
        assert self.assign is not None  # of a network without presets nothing is loaded
        with preset_of(self.name, preset):
            self.assign(network, packaged)

    def taps(self) -> tuple[Tap, ...]:
        """Return the table of taps."""
        found = []
        for level, number in self.taken.items():
            place = f"after block {number} of {self.depth}"
            found.append(Tap(f"tokens_{number}", self.patch, self.width, level, f"tokens of the patches {place}"))
            others = f" and {self.registers} registers" if self.registers else ""
            reason = f"class token{others} {place}"
            found.append(Tap(f"prefix_{number}", 0, self.width, prefix_of(level), reason))
        return tuple(found)


def variant(
    network: PlainViT, module: str, family: str, pixels: Pixels, presets: tuple[str, ...] = (), quirk: str = ""
) -> Variant:
    """Return the variant of a network that the table `NETWORKS` of a module has under its name.

    Args:
        network: constructor of the network.
        module: `__name__` of the module.
        family: name of the family.
        pixels: preprocessing of the pretrained weights.
        presets: names of keras-hub's weights, the first the default; none are published if empty.
        quirk: remark on the features; that on learnt positions is added to it.
    """
    positions = (
        f"Trained for images of {network.side}x{network.side}, whose positions are interpolated to those of others."
    )
    return Variant(
        network.name,
        f"{module}:NETWORKS[{network.name}]",
        family,
        pixels,
        {"blocks": network.taps()},
        undilated=_UNDILATED,
        published=bool(presets),
        package="keras-hub" if presets else "",
        presets=presets,
        patch=network.patch,
        quirk=" ".join(filter(None, (quirk, positions if network.grid else ""))),
    )


def assign_blocks(network: Any, blocks: Sequence[Mapping[str, Any]]) -> None:
    """Set the weights of the blocks of a network.

    Args:
        network: network of a `PlainViT`.
        blocks: for each block, the name of its layer to that of keras-hub; kernels and biases of attention, which are
            split by heads there, get the shape that they have here.

    Raises:
        ValueError: another number of blocks, or weights of another size.
    """
    from segzoo.layers import TransformerBlock

    own = [layer for layer in network.layers if isinstance(layer, TransformerBlock)]
    if len(own) != len(blocks):
        raise ValueError(f"it has {len(blocks)} blocks, not {len(own)}")
    for block, layers in zip(own, blocks, strict=True):
        for name, layer in layers.items():
            ours = getattr(block, name)
            values = zip(layer.get_weights(), ours.weights, strict=True)
            ours.set_weights([value.reshape(weight.shape) for value, weight in values])
