"""Batch transforms: their values against the papers' formulas, masks of every mode, and what is refused."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from segzoo.config import json_schema, load_config
from segzoo.config.memory import least_bytes
from segzoo.data import (
    BATCH_TRANSFORMS,
    BatchTransform,
    BatchTransforms,
    GeneratedShapes,
    TrainBatches,
    create_batch_transform,
)
from segzoo.data.batch_transforms import hard
from segzoo.data.batch_transforms.contract import partners
from segzoo.engine.checkpoint.provenance import differences
from segzoo.errors import ConfigError, DataError, UnknownNameError
from segzoo.task import Task

CLASSES, IGNORE = ("ground", "car", "tree"), 255
CHAIN = [{"copy_paste": {"objects": ["disc"], "p": 1.0}}, "cutmix", {"mixup": {"alpha": 1.0}}]


def masks_of(mode: str, count: int = 3, size: tuple[int, int] = (6, 7), seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    labels = {"multiclass": [0, 1, 2, IGNORE], "binary": [0, 1, IGNORE], "multilabel": [0, 1, IGNORE]}[mode]
    shape = (count, *size, len(CLASSES)) if mode == "multilabel" else (count, *size)
    return rng.choice(labels, shape).astype(np.uint8)


def images_of(dtype: str, count: int = 3, size: tuple[int, int] = (6, 7)) -> np.ndarray:
    rng = np.random.default_rng(1)
    high = 65535 if dtype == "uint16" else 255
    return rng.uniform(0, high, (count, *size, 3)).astype(dtype)


def make(name: str, mode: str = "multiclass", **options: object) -> BatchTransform:
    classes = CLASSES[:2] if mode == "binary" else CLASSES
    return create_batch_transform(name, Task(classes, IGNORE, mode), **options)


class FixedWeight:
    """A generator that draws what is wanted: the weight of each sample, and a cycle of partners."""

    def __init__(self, weight: float, uniform: float = 0.0):
        self.weight, self.uniform = weight, uniform

    def permutation(self, count):
        return np.arange(count)[::-1]

    def beta(self, a, b, size):
        return np.full(size, self.weight)

    def random(self, size):
        return np.full(size, self.uniform)


def test_partners_are_others_and_each_comes_once():
    for count, seed in itertools.product((2, 3, 8), range(20)):
        found = partners(count, np.random.default_rng(seed))
        assert sorted(found) == list(range(count)) and (found != np.arange(count)).all()
    assert partners(1, np.random.default_rng(0)).tolist() == [0]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_mixup_is_the_weighted_mean_of_images(dtype):
    images = images_of(dtype)
    found, _ = make("mixup")(images, masks_of("multiclass"), FixedWeight(0.75))
    wanted = 0.75 * images.astype(float) + 0.25 * np.roll(images.astype(float), -1, axis=0)  # partner of n: n + 1
    assert found.dtype == images.dtype
    np.testing.assert_allclose(found, wanted, atol=1e-4 * wanted.max() if dtype == "float32" else 0.51)
    if dtype != "float32":
        np.testing.assert_array_equal(found, np.rint(wanted))


def test_mixup_of_labels_gives_shares_and_ignores_what_either_ignores():
    masks = np.array([[[0, 1, IGNORE, 2]], [[0, 2, 1, IGNORE]]], np.uint8)
    _, soft = make("mixup")(images_of("uint8", 2, (1, 4)), masks, FixedWeight(0.75))
    first = [[1, 0, 0], [0, 0.75, 0.25], [0, 0, 0], [0, 0, 0]]
    second = [[1, 0, 0], [0, 0.25, 0.75], [0, 0, 0], [0, 0, 0]]
    assert soft.dtype == np.float32
    np.testing.assert_array_equal(soft, [[first], [second]])


@pytest.mark.parametrize("mode", ["binary", "multilabel"])
def test_mixup_keeps_the_ignore_index_in_place_of_a_share(mode):
    masks = masks_of(mode)
    _, soft = make("mixup", mode)(images_of("uint8"), masks, FixedWeight(0.75))
    given = masks if mode == "multilabel" else masks[..., None]
    other = np.roll(given, -1, axis=0)
    wanted = np.where((given == IGNORE) | (other == IGNORE), IGNORE, 0.75 * given + 0.25 * other)
    np.testing.assert_array_equal(soft, wanted)
    assert soft.dtype == np.float32 and set(np.unique(soft)) == {0, 0.25, 0.75, 1, IGNORE}


@pytest.mark.parametrize("mode", ["multiclass", "binary", "multilabel"])
def test_a_sample_that_is_not_mixed_keeps_all_labels(mode):
    images, masks = images_of("float32"), masks_of(mode)
    transform = make("mixup", mode, p=0.5)
    found, soft = transform(images, masks, FixedWeight(0.25, uniform=0.9))
    np.testing.assert_array_equal(found, images)
    for one, mask in zip(soft, masks, strict=True):
        np.testing.assert_array_equal(hard(one, Task(CLASSES, IGNORE, mode)), mask)
    again = transform(images, soft, FixedWeight(0.25, uniform=0.9))[1]
    np.testing.assert_array_equal(again, soft)


def test_mixup_draws_from_the_beta_distribution():
    alpha, drawn = 0.4, []
    images = np.stack([np.full((1, 1, 1), value, np.float32) for value in (0.0, 1.0)])
    for seed in range(3000):
        found, _ = make("mixup", alpha=alpha)(images, np.zeros((2, 1, 1), np.uint8), np.random.default_rng(seed))
        drawn.append(float(found[1, 0, 0, 0]))
    # Of Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1))
    assert np.mean(drawn) == pytest.approx(0.5, abs=0.03)
    assert np.var(drawn) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.06)


@pytest.mark.parametrize("mode", ["multiclass", "binary", "multilabel"])
def test_cutmix_takes_pixels_and_labels_of_one_rectangle(mode):
    """The rectangle of the paper's equation 2, cut off at the border: sides sqrt(1 - l), here a half."""
    size = (20, 30)
    images, masks = images_of("uint8", 2, size), masks_of(mode, 2, size)
    images[1] = 255 - images[0]
    found, labels = make("cutmix", mode, p=1.0)(images, masks, FixedWeight(0.75, uniform=0.0))
    corner = np.zeros(size, bool)
    corner[:5, :7] = True  # centred on (0, 0): rows -5..4, columns -7..7, of which the last is 15 - 7 = 8
    corner[:5, 7] = True
    for index, other in ((0, 1), (1, 0)):
        taken = (found[index] == images[other]).all(-1)
        np.testing.assert_array_equal(taken, corner)
        where = corner if mode != "multilabel" else corner[..., None]
        np.testing.assert_array_equal(labels[index], np.where(where, masks[other], masks[index]))
    assert labels.dtype == masks.dtype


def test_cutmix_takes_the_share_that_was_drawn():
    """Away from the border the rectangle's area is 1 - l of the image."""

    class Middle(FixedWeight):
        def random(self, size):
            return np.full(size, 0.5)

    images = np.stack([np.full((100, 80, 1), value, np.uint8) for value in (0, 1)])
    for weight in (0.0, 0.19, 0.36, 0.75, 0.99):
        found, _ = make("cutmix", p=1.0)(images, np.zeros((2, 100, 80), np.uint8), Middle(weight))
        assert found[0].mean() == pytest.approx(1 - weight, abs=0.02)


def test_copy_paste_takes_whole_objects_of_the_classes():
    masks = np.zeros((2, 8, 8), np.uint8)
    masks[1, 1:3, 1:3] = 1  # two cars, the second joined at a corner, and a tree
    masks[1, 3, 3] = 1
    masks[1, 6, 1:4] = 1
    masks[1, 5:8, 6] = 2
    masks[0, :, 7] = IGNORE
    images = images_of("uint8", 2, (8, 8))
    transform = make("copy_paste", objects=["car"], p=1.0)
    seen = set()
    for seed in range(40):
        found, labels = transform(images, masks, np.random.default_rng(seed))
        pasted = (labels[0] == 1).astype(int)
        first, second = pasted[1, 1], pasted[6, 1]
        seen.add((first, second))
        wanted = (masks[1] == 1) & np.where(np.arange(8)[:, None] < 5, first, second).astype(bool)
        np.testing.assert_array_equal(labels[0], np.where(wanted, 1, masks[0]))
        np.testing.assert_array_equal(found[0], np.where(wanted[..., None], images[1], images[0]))
        np.testing.assert_array_equal(labels[1], masks[1])  # the other has no car to give
    assert seen == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_copy_paste_brings_all_labels_of_a_pixel_in_multilabel():
    masks = np.zeros((2, 4, 4, 3), np.uint8)
    masks[1, :2, :2, 1] = 1
    masks[1, 0, 0, 2] = IGNORE
    masks[0, 1, 1] = [1, 0, 1]
    images = images_of("float32", 2, (4, 4))
    transform = make("copy_paste", "multilabel", objects=["car"], p=1.0, fraction=1.0)
    found, labels = transform(images, masks, np.random.default_rng(0))
    np.testing.assert_array_equal(labels[0, :2, :2], masks[1, :2, :2])
    np.testing.assert_array_equal(labels[0, 2:], masks[0, 2:])
    np.testing.assert_array_equal(found[0, :2, :2], images[1, :2, :2])


@pytest.mark.parametrize("name", ["mixup", "cutmix", "copy_paste"])
@pytest.mark.parametrize("mode", ["multiclass", "binary", "multilabel"])
def test_arrays_that_are_given_stay_and_one_sample_has_no_partner(name, mode):
    options = {"objects": ["car"], "p": 1.0} if name == "copy_paste" else {"p": 1.0}
    images, masks = images_of("uint8"), masks_of(mode)
    before = images.copy(), masks.copy()
    make(name, mode, **options)(images, masks, np.random.default_rng(0))
    np.testing.assert_array_equal(images, before[0])
    np.testing.assert_array_equal(masks, before[1])
    found, labels = make(name, mode, **options)(images[:1], masks[:1], np.random.default_rng(0))
    np.testing.assert_array_equal(found, images[:1])
    np.testing.assert_array_equal(hard(labels[0], Task(CLASSES, IGNORE, mode)), masks[0])


@pytest.fixture
def batches():
    def batches(workers: int = 0, seed: int = 5, **options: object) -> TrainBatches:
        source = GeneratedShapes("train", 11, (32, 32))
        chain = BatchTransforms.of(CHAIN, Task(source.classes))
        return TrainBatches(source, 4, seed, workers=workers, batch_transforms=chain, **options)

    return batches


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("start", [0, 1, 3])
def test_batches_depend_on_neither_workers_nor_where_they_start(batches, workers, start):
    reference = list(itertools.islice(batches().batches(), 5))
    found = itertools.islice(batches(workers).batches(start), 5 - start)
    for (images, masks), (true_images, true_masks) in zip(found, reference[start:], strict=True):
        np.testing.assert_array_equal(images, true_images)
        np.testing.assert_array_equal(masks, true_masks)
        assert masks.shape == (4, 32, 32, len(GeneratedShapes("train", 1).classes)) and masks.dtype == np.float32


def test_batches_differ_between_steps_epochs_and_seeds(batches):
    """The same two samples in each batch, and only the transforms draw anew."""
    source = GeneratedShapes("train", 2, (32, 32))
    chain = BatchTransforms.of([{"mixup": {"alpha": 1.0}}], Task(source.classes))

    def made(seed: int, step: int) -> list[float]:
        images, _ = TrainBatches(source, 2, seed, batch_transforms=chain).batch(step)
        return sorted(images.astype(float).mean((1, 2, 3)).tolist())

    means = [made(seed, step) for seed in (0, 1) for step in range(3)]
    assert len({tuple(mean) for mean in means}) == len(means)


def test_processes_share_every_batch_as_one_would_make_it(batches):
    whole = batches().batches()
    parts = [batches(rows=range(2 * n, 2 * n + 2)).batches() for n in range(2)]
    for (images, masks), *shares in itertools.islice(zip(whole, *parts, strict=True), 4):
        np.testing.assert_array_equal(np.concatenate([share[0] for share in shares]), images)
        np.testing.assert_array_equal(np.concatenate([share[1] for share in shares]), masks)


def test_every_transform_of_a_chain_has_a_stream_of_its_own():
    class Recorder(BatchTransform):
        def __call__(self, images, masks, rng):
            drawn.append(rng.random())
            return images, masks

    drawn: list[float] = []
    chain = BatchTransforms([Recorder(Task(CLASSES)), Recorder(Task(CLASSES))], ["a", "b"])
    images, masks = images_of("uint8"), masks_of("multiclass")
    for seed in ((0, 0, 0), (0, 0, 1), (0, 0, 0)):
        chain(images, masks, seed)
    assert len(set(drawn)) == 4 and drawn[:2] == drawn[4:]


class Odd(BatchTransform):
    """Does one wrong thing."""

    def __init__(self, wrong: str = "", **kwargs):
        super().__init__(**kwargs)
        self.wrong = wrong

    def __call__(self, images, masks, rng):
        if self.wrong == "raises":
            raise KeyError("car")
        if self.wrong == "nothing":
            return None
        return {
            "float": (images / 255, masks),
            "list": (images.tolist(), masks),
            "size": (images[:, ::2], masks[:, ::2]),
            "masks": (images, masks[..., None]),
            "label": (images, np.full_like(masks, 7)),
        }[self.wrong]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("raises", r"odd failed on images \(3, 6, 7, 3\) uint8 and masks \(3, 6, 7\) uint8: KeyError: 'car'"),
        ("nothing", "odd failed on images"),
        ("list", "odd failed on images .*'list' object"),
        ("float", r"odd returned images \(3, 6, 7, 3\) float64 in place of \(3, 6, 7, 3\) uint8"),
        ("size", r"odd returned images \(3, 3, 7, 3\)"),
        ("masks", r"odd returned masks \(3, 6, 7, 1\)"),
        ("label", r"masks with 126 values that are neither in 0\.\.2 nor 255, such as 7"),
    ],
)
def test_what_a_transform_may_not_return_is_refused(wrong, message):
    chain = BatchTransforms([Odd(wrong, task=Task(CLASSES))], ["odd"])
    with pytest.raises(DataError, match=message):
        chain(images_of("uint8"), masks_of("multiclass"), (0, 0, 0))


RECIPE = """\
model: {decoder: fpn, backbone: resnet18}
data:
  source: generated
  batch_size: 4
  batch_transforms:
    - %s
    - cutmix
training: {epochs: 1}
"""


@pytest.mark.parametrize(
    ("entry", "overrides", "message"),
    [
        ("mixop", [], r"r.yaml:6: data.batch_transforms.0: .*batch transform.*mixop.*mixup"),
        ("mixup: {alhpa: 1}", [], r"r.yaml:6: data.batch_transforms.0.mixup.alhpa: .*mean alpha\? Known: alpha, p"),
        ("mixup: {classes: [a]}", [], r"r.yaml:6: data.batch_transforms.0.mixup.classes: .*no option"),
        ("mixup: {alpha: 0}", [], r"r.yaml:6: data.batch_transforms.0: mixup: alpha must be above 0.*not 0"),
        ("mixup: {alpha: true}", [], r"alpha must be above 0.*not True"),
        ("mixup: {alpha: much}", [], r"r.yaml:6: data.batch_transforms.0: mixup: alpha must be above 0.*not 'much'"),
        ("mixup: {alpha: null}", [], r"alpha must be above 0 and at most 100, not None"),
        ("copy_paste: {objects: {disc: 1}}", [], r"objects must be a list of one or more classes, not \{'disc': 1\}"),
        ("copy_paste: {objects: 3}", [], r"objects must be a list of one or more classes, not 3"),
        ("cutmix: {p: 1.5}", [], r"p must be above 0 and at most 1, not 1.5"),
        ("cutmix: 3", [], r"r.yaml:6: data.batch_transforms.0: .*is no batch transform. Write"),
        ("{cutmix: null, mixup: null}", [], r"is no batch transform. Write"),
        ("copy_paste", [], r"r.yaml:6: data.batch_transforms.0: copy_paste: .*objects"),
        ("copy_paste: {objects: [discs]}", [], r"discs.*disc"),
        ("copy_paste: {objects: disc}", [], r"objects must be a list of one or more classes, not 'disc'"),
        ("mixup", ["data.batch_size=1"], r"data.batch_size: mixup needs batches of 2 samples or more, got 1"),
        ("mixup", ["loss={dice: 1.0, boundary: 0.1}"], r"0: mixup makes shares .* the loss boundary .*Take cutmix"),
        (
            "mixup\n    - copy_paste: {objects: [disc]}",
            [],
            r"r.yaml:7: data.batch_transforms.1: copy_paste takes masks of labels, and mixup .*put it before mixup",
        ),
    ],
)
def test_what_cannot_work_is_refused_with_its_place(tmp_path, entry, overrides, message):
    (tmp_path / "r.yaml").write_text(RECIPE % entry)
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path / "r.yaml", overrides)


def test_hard_transforms_go_with_the_boundary_loss(tmp_path):
    (tmp_path / "r.yaml").write_text(RECIPE % "copy_paste: {objects: [disc]}")
    config = load_config(tmp_path / "r.yaml", ["loss={dice: 1.0, boundary: 0.1}"])
    assert config.data.batch_transforms == [{"copy_paste": {"objects": ["disc"]}}, "cutmix"]


def test_runs_of_before_go_on_and_shares_count_in_the_memory_of_a_batch(tmp_path):
    (tmp_path / "r.yaml").write_text(RECIPE % "mixup")
    mixed = load_config(tmp_path / "r.yaml")
    plain = load_config(tmp_path / "r.yaml", ["data.batch_transforms=[]"])
    before = plain.model_dump(mode="json")
    del before["data"]["batch_transforms"]  # as an older version wrote it
    assert differences({"config": before}, {"config": plain.model_dump(mode="json")}) == []
    (difference,) = differences({"config": before}, {"config": mixed.model_dump(mode="json")})
    assert difference == "data.batch_transforms was None and is ['mixup', 'cutmix']"
    pixels = 4 * 128 * 128 * (1 + 2 * 2)  # of the batches that two workers read ahead
    sizes = [next(iter(least_bytes(config).values())) for config in (plain, mixed)]
    assert sizes == [pixels * (3 + 1), pixels * (3 + 4 * 6)]


def test_a_registered_transform_is_like_a_built_in_one(tmp_path):
    class Noise(BatchTransform):
        """Shifts every sample's brightness."""

        def __init__(self, strength: float = 3.0, **kwargs):
            super().__init__(**kwargs)
            self.strength = strength

        def __call__(self, images, masks, rng):
            shift = rng.normal(0, self.strength, (len(images), 1, 1, 1))
            return np.clip(images + shift, 0, 255).astype(images.dtype), masks

    BATCH_TRANSFORMS.register("noise", Noise)
    try:
        (tmp_path / "r.yaml").write_text(RECIPE % "noise: {strenght: 2.0}")
        with pytest.raises(ConfigError, match=r"0.noise.strenght: .*did you mean strength\? Known: strength"):
            load_config(tmp_path / "r.yaml")
        config = load_config(tmp_path / "r.yaml", ["data.batch_transforms=[noise: {strength: 2.0}]"])
        chain = BatchTransforms.of(config.data.batch_transforms, Task(CLASSES, IGNORE))
        assert chain.transforms[0].strength == 2.0
        for kind in ("FolderData", "GeneratedData"):
            items = json_schema()["$defs"][kind]["properties"]["batch_transforms"]["items"]
            assert set(items["anyOf"][0]["enum"]) == {"mixup", "cutmix", "copy_paste", "noise"}
    finally:
        BATCH_TRANSFORMS.unregister("noise")
    with pytest.raises(UnknownNameError, match="Unknown batch transform 'noise'"):
        create_batch_transform("noise", Task(CLASSES))


def test_the_example_of_the_page_works_as_it_stands(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    exec(re.search(r"```python\n(import numpy.*?)```", page, re.DOTALL)[1], {})
    try:
        (tmp_path / "r.yaml").write_text(RECIPE % "shade: {low: 0.25}")
        entries = load_config(tmp_path / "r.yaml").data.batch_transforms[:1]
        images, masks = images_of("uint8"), masks_of("multiclass")
        found, labels = BatchTransforms.of(entries, Task(CLASSES, IGNORE))(images, masks, (0, 0, 0))
        factors = found.sum((1, 2, 3)) / images.sum((1, 2, 3))
        assert ((factors > 0.2) & (factors < 1)).all() and len(set(factors)) == 3
        np.testing.assert_array_equal(labels, masks)
    finally:
        BATCH_TRANSFORMS.unregister("shade")


def test_naming_them_starts_no_framework():
    code = (
        "import sys; from segzoo.data import BATCH_TRANSFORMS; [BATCH_TRANSFORMS[name] for name in BATCH_TRANSFORMS];"
        "print([m for m in ('tensorflow', 'keras') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
