"""Progress display of a run: the bar of a terminal, plain lines elsewhere, memory."""

import io
import re
import sys
import types

import pytest
from rich.console import Console

from segzoo.engine import memory
from segzoo.engine.callbacks import progress_display as screen_module
from segzoo.engine.callbacks.progress_display import ProgressDisplay
from segzoo.progress import duration

ROW = {"epoch": 1, "step": 10, "loss": 0.5, "val_loss": 0.6, "val_mean_iou": 0.4321, "images_per_second": 8.0}


class Clock:
    """A clock that a test sets."""

    now = 100.0

    def __call__(self):
        return self.now


def screen_on(terminal, total_steps=100, width=200):
    clock = Clock()
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=terminal, color_system=None)
    return ProgressDisplay(console, total_steps, 8, clock), clock, stream


def train_ten_steps(screen, clock, seconds_of_a_step):
    screen.epoch(1, 10, 0)
    for step in range(1, 11):
        clock.now += 500 if step == 1 else seconds_of_a_step  # the first traces the graph
        screen.step(step, 2.0 / step)


def test_without_a_terminal_there_is_a_line_a_minute_and_one_for_the_epoch():
    screen, clock, stream = screen_on(terminal=False)
    with screen:
        train_ten_steps(screen, clock, seconds_of_a_step=20)
        clock.now += 90  # the evaluation
        screen.row({**ROW, "seconds": 680.0}, 10, best=True)
        screen.epoch(2, 10, 10)
        for step in range(11, 16):
            clock.now += 20
            screen.step(step, 0.25)
    lines = stream.getvalue().splitlines()
    assert [re.match(r"epoch \d+/10  (step \d+/100|loss)", line)[0] for line in lines] == [
        "epoch 1/10  step 1/100", "epoch 1/10  step 4/100", "epoch 1/10  step 7/100", "epoch 1/10  step 10/100",
        "epoch 1/10  loss", "epoch 2/10  step 13/100",
    ]  # fmt: skip
    # 8 images in 20 s; 96 steps of 20 s are left; before the first validation there is no mIoU.
    assert "loss 0.5000  mIoU ...  0.4 images/s  0:32:00 left" in lines[1]
    assert "val mIoU 0.4321 *" in lines[4]
    assert f"{duration((9 * 20 + 90) / 9 * 90)} left" in lines[4]  # what evaluations take is part of the estimate
    assert "mIoU 0.4321" in lines[5]
    assert all(re.search(r"  \d+\.\d GiB$", line) for line in lines)
    assert "\x1b" not in stream.getvalue()


def test_an_epoch_without_a_second_step_has_no_speed():
    screen, clock, stream = screen_on(terminal=False)
    with screen:
        screen.epoch(1, 10, 10)  # resumed between its last step and its evaluation
        assert screen.images_per_second(10) is None
        screen.row({**ROW, "images_per_second": None, "seconds": 680.0}, 10, best=True)
        screen.epoch(2, 10, 10)
        clock.now += 500
        screen.step(11, 0.25)
        assert screen.images_per_second(11) is None
    first, second = stream.getvalue().splitlines()
    assert "680.0 s" in first and "images/s" not in first
    assert "... images/s" in second


def test_on_a_terminal_the_bar_has_loss_score_speed_time_left_and_memory():
    screen, clock, stream = screen_on(terminal=True)
    with screen:
        screen.row({**ROW, "seconds": 1.0}, 10, best=False)
        train_ten_steps(screen, clock, seconds_of_a_step=2)
        screen._bar.refresh()
    last = [line for line in stream.getvalue().split("\r") if "10/100" in line][-1]
    assert re.search(r"epoch 1/10 .*10/100 loss 0\.2000  mIoU 0\.4321  4\.0 images/s  0:03:00 left  \d+\.\d GiB", last)


def test_nothing_is_cut_off_on_a_terminal_of_80_columns(monkeypatch):
    monkeypatch.setattr(screen_module, "memory_text", lambda: "12.1 GiB, GPU 70.2 GiB")
    screen, clock, stream = screen_on(terminal=True, total_steps=54000, width=80)
    with screen:
        screen.row({**ROW, "seconds": 1.0}, 100, best=False)
        screen.epoch(12, 100, 12000)
        for step in range(12001, 12010):
            clock.now += 0.0125
            screen.step(step, 0.1234)
        screen._bar.refresh()
    text = stream.getvalue()
    assert "…" not in text
    assert "12009/54000 loss 0.1234  mIoU 0.4321  640.0 images/s" in text
    assert "left  12.1 GiB, GPU 70.2 GiB" in text


def test_memory_is_that_of_the_process_and_names_the_accelerator_where_it_tells(monkeypatch):
    held = memory.resident_bytes()
    block = bytearray(b"x") * 200_000_000
    assert memory.resident_bytes() - held > 150_000_000
    assert len(block) and re.fullmatch(r"\d+\.\d GiB", memory.memory_text())
    monkeypatch.setattr(memory, "device_bytes", lambda: 3 * 2**29)
    assert memory.memory_text().endswith("GiB, GPU 1.5 GiB")


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_the_accelerators_memory_is_read_from_each_backend(backend, monkeypatch):
    """With stand-ins for the frameworks, as there may be no GPU."""
    info = {"current": 7, "peak": 9}
    experimental = types.SimpleNamespace(get_memory_info={"GPU:0": info}.__getitem__)
    config = types.SimpleNamespace(list_logical_devices=lambda kind: [kind], experimental=experimental)
    device = types.SimpleNamespace(memory_stats=lambda: {"bytes_in_use": 7})
    cuda = types.SimpleNamespace(is_available=lambda: True, memory_allocated=lambda: 7)
    stand_ins = {
        "tensorflow": types.SimpleNamespace(config=config),
        "jax": types.SimpleNamespace(local_devices=lambda: [device]),
        "torch": types.SimpleNamespace(cuda=cuda),
    }
    monkeypatch.setattr(memory.keras.backend, "backend", lambda: backend)
    monkeypatch.setitem(sys.modules, backend, stand_ins[backend])
    assert memory.device_bytes() == 7
