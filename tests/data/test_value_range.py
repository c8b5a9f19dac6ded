"""The range of values that images need: what is suggested for numbers of each kind, and where it is said."""

import numpy as np
import pytest
from PIL import Image

from segzoo.data import FolderSource, ImageReader, check_splits, split
from segzoo.data.value_range import is_dark, suggested_for, suggested_range

SIZE = (20, 30)
RNG = np.random.default_rng(0)


def _ramp(low, high, dtype):
    values = np.linspace(low, high, SIZE[0] * SIZE[1]).reshape(SIZE)
    return (values if np.dtype(dtype).kind == "f" else np.rint(values)).astype(dtype)


def files(tmp_path, *arrays):
    for number, array in enumerate(arrays):
        np.save(tmp_path / f"{number}.npy", array)
    return sorted(tmp_path.glob("*.npy"))


@pytest.mark.parametrize(
    ("dtype", "low", "high", "expected"),
    [
        ("uint8", 0, 255, None),
        ("uint8", 0, 100, None),  # dusk
        ("uint8", 0, 1, (0, 1)),
        ("uint8", 0, 15, (0, 15)),
        ("uint8", 2, 60, (0, 63)),
        ("uint16", 0, 65535, None),
        ("uint16", 0, 20000, None),
        ("uint16", 0, 255, (0, 255)),
        ("uint16", 0, 1000, (0, 1023)),
        ("uint16", 3, 4080, (0, 4095)),
        ("uint16", 200, 10000, (0, 16383)),
        ("int16", 0, 255, None),
        ("int16", 0, 3000, (0, 4095)),
        ("int16", -1024, 3071, (-1100, 3100)),
        ("uint32", 0, 200000, (0, 200000)),
        ("float32", 0, 1, (0, 1)),
        ("float64", -1, 1, (-1, 1)),
        ("float32", 0, 255, None),
        ("float32", 0, 1.5, (0, 1.5)),
        ("float32", -3.3, 4.1, (-3.3, 4.1)),
        ("float16", 0, 1, (0, 1)),
        ("bool", 0, 1, (0, 1)),
    ],
)
def test_the_range_follows_the_numbers(tmp_path, dtype, low, high, expected):
    images = [_ramp(low, high, dtype) for _ in range(3)]
    if dtype == "bool":
        images = [np.indices(SIZE).sum(0) % 2 == 0] * 3
    found = suggested_range(files(tmp_path, *images))
    assert (None if found is None else found.range) == (None if expected is None else pytest.approx(expected))


def test_hot_pixels_do_not_hide_12_bits(tmp_path):
    image = RNG.integers(0, 4096, (100, 100), np.uint16)
    image[0, 0] = 65535
    found = suggested_range(files(tmp_path, image))
    assert found.range == (0, 4095)
    low, high = np.sort(image.ravel())[[10, -11]]
    assert str(found) == (
        f"1 of 1 images were looked at: uint16, 99.9 % of the values {low} to {high}, which become "
        "0 to 15. Networks take 0 to 255: set data.value_range: [0, 4095]."
    )


def test_numbers_of_several_kinds_have_no_range(tmp_path):
    found = suggested_range(files(tmp_path, RNG.random(SIZE), RNG.integers(0, 256, SIZE, np.uint8)))
    assert found.range is None and "float64, uint8" in str(found) and "write the images alike" in str(found)
    both = files(tmp_path, RNG.integers(0, 65536, SIZE, np.uint16), RNG.integers(0, 256, SIZE, np.uint8))
    assert suggested_range(both) is None  # both fill 0 to 255 as they are read


def test_files_that_cannot_be_read_are_passed_over(tmp_path):
    paths = files(tmp_path, RNG.random(SIZE), RNG.random(SIZE))
    paths[0].write_bytes(b"")
    assert suggested_range(paths).range == (0, 1)
    assert suggested_range([]) is None


def test_alpha_is_no_evidence(tmp_path):
    import cv2

    image = RNG.integers(0, 4096, (*SIZE, 4)).astype(np.uint16)
    image[..., 3] = 65535
    cv2.imwrite(str(tmp_path / "a.png"), image)
    assert suggested_range([tmp_path / "a.png"]).range == (0, 4095)


def test_dark_images():
    image = np.zeros((100, 100, 3), np.uint8)
    assert is_dark(image) and is_dark(image.astype(np.float32))
    image[:2, :50] = 200
    assert not is_dark(image)


@pytest.fixture
def twelve_bits(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number in range(4):
        image = (np.indices((40, 40)).sum(0) * 50 + RNG.integers(0, 90, (40, 40))).astype(np.uint16)
        Image.fromarray(image).save(tmp_path / "images" / f"{number}.png")
        Image.fromarray((image > 2000).astype(np.uint8)).save(tmp_path / "masks" / f"{number}.png")
    return tmp_path


def test_a_source_is_looked_at_as_it_is_read(twelve_bits):
    source = FolderSource(twelve_bits, "", ["a", "b"])
    assert suggested_for(source).range == (0, 4095)
    assert suggested_for(split(source, fraction=0.5)["val"]).range == (0, 4095)
    ranged = FolderSource(twelve_bits, "", ["a", "b"], images=ImageReader(value_range=(0, 4095)))
    assert suggested_for(ranged) is None
    findings = check_splits({"train": source})
    assert [problem.kind for problem in findings.problems if problem.kind in ("value_range", "dark_image")] == [
        "value_range"
    ]
    assert findings.ok and check_splits({"train": ranged}).problems == []


def test_init_writes_the_range_and_its_evidence(twelve_bits):
    from segzoo.autoconfig import look, propose

    text = propose(look(twelve_bits / "images", twelve_bits / "masks"))
    assert "  value_range: [0, 4095]  # 4 of 4 images were looked at: uint16, 99.9 % of the values" in text
    np.save(twelve_bits / "images" / "4.npy", RNG.random((40, 40)))
    Image.fromarray(np.eye(40, dtype=np.uint8)).save(twelve_bits / "masks" / "4.png")
    text = propose(look(twelve_bits / "images", twelve_bits / "masks"))
    assert "  # CHANGE: The images hold numbers of several kinds (uint16, float64)" in text


def test_training_says_it(twelve_bits, monkeypatch, caplog, small_network):
    from segzoo.config import load_config
    from segzoo.engine import train

    monkeypatch.chdir(twelve_bits)
    (twelve_bits / "run.yaml").write_text(
        "model: {decoder: unet, backbone: efficientnet_b0, weights: none, input_channels: 1}\n"
        "data: {source: folder, root: ., classes: [a, b], split: {fraction: 0.5}, batch_size: 1}\n"
        "training: {epochs: 1, steps_per_epoch: 1}\noutput: {pictures: 0}\n"
    )
    train(load_config(twelve_bits / "run.yaml"))
    assert "Networks take 0 to 255: set data.value_range: [0, 4095]." in caplog.text


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_passed_over(wrong, tmp_path):
    """Missing values are often NaN: the range is that of the others."""
    image = RNG.random((20, 30), np.float32)
    image[:5] = wrong
    Image.fromarray(image).save(tmp_path / "some.tif")
    Image.fromarray(np.full((20, 30), wrong, np.float32)).save(tmp_path / "all.tif")
    assert suggested_range([tmp_path / "some.tif", tmp_path / "all.tif"]).range == (0, 1)
    assert suggested_range([tmp_path / "all.tif"]) is None


def test_numbers_beyond_float32_are_for_the_reader_to_refuse(tmp_path):
    np.save(tmp_path / "far.npy", np.tile([-1.7e308, 1.7e308], (20, 15)))
    assert suggested_range([tmp_path / "far.npy"]) is None
    np.save(tmp_path / "near.npy", np.linspace(-3e38, 3e38, 600).reshape(20, 30))
    low, high = suggested_range([tmp_path / "near.npy"]).range
    assert low == pytest.approx(-3e38, rel=0.1) and high == pytest.approx(3e38, rel=0.1)
