"""The device that computes, its name, and the warning of a card that lies idle."""

import os
import subprocess
import sys

import pytest

from segzoo.device import check_device, device_line, device_memory, device_name, devices, idle_card_note, processor_name
from segzoo.errors import SegzooError


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
        assert '[cuda]"' in note and "tensorflow 2." in note
    assert idle_card_note(tmp_path, lambda: listed, gpus=["NVIDIA H100"]) is None  # it is in use
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert idle_card_note(tmp_path, lambda: listed, gpus=[]) is None  # on purpose
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert idle_card_note(tmp_path, lambda: listed, gpus=[]) == note


def test_a_line_describes_what_a_run_computes_on(tmp_path, monkeypatch):
    import keras

    backend = keras.backend.backend()
    line = device_line("bfloat16", True)
    assert line.startswith(device_name()) and f", {backend} {sys.modules[backend].__version__}, bfloat16, with" in line
    assert f"({device_memory() / 2**30:.0f} GiB)" in line  # the machine's
    assert device_line("float32", False).endswith("float32, without XLA")
    if backend == "tensorflow":
        monkeypatch.setattr("segzoo.device._gpu_names", lambda: ["NVIDIA H100"])
        monkeypatch.setenv("PATH", str(tmp_path))  # no nvidia-smi there
        assert device_memory() is None and device_line("float32", True).startswith("NVIDIA H100, tensorflow")
        (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 81559\necho 81559\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
        assert device_memory() == 81559 * 2**20


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


def test_devices_are_named_as_tensorflow_does_and_one_that_is_missing_is_an_error(monkeypatch):
    assert "CPU:0" in devices() and check_device("cpu") == check_device("/device:CPU:0") == "CPU:0"
    monkeypatch.setattr("segzoo.device.devices", lambda: ["CPU:0", "GPU:0", "GPU:1"])
    assert [check_device(name) for name in ("GPU:1", "cuda:1", "/gpu:0")] == ["GPU:1", "GPU:1", "GPU:0"]
    for name in ("GPU:2", "TPU", "processor", "cpu:zero", ""):
        with pytest.raises(SegzooError, match=r"has no device '.*' here. There is: CPU:0, GPU:0, GPU:1\."):
            check_device(name)


TWO_PROCESSORS = """
import tensorflow as tf
processor = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
import numpy
from segzoo.device import devices, on_device
from segzoo.inference.network import KerasNetwork

class Seen(keras.layers.Layer):
    def call(self, x):
        if not isinstance(x, keras.KerasTensor):
            print((x + 0).device)
        return x

with on_device("CPU:1"):
    image = keras.Input((None, None, 3))
    model = keras.Model(image, Seen()(keras.layers.Conv2D(2, 1)(image)))
print(devices(), model.weights[0].value.device)
KerasNetwork(model, device="CPU:1").logits(numpy.zeros((1, 32, 32, 3), numpy.uint8))
"""


@pytest.mark.nightly
def test_weights_and_graph_are_on_the_chosen_device():
    """Two logical processors take the place of two cards, in a process of its own: devices are set up once."""
    command = [sys.executable, "-c", TWO_PROCESSORS]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    of_weights, of_graph = printed.splitlines()[-2:]
    assert of_weights.startswith("['CPU:0', 'CPU:1']") and of_weights.endswith("device:CPU:1")
    assert of_graph.endswith("device:CPU:1")
