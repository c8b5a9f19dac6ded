import itertools
import subprocess
import sys
import traceback

import numpy as np
import pytest

from segzoo.data import Augmentation, Crop, EvalBatches, FolderSource, GeneratedShapes, Sample, TrainBatches
from segzoo.errors import DataError

CHAIN = [{"RandomScale": {"p": 1.0}}, {"PadIfNeeded": {"min_height": 40, "min_width": 40}},
         {"RandomCrop": {"height": 40, "width": 40}}, "HorizontalFlip", "ColorJitter"]  # fmt: skip


class Numbered:
    """A source whose sample n is filled with n, of the size that `sizes` gives; `broken` samples raise."""

    def __init__(self, sizes: list[tuple[int, int]], broken: frozenset[int] = frozenset()):
        self.sizes, self.broken = sizes, broken
        self.ids = [f"s{n}" for n in range(len(sizes))]
        self.classes, self.ignore_index = ["a"], 255

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        if index in self.broken:
            raise DataError(f"file_{index}.png: broken")
        size = self.sizes[index]
        return Sample(np.full((*size, 3), index, np.uint8), np.zeros(size, np.uint8), self.ids[index])

    def fingerprint(self) -> str:
        return ""


def numbers(batches, count):
    """The sample numbers in each of the next `count` batches."""
    return [images[:, 0, 0, 0].tolist() for images, _ in itertools.islice(batches, count)]


@pytest.fixture(scope="module")
def reference():
    return list(itertools.islice(make(0).batches(), 12))


def make(workers: int, seed: int = 5) -> TrainBatches:
    return TrainBatches(GeneratedShapes("train", 19, (48, 48)), 4, seed, Augmentation(CHAIN, 255), workers)


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
@pytest.mark.parametrize("start", [0, 1, 3, 4, 7, 9])
def test_batches_depend_on_neither_workers_nor_where_they_start(workers, start, reference):
    found = itertools.islice(make(workers).batches(start), 12 - start)
    for (images, masks), (true_images, true_masks) in zip(found, reference[start:], strict=True):
        np.testing.assert_array_equal(images, true_images)
        np.testing.assert_array_equal(masks, true_masks)
        assert images.shape == (4, 40, 40, 3) and images.dtype == np.uint8
        assert masks.shape == (4, 40, 40) and masks.dtype == np.uint8


def test_another_seed_and_another_epoch_give_other_batches(reference):
    assert make(0).steps_per_epoch == 4
    assert (make(0, seed=6).batch(0)[0] != reference[0][0]).any()
    assert (reference[4][0] != reference[0][0]).any()


def test_an_epoch_shows_each_sample_once_and_drops_the_remainder():
    batches = TrainBatches(Numbered([(8, 8)] * 10), 3, seed=1)
    assert batches.steps_per_epoch == 3
    orders = [[n for one in numbers(batches.batches(3 * epoch), 3) for n in one] for epoch in range(20)]
    assert all(len(set(order)) == 9 for order in orders)
    assert len({tuple(order) for order in orders}) == 20
    assert set(range(10)) == set(orders[0] + orders[1] + orders[2] + orders[3]), "the dropped sample changes"


def test_the_augmentation_of_a_sample_changes_with_the_epoch():
    source = GeneratedShapes("train", 1, (48, 48))
    batches = TrainBatches(source, 1, 0, Augmentation(CHAIN, 255), workers=0)
    assert len({batches.batch(step)[0].tobytes() for step in range(8)}) == 8


@pytest.mark.parametrize(("count", "batch"), [(1, 4), (3, 8), (5, 8), (4, 4)])
def test_a_small_source_is_repeated_evenly_to_fill_a_batch(count, batch):
    batches = TrainBatches(Numbered([(8, 8)] * count), batch)
    assert batches.steps_per_epoch == 1
    for found in numbers(batches.batches(), 3):
        times = np.bincount(found, minlength=count)
        assert len(found) == batch and times.max() - times.min() <= 1


def test_repeated_samples_are_augmented_differently():
    batches = TrainBatches(GeneratedShapes("train", 1, (48, 48)), 4, 0, Augmentation(CHAIN, 255))
    images, _ = batches.batch(0)
    assert len({image.tobytes() for image in images}) == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_sizes_that_differ_within_a_batch_are_named_with_the_cure(workers):
    batches = TrainBatches(Numbered([(8, 8), (9, 7)]), 2, workers=workers)
    with pytest.raises(DataError, match=r"s0 is 8 x 8.*RandomCrop, or Resize") as caught:
        next(batches.batches())
    assert "s1 is 7 x 9" in str(caught.value)


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
def test_an_error_in_a_worker_reaches_the_caller_as_it_was(workers):
    batches = TrainBatches(Numbered([(8, 8)] * 6, broken=frozenset({2})), 6, workers=workers)
    with pytest.raises(DataError) as caught:
        next(batches.batches())
    assert str(caught.value) == "file_2.png: broken"
    assert len(traceback.format_exception(caught.value)) < 40


def test_an_error_of_a_transform_names_the_sample():
    crop = Augmentation([{"RandomCrop": {"height": 50, "width": 50}}], 255)
    with pytest.raises(DataError, match=r"sample s0: data.augment failed on an image of 8 x 8"):
        next(TrainBatches(Numbered([(8, 8)]), 1, augmentation=crop).batches())
    with pytest.raises(DataError, match="sample s0"):
        list(EvalBatches(Numbered([(8, 8)]), 1, augmentation=crop))


def test_batches_before_an_error_are_delivered():
    found = EvalBatches(Numbered([(8, 8)] * 6, broken=frozenset({4})), 2, workers=2)
    seen = []
    with pytest.raises(DataError, match="file_4"):
        for _, _, ids in found:
            seen += ids
    assert seen == ["s0", "s1", "s2", "s3"]


def test_nothing_to_read_and_a_batch_of_nothing_are_refused():
    with pytest.raises(DataError, match="at least 1"):
        TrainBatches(Numbered([]), 2)
    with pytest.raises(DataError, match="at least 1"):
        TrainBatches(Numbered([(8, 8)]), 0)
    with pytest.raises(DataError, match="at least 1"):
        EvalBatches(Numbered([(8, 8)]), 0)
    assert list(EvalBatches(Numbered([]), 2)) == []


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
def test_evaluation_shows_every_sample_once_grouped_by_size(workers):
    a, b = (8, 8), (8, 9)
    source = Numbered([a, a, a, b, b, a, a, a, a])
    batches = EvalBatches(source, 2, workers=workers)
    found = list(batches)
    assert [ids for _, _, ids in found] == [["s0", "s1"], ["s3", "s4"], ["s2", "s5"], ["s6", "s7"], ["s8"]]
    assert batches.ids == source.ids
    for images, masks, ids in found:
        assert images.shape == (len(ids), *masks.shape[1:], 3)
        assert [f"s{n}" for n in images[:, 0, 0, 0]] == ids


def test_samples_of_mixed_sizes_fill_their_batches_in_the_same_order_every_time():
    sizes = [(8 + n % 3, 8) for n in range(48)]
    batches = EvalBatches(Numbered(sizes), 8)
    first, second = ([ids for _, _, ids in batches] for _ in range(2))
    assert first == second and [len(ids) for ids in first] == [8] * 6
    assert sorted(itertools.chain(*first), key=lambda name: int(name[1:])) == batches.ids


def test_a_sample_waits_only_while_few_others_do():
    sizes = [(8, 8), *((9 + n, 8) for n in range(100))]
    found = [ids for _, _, ids in EvalBatches(Numbered(sizes), 2, workers=0)]
    assert found == [[f"s{n}"] for n in range(101)]  # each waits until 64 are waiting, and the oldest comes first

    read = []

    class Watched(Numbered):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    assert next(iter(EvalBatches(Watched(sizes), 2, workers=0)))[2] == ["s0"] and len(read) == 65


def test_auto_batches_follow_the_pixels():
    sizes = [(256, 256)] * 9 + [(512, 512)] * 5 + [(1024, 1024)] * 2 + [(1040, 1388)]
    found = [(images.shape[1], len(ids)) for images, _, ids in EvalBatches(Numbered(sizes), "auto", workers=0)]
    assert found == [(256, 8), (512, 4), (1024, 1), (1024, 1), (1040, 1), (256, 1), (512, 1)]
    # A number is a number: as many of whatever size.
    found = [len(ids) for *_, ids in EvalBatches(Numbered([(1024, 1024)] * 3), 3, workers=0)]
    assert found == [3]


def test_processes_share_every_batch_without_overlap_or_loss():
    source = GeneratedShapes("train", 11, (32, 32), seed=1)
    augmentation = Augmentation(["HorizontalFlip", "ColorJitter"], 255)
    whole = TrainBatches(source, 6, 3, augmentation).batches()
    parts = [TrainBatches(source, 6, 3, augmentation, rows=range(2 * n, 2 * n + 2)).batches() for n in range(3)]
    for (images, masks), *shares in itertools.islice(zip(whole, *parts, strict=True), 5):
        np.testing.assert_array_equal(np.concatenate([share[0] for share in shares]), images)
        np.testing.assert_array_equal(np.concatenate([share[1] for share in shares]), masks)


def test_processes_share_the_evaluation_in_the_batches_of_one():
    source = Numbered([(8, 8)] * 9 + [(8, 9)] * 4)
    whole = [ids for _, _, ids in EvalBatches(source, 3)]
    parts = [[ids for _, _, ids in EvalBatches(source, 3, part=(n, 2))] for n in range(2)]
    assert parts == [whole[0::2], whole[1::2]] and sum(map(len, parts[0] + parts[1])) == 13
    assert not list(EvalBatches(source, 13, part=(1, 2)))


def test_evaluation_can_be_repeated_and_resized():
    resize = Augmentation([{"Resize": {"height": 16, "width": 24}}], 255)
    batches = EvalBatches(Numbered([(8, 8), (9, 9), (10, 4)]), 8, augmentation=resize)
    for _ in range(2):
        ((images, masks, ids),) = batches
        assert images.shape == (3, 16, 24, 3) and masks.shape == (3, 16, 24) and ids == ["s0", "s1", "s2"]


def test_the_data_package_imports_no_framework():
    # Of JAX and torch it says nothing: grain and albumentations import them where they are installed.
    code = (
        "import sys, types; sys.modules['albumentations.pytorch'] = types.ModuleType('torch takes three seconds');"
        "import segzoo.data, segzoo.data.pipeline, segzoo.data.checks, segzoo.data.folder, segzoo.data.generated;"
        "print([m for m in ('tensorflow', 'keras', 'segzoo.config') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]" and result.stderr == ""


def test_listing_sources_imports_not_even_opencv():
    code = "import sys; from segzoo.data import SOURCES; print(list(SOURCES), 'cv2' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "['generated', 'folder'] False"


def test_camvid_batches_are_equal_for_any_number_of_workers(camvid):
    chain = [
        {"RandomScale": {"scale_limit": [-0.3, 0.5], "p": 1.0}},
        {"PadIfNeeded": {"min_height": 320, "min_width": 320}},
        {"RandomCrop": {"height": 320, "width": 320}},
        "HorizontalFlip",
        "ColorJitter",
    ]
    source = FolderSource(camvid, "train", [str(n) for n in range(11)], ignore_index=11)
    made = [TrainBatches(source, 8, 0, Augmentation(chain, 11), workers).batches(44) for workers in (0, 3)]
    for (images, masks), (images_2, masks_2) in itertools.islice(zip(*made, strict=True), 4):
        np.testing.assert_array_equal(images, images_2)
        np.testing.assert_array_equal(masks, masks_2)


def test_repeats_make_a_longer_epoch_with_every_sample_as_often():
    batches = TrainBatches(Numbered([(8, 8)] * 5), 5, 0, workers=0, factors=[3.0] * 5)
    assert batches.steps_per_epoch == 3
    seen = itertools.chain.from_iterable(numbers(batches.batches(), 3))
    assert sorted(seen) == sorted(list(range(5)) * 3)


def test_factors_are_met_on_average_and_the_epoch_keeps_its_length():
    factors = [1.0, 1.0, 2.5, 1.0, 1.75, 1.0]  # 8.25
    batches = TrainBatches(Numbered([(8, 8)] * 6), 1, 0, workers=0, factors=factors)
    assert batches.steps_per_epoch == 8
    counts = np.bincount(np.concatenate(numbers(batches.batches(), 8 * 300)), minlength=6) / 300
    np.testing.assert_allclose(counts, np.array(factors) * 8 / 8.25, atol=0.12)


def test_a_sample_that_comes_again_in_an_epoch_is_augmented_anew():
    source = GeneratedShapes("train", 2, (64, 64))
    batches = TrainBatches(
        source, 6, 0, Augmentation([{"ColorJitter": {"p": 1.0}}], 255), workers=0, factors=[3.0, 3.0]
    )
    images, _ = batches.batch(0)
    assert len(np.unique(images.reshape(6, -1), axis=0)) == 6


@pytest.mark.parametrize("workers", [1, 4])
def test_crops_and_factors_do_not_depend_on_the_workers(workers):
    def made(workers):
        return TrainBatches(
            GeneratedShapes("train", 7, (64, 64)), 3, 1, Augmentation(["HorizontalFlip"], 255), workers,
            crop=Crop((32, 32), 255, 0.5, (0,)), factors=[1.0, 2.0, 1.5, 1.0, 1.0, 1.0, 3.0],
        ).batches()  # fmt: skip

    for (images, masks), (images_2, masks_2) in itertools.islice(zip(made(0), made(workers), strict=True), 9):
        np.testing.assert_array_equal(images, images_2)
        np.testing.assert_array_equal(masks, masks_2)
        assert images.shape == (3, 32, 32, 3)


@pytest.mark.parametrize("factors", [[1.0], [1.0, 0.0]])
def test_factors_are_one_above_0_for_each_sample(factors):
    with pytest.raises(DataError, match="each needs one above 0"):
        TrainBatches(Numbered([(8, 8)] * 2), 1, factors=factors)
