"""Capabilities of the processor, and start-up of TensorFlow."""

import os
import subprocess
import sys

import pytest

from segzoo import backend


@pytest.mark.parametrize(
    ("flags", "precision", "is_slow"),
    [
        ("avx2 fma", "bfloat16", True),
        ("avx2 fma", "float16", True),
        ("avx2 avx512_bf16", "bfloat16", False),
        ("avx2 avx512_bf16", "float16", True),
        ("avx512f amx_bf16 amx_tile", "bfloat16", False),
        ("avx2 fma", "float32", False),
        ("", "bfloat16", False),  # not Linux: nothing is known
    ],
)
def test_a_precision_that_the_processor_lacks_is_called_slow(monkeypatch, flags, precision, is_slow):
    monkeypatch.setattr(backend, "processor_flags", lambda: set(flags.split()))
    monkeypatch.setattr(backend, "_has_gpu", lambda: False)

    note = backend.precision_note(precision)

    assert (note is not None) == is_slow
    if note:
        assert precision in note and "training.precision: float32" in note


def test_a_gpu_needs_no_note(monkeypatch):
    monkeypatch.setattr(backend, "processor_flags", lambda: {"avx2"})
    monkeypatch.setattr(backend, "_has_gpu", lambda: True)

    assert backend.precision_note("float16") is None


@pytest.mark.parametrize(("error", "shown"), [(ImportError, "oneDNN is on"), (KeyboardInterrupt, "")])
def test_messages_of_a_start_are_shown_where_it_fails(error, shown, capfd):
    with pytest.raises(error), backend.quiet_start():
        os.write(2, b"oneDNN is on")  # from C++, past sys.stderr
        raise error
    with backend.quiet_start():
        os.write(2, b"oneDNN is on")
    assert capfd.readouterr().err == shown


def test_memory_is_kept_between_steps_unless_the_user_says_otherwise(forked):
    script = (
        "import os, resource; {before}from segzoo.backend import start_backend; start_backend()\n"
        "import tensorflow as tf\n"
        "def work(): return float(tf.reduce_sum(tf.random.stateless_uniform([16, 1024, 1024], [0, 0])))\n"
        "work(); before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(4): work()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)"
    )

    def faults(before: str) -> int:
        return int(forked(script.format(before=before)).stdout)

    pages = 4 * 64 * 1024 * 1024 // 4096
    assert faults("") < pages / 10
    assert faults("os.environ['TF_CPU_ALLOCATOR_USE_BFC'] = 'false'; ") > pages / 2


@pytest.mark.parametrize("use", ["segzoo.build_model", "segzoo.layers", "segzoo.losses.Dice", "segzoo.decoders.UNet"])
def test_a_backend_that_is_none_is_named_where_segzoo_is_a_library(use):
    done = subprocess.run(
        [sys.executable, "-c", f"import segzoo\ntry: {use}\nexcept segzoo.SegzooError as error: print(error)"],
        env={**os.environ, "KERAS_BACKEND": "foo"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("KERAS_BACKEND names the Keras backend 'foo', and segzoo runs on"), done.stderr


def test_keras_imported_by_hand_gives_its_own_answer():
    done = subprocess.run(
        [sys.executable, "-c", "import segzoo, keras"],
        env={**os.environ, "KERAS_BACKEND": "foo"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "ValueError" in done.stderr and "segzoo.errors" not in done.stderr
