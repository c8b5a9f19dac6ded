import threading

import numpy as np
import pytest
from test_cache import Counting

from segzoo.data import DiskCachedSource
from segzoo.errors import DataError


def test_a_second_run_reads_no_sample_again(tmp_path):
    source = Counting()
    for _ in range(2):
        cached = DiskCachedSource(source, tmp_path, 10**6)
        for index in range(3):
            sample = cached[index]
            assert sample.id == source.ids[index] and (sample.mask == index).all() and sample.image.shape == (10, 10, 3)
    assert source.reads[:3] == [1, 1, 1]
    assert cached.ids == source.ids and len(cached) == 4 and cached.fingerprint() == "print"


def test_the_limit_holds(tmp_path):
    cached = DiskCachedSource(Counting(), tmp_path, 1400)  # two samples of 400 bytes and 256 of headers
    for index in range(3):
        cached[index]
    assert len(list(cached.folder.iterdir())) == 2


def test_another_run_counts_what_is_there(tmp_path):
    first = DiskCachedSource(Counting(), tmp_path, 1400)
    first[0], first[1]
    again = DiskCachedSource(Counting(), tmp_path, 1400)
    again[2]
    assert len(list(again.folder.iterdir())) == 2


def test_a_damaged_file_is_made_again(tmp_path):
    source = Counting()
    cached = DiskCachedSource(source, tmp_path, 10**6)
    cached[1]
    (file,) = cached.folder.iterdir()
    file.write_bytes(file.read_bytes()[:150])
    assert (cached[1].mask == 1).all() and (DiskCachedSource(source, tmp_path, 10**6)[1].mask == 1).all()
    assert source.reads[1] == 2


def test_other_data_have_files_of_their_own(tmp_path):
    class Other(Counting):
        def fingerprint(self):
            return "other"

    assert DiskCachedSource(Counting(), tmp_path, 1).folder != DiskCachedSource(Other(), tmp_path, 1).folder


def test_many_threads_of_two_runs_read_the_same_samples(tmp_path):
    found = []

    def read():
        cached = DiskCachedSource(Counting(), tmp_path, 10**6)
        found.extend(int(cached[index].mask[0, 0]) for _ in range(20) for index in range(3))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted([0, 1, 2] * 80)


def test_errors_are_not_remembered_and_a_folder_that_cannot_be_made_is_said(tmp_path):
    with pytest.raises(DataError, match="broken"):
        DiskCachedSource(Counting(), tmp_path, 10**6)[3]
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"data\.disk_cache\.folder"):
        DiskCachedSource(Counting(), tmp_path / "file", 10**6)


def test_wide_types_come_back_as_they_were(tmp_path):
    class Wide(Counting):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            return sample._replace(image=np.full((4, 4, 7), 0.25, np.float32), mask=np.full((4, 4), 700, np.uint16))

    cached = DiskCachedSource(Wide(), tmp_path, 10**6)
    cached[0]
    assert cached[0].image.dtype == np.float32 and cached[0].mask.dtype == np.uint16 and cached[0].mask.max() == 700
