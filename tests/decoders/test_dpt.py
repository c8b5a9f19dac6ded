"""DPT against segmentation_models.pytorch, and what it does that is not there: patches of 14, any size."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import smp_dpt
from networks import NARROW, small_vit
from test_parameter_counts import count

import segzoo
from segzoo.decoders import DPT

# What segmentation_models.pytorch 0.6.0 with timm 1.0.31 returned, written by smp_dpt.py; the network's positions are
# for 48x48, so that they are interpolated at both sizes.
FILE = Path(__file__).parent / "data" / "dpt_smp.json"
GOLDEN = json.loads(FILE.read_text())


@pytest.mark.parametrize("readout", smp_dpt.READOUTS)
def test_logits_and_parameters_are_smps(readout: str) -> None:
    model, golden = smp_dpt.ours(readout), GOLDEN[readout]
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == golden["parameters"]
    for height, width in smp_dpt.SIZES:
        logits = np.asarray(model(smp_dpt.images(height, width), training=False))
        expected = golden["logits"][f"{height}x{width}"]
        assert logits.std() > 0.1
        np.testing.assert_allclose(smp_dpt.part(logits), expected, atol=1e-3 * logits.std())


@pytest.mark.peers
def test_the_file_is_what_the_installed_original_returns(tmp_path: Path) -> None:
    """In a process of its own: PyTorch is imported before TensorFlow there."""
    if importlib.util.find_spec("segmentation_models_pytorch") is None:
        pytest.skip("needs segmentation_models_pytorch and timm")
    path = [str(Path(smp_dpt.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    subprocess.run([sys.executable, smp_dpt.__file__, tmp_path / "found.json"], env=environment, check=True)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["default parameters"] == GOLDEN["default parameters"]
    for readout in smp_dpt.READOUTS:
        assert found[readout]["parameters"] == GOLDEN[readout]["parameters"]
        for size, expected in GOLDEN[readout]["logits"].items():
            np.testing.assert_allclose(found[readout]["logits"][size], expected, atol=1e-3 * np.std(expected))


def test_parameters_with_default_options(inputs) -> None:
    """Decoder and head for one class, on a ViT of 768 channels."""
    levels = [level for level in DPT.levels(32) if level != "P0"]
    found = count("dpt", inputs({"P0": 3, **dict.fromkeys(levels, 768)}))
    assert found == GOLDEN["default parameters"] == 35_210_497


@pytest.mark.parametrize("patch", [8, 14, 32])
def test_any_patch_and_any_size(patch: int, pixels) -> None:
    model = segzoo.build_model("dpt", small_vit(patch=patch), 3, weights="none", patch=patch, **NARROW["dpt"])
    for size in ((32, 32), (33, 47), (97, 131)):
        logits = np.asarray(model(pixels(*size), training=False))
        assert logits.shape == (1, *size, 3) and logits.std() > 0


def test_what_lies_beyond_the_image_is_cut_off() -> None:
    """Places in the image, as tokens, come out where they lie: no side is stretched."""
    features, patch, size = {}, 14, (45, 89)
    grid = [-(-side // patch) for side in size]
    centres = [(np.arange(count) + 0.5) * patch for count in grid]
    places = np.stack(np.meshgrid(*centres, indexing="ij"), axis=-1)[None].astype("float32")
    image = np.zeros((1, *size, 3), "float32")
    for level in ("T1", "T2", "T3", "T4"):
        features[level] = places
    decoder = DPT("ignore", (2,) * 4, 2, 0.0, patch=patch, normalization="none", activation="linear")
    decoder({"P0": image, **features})
    for weight in decoder.weights:
        weight.assign(np.zeros(weight.shape))
    centre = np.zeros((3, 3, 2, 2))
    centre[1, 1] = np.eye(2)
    # T1 alone: its map is enlarged by repeating, and passes all that follows unchanged.
    project, enlarge, width = decoder.reassembled[0]
    project.kernel.assign(np.eye(2)[None, None])
    enlarge.kernel.assign(np.broadcast_to(np.eye(2), enlarge.kernel.shape))
    width.kernel.assign(centre)
    decoder.projections[0].kernel.assign(np.eye(2)[None, None])
    decoder.last.convolutions[0].kernel.assign(centre)
    decoded = np.asarray(decoder({"P0": image, **features}))
    assert decoded.shape == (1, -(-45 * 8 // 14), -(-89 * 8 // 14), 2)
    for axis in (0, 1):
        line = np.take(decoded[0, ..., axis], 0, axis=1 - axis)
        expected = (np.arange(len(line)) + 0.5) * 14 / 8
        # A patch's place is its centre, for each of its eight rows.
        assert np.abs(line - expected).max() <= 7 + 14 / 8


def test_bad_options_of_dpt() -> None:
    with pytest.raises(ValueError, match="readout must be one of cat, add, ignore, got 'concat'"):
        DPT("concat")
    with pytest.raises(ValueError, match=r"intermediate_channels must be 4 numbers, got \[4, 8\]"):
        DPT(intermediate_channels=(4, 8))


def test_tokens_without_a_prefix(pixels) -> None:
    """A network without class token: "cat" has a linear layer of the tokens alone, "add" nothing to add."""
    vit = small_vit()
    bare = keras.Model(vit.input, {level: vit.output[level] for level in ("T1", "T2", "T3", "T4")}, name="bare")
    for readout in ("cat", "add"):
        model = segzoo.build_model("dpt", bare, 3, weights="none", readout=readout, **NARROW["dpt"])
        assert model(pixels(33, 47), training=False).shape == (1, 33, 47, 3)
