"""Options of a backbone: one definition for `create`, `build_model` and the configuration."""

from __future__ import annotations

import pytest

from segzoo.backbones import BackboneOptions
from segzoo.config import ModelConfig
from segzoo.errors import SegzooError, UnknownNameError


def test_the_configuration_has_every_option_with_its_default():
    section = ModelConfig(decoder="unet", backbone="resnet18")
    assert section.backbone_options() == BackboneOptions()
    chosen = ModelConfig(
        decoder="unet",
        backbone="efficientnet_b0",
        taps="output",
        output_stride=16,
        weights="none",
        input_channels=4,
        mean=[1, 2, 3, 4],
        std=[5, 6, 7, 8],
        drop_path=0.1,
        trainable="P2",
        batch_norm="frozen",
        compat="smp",
    )
    assert chosen.backbone_options().given().keys() == set(BackboneOptions.names())


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("input_channels", 0, "input_channels must be 1 or more, got 0"),
        ("input_channels", True, "input_channels must be 1 or more, got True"),
        ("output_stride", 16.0, r"output_stride must be 8, 16 or 32, got 16\.0"),
        ("output_stride", True, "output_stride must be 8, 16 or 32, got True"),
        ("drop_path", 1.0, r"drop_path must be in 0\.\.1 \(1 excluded\), got 1\.0"),
        ("batch_norm", "off", "batch_norm must be 'auto', 'train' or 'frozen', got 'off'"),
        ("compat", "caffe", "compat must be 'smp' or 'smp-0.1.0' or .* or None, got 'caffe'"),
    ],
)
def test_a_value_that_an_option_cannot_have_is_refused(option, value, message):
    with pytest.raises(SegzooError, match=message):
        BackboneOptions(**{option: value})


def test_integers_of_numpy_are_integers():
    import numpy as np

    options = BackboneOptions(output_stride=np.int64(16), input_channels=np.uint8(4))
    assert type(options.output_stride) is type(options.input_channels) is int


def test_single_options_override_and_unknown_ones_name_the_nearest():
    options = BackboneOptions(output_stride=16, weights="none")
    assert options.changed({"output_stride": 8}) == BackboneOptions(output_stride=8, weights="none")
    with pytest.raises(UnknownNameError, match=r"option of backbones 'drop_pth'.*drop_path"):
        options.changed({"drop_pth": 0.1})


def test_options_are_given_as_one_object_or_by_name(pixels):
    import numpy as np

    from segzoo.backbones import create
    from segzoo.keras_compat import without_variables
    from segzoo.models.build import build_model

    options = BackboneOptions(weights="none", input_channels=1, output_stride=16)
    assert create("resnet18", options, levels=("P1", "P2")).input_shape == (None, None, None, 1)
    grey = pixels(32, 32)[..., :1]
    with without_variables():
        features = create("resnet18", options)
        named = create("resnet18", weights="none", input_channels=1, output_stride=16)
    assert features.to_json() == named.to_json() and sorted(features.output) == ["P1", "P2", "P3", "P4"]
    given = {"backbone_options": options, "input_channels": 2, "pyramid_channels": 16, "depth": 2}
    model = build_model("fpn", "resnet18", 2, **given)
    assert model.input_shape[3] == 2 and model.built_with["output_stride"] == 16
    assert np.shape(model(np.concatenate([grey, grey], -1))) == (1, 32, 32, 2)


def test_a_wrapped_backbone_takes_no_options(pixels):
    import keras

    from segzoo.backbones import wrap
    from segzoo.models.build import build_model

    images = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", name="one")(images)
    y = keras.layers.Conv2D(4, 3, strides=2, padding="same", name="two")(x)
    backbone = wrap(keras.Model(images, y), {"P1": "one", "P2": "two"})
    with pytest.raises(SegzooError, match="taken as it is; output_stride, drop_path can only"):
        build_model("fpn", backbone, 2, weights="none", output_stride=16, drop_path=0.5)


def test_imitate_warns_at_the_call():
    from segzoo.backbones import create

    with pytest.warns(DeprecationWarning, match="imitate is deprecated") as caught:
        create("resnet18", weights="none", levels=("P1",), imitate="smp")
    assert caught[0].filename == __file__
