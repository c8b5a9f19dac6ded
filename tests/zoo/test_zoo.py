"""Every backbone with every decoder that its levels allow: built, called, trained a step, saved and read back."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import keras
import numpy as np
import pytest
from checks import check_network
from networks import NARROW, small_backbone

import segzoo
from segzoo.backbones import BACKBONES, reference
from segzoo.backbones.figures import figures
from segzoo.decoders import DECODERS
from segzoo.decoders.table import OF_TOKENS
from segzoo.errors import SegzooError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="gradients by tf.GradientTape"),
]
BUILT: dict = {}


def fits(backbone: str, decoder: str) -> bool:
    """Return True if the backbone has the levels that the decoder needs."""
    variant, decoder_class = BACKBONES[backbone], DECODERS[decoder]
    stride = 32 if variant.undilated else decoder_class.default_output_stride
    try:
        decoder_class.levels(stride, (*variant.levels(None, stride), *variant.inner_levels(None, stride)))
    except SegzooError:
        return False
    return True


# With a copy of its weights and their gradients, a larger one takes more than the 16 GB of a runner.
MOST_PARAMETERS = 500_000_000


def pairs() -> list[tuple[str, str]]:
    """All pairs that fit; the default run has the smallest network of each family in tests/backbones."""
    tried = [name for name in BACKBONES if figures(name).parameters < MOST_PARAMETERS]
    return [(backbone, decoder) for backbone in tried for decoder in DECODERS if fits(backbone, decoder)]


@pytest.fixture(autouse=True)
def one_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build each reference network once for all decoders; backbones copy it and leave it as it is."""
    structure = reference.structure

    def remembered(variant):
        if BUILT.get("name") != variant.name:
            BUILT.update(name=variant.name, network=structure(variant))
        return BUILT["network"]

    monkeypatch.setattr(reference, "structure", remembered)


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    """Random numbers for initial weights, drawn once for all networks."""
    return np.random.default_rng(0).standard_normal(2**22).clip(-2, 2).astype("float32")


@pytest.fixture
def quick_weights(noise: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Initial kernels of the right spread from one pool of random numbers, each from another place in it."""
    counter = itertools.count()

    def drawn(self, shape, dtype=None):
        places = math.prod(shape[:-2])
        fans = {"fan_in": places * shape[-2], "fan_out": places * shape[-1]} if len(shape) > 1 else {}
        fan = fans.get(self.mode, sum(fans.values()) / 2)
        begin = next(counter) * 104_729 % (noise.size // 2)
        values = np.resize(noise[begin : begin + math.prod(shape)], shape) * np.sqrt(self.scale / max(1.0, fan))
        return keras.ops.convert_to_tensor(values, dtype)

    monkeypatch.setattr(keras.initializers.VarianceScaling, "__call__", drawn)


@pytest.mark.zoo
@pytest.mark.parametrize(("backbone", "decoder"), pairs())
def test_pair(
    backbone: str,
    decoder: str,
    pixels,
    tmp_path: Path,
    record_property,
    wants_table: bool,
    installed,
    quick_weights,
    smooth,
    loaded_elsewhere,
) -> None:
    installed(backbone)
    keras.utils.set_random_seed(0)
    model = segzoo.build_model(decoder, backbone, 3, weights="none", drop_path=0.0, **smooth(decoder))
    check_network(model, tmp_path, pixels, loaded_elsewhere)
    if wants_table:
        from segzoo.complexity import gflops

        parameters = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
        record_property("parameters", parameters)
        record_property("gflops", gflops(model, (256, 256)))
    # The largest networks have 350 million parameters: a copy that is done with makes room for the next.
    del model
    keras.backend.clear_session()  # which collects garbage, too


def decoders_on_levels() -> list:
    """All decoders on P1 to P5, and on P2 to P5; marked `zoo` where a decoder that reads no P1 would get the same."""
    cases = []
    for decoder in (name for name in DECODERS if name not in OF_TOKENS):  # those: tests/backbones/test_plain_vit.py
        decoder_class = DECODERS[decoder]
        stride = decoder_class.default_output_stride
        read = [decoder_class.levels(stride, tuple(f"P{level}" for level in range(first, 6))) for first in (1, 2)]
        cases += [
            pytest.param(decoder, 1, True, id=f"{decoder}-P1"),
            pytest.param(decoder, 2, False, id=f"{decoder}-P2", marks=pytest.mark.zoo if read[0] == read[1] else ()),
            pytest.param(decoder, 2, True, id=f"{decoder}-P2-saved", marks=pytest.mark.zoo),
        ]
    return cases


@pytest.mark.parametrize(("decoder", "first", "is_saved"), decoders_on_levels())
def test_decoder_on_levels(decoder: str, first: int, is_saved: bool, tmp_path: Path, pixels, loaded_elsewhere) -> None:
    """A decoder sees only the levels of a network: all of them, or without P1 as those of ConvNeXt and MiT."""
    keras.utils.set_random_seed(0)
    model = segzoo.build_model(decoder, small_backbone(first), 3, **NARROW[decoder])
    check_network(model, tmp_path, pixels, loaded_elsewhere if is_saved else None)
