"""Families of other libraries that segzoo has no network of, by a tensor that tells each."""

from __future__ import annotations

from segzoo.interop.backbones.source import Source, Stranger

SOURCES: list[Source] = []
STRANGERS = [
    Stranger(name="InceptionV4", sign="features.0.conv.weight", nearest="inceptionv3"),
    Stranger(name="a Swin transformer", sign="layers.#.blocks.#.attn.relative_position_bias_table",
             nearest="hub_mit_b2"),
    Stranger(name="a Swin transformer", sign="features.#.#.attn.relative_position_bias_table", nearest="hub_mit_b2"),
    Stranger(name="an HRNet", sign="stage#.#.branches.#.#.conv1.weight", nearest="resnet50_v1b"),
    Stranger(name="a RegNet", sign="trunk_output.block#.block#-#.f.a.0.weight", nearest="resnet50_v1b"),
    Stranger(name="a RegNet", sign="s#.b#.conv1.conv.weight", nearest="resnet50_v1b"),
    Stranger(name="an SE-ResNet of 18 or 34 layers", sign="layer#.#.se_module.fc1.weight", nearest="se_resnet50"),
    Stranger(name="a DPN", sign="features.conv1_#.c1x1_a.conv.weight", nearest="densenet121"),
    Stranger(name="MobileNetV1", sign="blocks.5.1.conv_pw.weight", shape=(1024, 1024, 1, 1), nearest="mobilenet"),
]  # fmt: skip
