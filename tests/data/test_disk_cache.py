"""Decoded samples on disk: bounded, whole, shared by processes."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from segzoo.data import DiskCache, Sample
from segzoo.errors import DataError

SIZE = 40 * 50 * 4 + 1024  # what a sample is counted as


class Counting:
    def __init__(self, count=12):
        self.ids, self.classes, self.ignore_index = [str(n) for n in range(count)], ["a", "b"], 255
        self.reads = 0

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        self.reads += 1
        image = np.random.default_rng(index).integers(0, 256, (40, 50, 3), np.uint8)
        return Sample(image, image[..., 0] // 128, str(index))

    def fingerprint(self):
        return "counting"


def on_disk(folder):
    return sum(path.stat().st_size for path in folder.glob("*.npz"))


def test_samples_come_from_disk_the_second_time_and_in_the_next_run(tmp_path):
    first = Counting()
    cache = DiskCache(first, tmp_path, 10**9)
    for _ in range(2):
        for index in range(12):
            for found, truth in zip(cache[index], Counting()[index], strict=True):
                np.testing.assert_array_equal(found, truth)
    assert first.reads == 12 and cache.fingerprint() == "counting"
    again = Counting()
    assert DiskCache(again, tmp_path, 10**9)[3].id == "3" and again.reads == 0
    with pytest.raises(IndexError):
        cache[12]


def test_the_limit_holds(tmp_path):
    source = Counting()
    cache = DiskCache(source, tmp_path, 5 * SIZE + 10)
    for _ in range(2):
        for index in range(12):
            cache[index]
    assert len(list(tmp_path.glob("*.npz"))) == 5 and on_disk(tmp_path) <= 5 * SIZE
    assert source.reads == 12 + 7
    assert not list(tmp_path.glob("*.part"))


def fill(folder):
    cache = DiskCache(Counting(60), folder, 20 * SIZE)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(cache.__getitem__, range(60)))


def test_processes_and_threads_together_stay_below_the_limit(tmp_path):
    context = multiprocessing.get_context("fork")
    runs = [context.Process(target=fill, args=(tmp_path,)) for _ in range(3)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(60)
    assert [run.exitcode for run in runs] == [0, 0, 0]
    files = list(tmp_path.glob("*.npz"))
    assert 7 <= len(files) <= 20 and on_disk(tmp_path) <= 20 * SIZE
    for path in files:
        index = int(path.stem.split("-")[1])
        np.testing.assert_array_equal(np.load(path)["image"], Counting()[index].image)


def test_a_damaged_file_is_read_from_the_source_again(tmp_path):
    DiskCache(Counting(), tmp_path, 10**9)[0]
    path = next(tmp_path.glob("*-0.npz"))
    path.write_bytes(path.read_bytes()[:2000])
    source = Counting()
    np.testing.assert_array_equal(DiskCache(source, tmp_path, 10**9)[0].image, Counting()[0].image)
    assert source.reads == 1


def test_changed_data_do_not_get_old_samples(tmp_path):
    DiskCache(Counting(), tmp_path, 10**9)[0]
    changed = Counting()
    changed.fingerprint = lambda: "changed"
    DiskCache(changed, tmp_path, 10**9)[0]
    assert changed.reads == 1


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file.sub: cannot be used as data\.cache_dir"):
        DiskCache(Counting(), tmp_path / "file" / "sub", 10)
