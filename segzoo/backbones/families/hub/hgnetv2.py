"""HGNetV2 (PaddlePaddle, 2023; the backbone of RT-DETR and D-FINE) as keras-hub has it, after timm.

keras-hub's network is two layers, which hold all others. Here these others are the network's own, of the same names and
weights.
"""

from __future__ import annotations

from typing import Any

from segzoo.backbones.packages import Network, twin
from segzoo.backbones.spec import STANDARDIZED, Variant, tap_table
from segzoo.backbones.table import BACKBONES

# Size to the channels of the stem, which are doubled where its branches meet, and at its end; and by stage the channels
# within a block, those of its output, and the blocks. Sizes below B4 have no weights in keras-hub.
_SIZES: dict[str, tuple[tuple[int, int], tuple[tuple[int, int, int], ...]]] = {
    "b4": ((32, 48), ((48, 128, 1), (96, 512, 1), (192, 1024, 3), (384, 2048, 1))),
    "b5": ((32, 64), ((64, 128, 1), (128, 512, 2), (256, 1024, 5), (512, 2048, 2))),
    "b6": ((48, 96), ((96, 192, 2), (192, 512, 3), (384, 1024, 6), (768, 2048, 3))),
}
_FINE_TUNED, _FROM_22K = "hgnetv2_{}_ssld_stage2_ft_in1k", "hgnetv2_{}_ssld_stage1_in22k_in1k"
# The first the default.
_PRESETS = {"b4": (_FINE_TUNED,), "b5": (_FINE_TUNED, _FROM_22K), "b6": (_FINE_TUNED, _FROM_22K)}
# Of the stages: convolutions in a block, their kernels, whether they are depthwise after a pointwise one.
_LAYERS, _KERNELS, _LIGHT = 6, (3, 3, 5, 5), (False, False, True, True)


def unroll(network: Any) -> Any:
    """Rebuild a `HGNetV2Backbone` as a network of plain layers, from images to the last stage."""
    import keras

    images = keras.Input(network.input.shape[1:])
    return keras.Model(images, _Plain(network)(images), name=network.name)


class _Plain:
    """Call the plain layers of a network anew, under names that do not begin with the network's own."""

    def __init__(self, network: Any):
        self.embedder, self.stages = network.embedder_layer, network.encoder_layer.stages_list
        self.prefix = self.embedder.name.removesuffix("embedder")

    def __call__(self, x: Any) -> Any:
        x = self._stem(self.embedder, x)
        for number, stage in enumerate(self.stages):
            if number:
                x = self._convolve(stage.downsample_layer, x)
            for block in stage.blocks_list:
                x = self._block(block, x)
        return x

    def _stem(self, stem: Any, x: Any) -> Any:
        """Apply the stem: between two strided convolutions a branch of two small ones beside a maximum."""
        x = self._twin(stem.padding1, self._convolve(stem.stem1_layer, x))
        branch = self._twin(stem.padding2, self._convolve(stem.stem2a_layer, x))
        branch = self._convolve(stem.stem2b_layer, branch)
        x = self._twin(stem.concatenate_layer, [self._twin(stem.pool_layer, x), branch])
        return self._convolve(stem.stem4_layer, self._convolve(stem.stem3_layer, x))

    def _block(self, block: Any, x: Any) -> Any:
        """Apply a block: convolutions in a row, whose outputs are joined and mixed, with a shortcut if it has one."""
        outputs = [x]
        for layer in block.layer_list:
            y = outputs[-1]
            for convolution in (layer.conv1_layer, layer.conv2_layer) if block.light_block else (layer,):
                y = self._convolve(convolution, y)
            outputs.append(y)
        y = self._twin(block.concatenate_layer, outputs)
        y = self._convolve(block.aggregation_excitation_conv, self._convolve(block.aggregation_squeeze_conv, y))
        return self._twin(block.add_layer, [y, x]) if block.residual else y

    def _convolve(self, layer: Any, x: Any) -> Any:
        """Apply a padded convolution and its normalisation, and the activation unless that is the identity."""
        # What keras-hub pads a pointwise kernel by is nothing.
        parts = [layer.padding] if layer.kernel_size > 2 else []
        parts += [layer.convolution, layer.normalization]
        parts += [layer.activation_layer] if layer.activation_name else []
        for part in parts:
            x = self._twin(part, x)
        return x

    def _twin(self, layer: Any, x: Any) -> Any:
        return twin(layer, layer.name.removeprefix(self.prefix), x)


def _network(size: str) -> Network:
    (stem, end), stages = _SIZES[size]
    outputs = [output for _, output, _ in stages]
    return Network(
        "keras_hub",
        "HGNetV2Backbone",
        {
            "depths": tuple(blocks for *_, blocks in stages),
            "embedding_size": end,
            "hidden_sizes": tuple(outputs),
            "stem_channels": (3, stem, end),
            "hidden_act": "relu",
            "use_learnable_affine_block": False,
            "stackwise_stage_filters": tuple(
                (before, within, output, blocks, _LAYERS, kernel)
                for before, (within, output, blocks), kernel in zip((end, *outputs), stages, _KERNELS, strict=False)
            ),
            "apply_downsample": (False, True, True, True),
            "use_lightweight_conv_block": _LIGHT,
        },
        unroll,
    )


def _variant(size: str) -> Variant:
    (stem, _), stages = _SIZES[size]

    def row(stage: int, channels: int, blocks: int) -> str:
        end = "add_residual" if blocks > 1 else "agg_excite_relu"
        layer = f"encoder_stage_{stage}_block_{blocks - 1}_{end}"
        return f"P{stage + 2} {layer} {channels} output of stage {stage + 1}, {blocks} block{'s' * (blocks > 1)}"

    return Variant(
        f"hub_hgnetv2_{size}",
        f"segzoo.backbones.families.hub.hgnetv2:NETWORKS[hub_hgnetv2_{size}]",
        "hub_hgnetv2",
        STANDARDIZED,
        {
            "output": tap_table(
                f"P1 embedder_concat {2 * stem} stem, where its branches meet, before its second stride",
                *(row(stage, output, blocks) for stage, (_, output, blocks) in enumerate(stages)),
            )
        },
        centred_strides=True,
        package="keras-hub",
        presets=tuple(preset.format(size) for preset in _PRESETS[size]),
    )


NETWORKS = {f"hub_hgnetv2_{size}": _network(size) for size in _SIZES}
VARIANTS = {f"hub_hgnetv2_{size}": _variant(size) for size in _SIZES}
BACKBONES.register_all(VARIANTS)
