"""The device that computes, its name, and the warning of a card that lies idle."""

import os

import pytest

from segzoo.device import device_name, idle_card_note, processor_name


def test_a_processor_has_its_model_and_the_cores_that_may_be_used(tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Fast CPU @ 3 GHz\nprocessor\t: 1\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2}, raising=False)
    assert processor_name(tmp_path / "cpuinfo") == "Fast CPU @ 3 GHz, 3 cores"
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)
    assert processor_name(tmp_path / "none").endswith(", 1 core")


def test_gpus_are_named_and_counted(monkeypatch):
    monkeypatch.setattr("segzoo.device._gpu_names", lambda: ["NVIDIA H100", "NVIDIA H100", "NVIDIA T4"])
    assert device_name() == "2 x NVIDIA H100, NVIDIA T4"
    monkeypatch.setattr("segzoo.device._gpu_names", list)
    assert device_name() == processor_name()


LISTED = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-11d8)\n"


@pytest.mark.parametrize(
    ("sign", "listed", "named"),
    [
        (None, LISTED, "NVIDIA H100 80GB HBM3"),
        ("dev/nvidia0", "", "/dev/nvidia0"),
        ("proc/driver/nvidia/version", "", "/proc/driver/nvidia/version"),
    ],
)
def test_a_card_that_the_backend_cannot_use_is_told_of_with_the_cure(tmp_path, monkeypatch, sign, listed, named):
    import keras

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if sign:
        (tmp_path / sign).parent.mkdir(parents=True)
        (tmp_path / sign).touch()
    note = idle_card_note(tmp_path, lambda: listed, gpus=[])
    assert f"NVIDIA card ({named})" in note
    if keras.backend.backend() == "tensorflow":
        assert 'pip install "tensorflow[and-cuda]"' in note and "tensorflow 2." in note
    assert idle_card_note(tmp_path, lambda: listed, gpus=["NVIDIA H100"]) is None  # it is in use
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert idle_card_note(tmp_path, lambda: listed, gpus=[]) is None  # on purpose
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert idle_card_note(tmp_path, lambda: listed, gpus=[]) == note


def test_without_a_card_there_is_no_warning(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert idle_card_note(tmp_path, lambda: "No devices were found\n", gpus=[]) is None
    monkeypatch.setenv("PATH", str(tmp_path))  # no nvidia-smi there
    assert idle_card_note(tmp_path, gpus=[]) is None
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\necho '{LISTED.strip()}'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert "NVIDIA H100 80GB HBM3" in idle_card_note(tmp_path, gpus=[])
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")  # its driver does not answer
    assert idle_card_note(tmp_path, gpus=[]) is None
