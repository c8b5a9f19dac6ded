"""Two devices, of one process or of two, compute what one does of the whole batch: losses, counts, updates, runs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from segzoo.engine.distribution import Distribution, start_distribution
from segzoo.errors import RunError

HERE = Path(__file__).parent
SCRIPT = HERE / "distributed_run.py"


def begin(task: str, folder: Path, **variables: str) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    places = os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), os.getenv("PYTHONPATH"))))
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": places, **variables}
    command = [sys.executable, str(SCRIPT), task, str(folder)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process: subprocess.Popen, status: int = 0) -> None:
    _, errors = process.communicate(timeout=600)
    assert process.returncode == status, errors[-3000:]


def compare(folder: Path, found: str, expected: str, figures: float, weights: float) -> None:
    """Compare two runs that `distributed_run.keep` kept; relative tolerance of figures, absolute of weights."""
    with np.load(folder / f"{found}.npz") as left, np.load(folder / f"{expected}.npz") as right:
        assert set(left.files) == set(right.files) and len(left.files) > 12
        for name in right.files:
            tolerance = {"atol": weights, "rtol": 0} if name.startswith("weight") else {"atol": 0, "rtol": figures}
            np.testing.assert_allclose(left[name], right[name], **tolerance, err_msg=name)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory, forked: Callable) -> Callable[[str], tuple[Path, dict]]:
    """Run two_devices.py for an amount, once: its folder, and how each part failed, or None."""
    found: dict[str, tuple[Path, dict]] = {}

    def outcome(amount: str) -> tuple[Path, dict]:
        if keras.backend.backend() != "tensorflow":
            pytest.skip("tf.distribute")
        if amount not in found:
            folder = tmp_path_factory.mktemp("two_devices")
            code = (HERE / "two_devices.py").read_text(encoding="utf-8")
            done = forked(code, amount, folder, path=(HERE.parent, HERE))
            found[amount] = folder, dict(json.loads(line) for line in done.stdout.splitlines() if line[:2] == '["')
        return found[amount]

    return outcome


# Without graphs where two devices can do without, since tracing takes longer. By default every loss in one mode and
# AdamW, and with the marker `nightly` all modes and SGD.
AMOUNTS = pytest.mark.parametrize("amount", ["few", pytest.param("all", marks=pytest.mark.nightly)])


@pytest.mark.slow
def test_two_devices_of_one_process_train_as_one(outcome) -> None:
    folder, failed = outcome("few")
    assert failed["training"] is None
    compare(folder, "mirrored", "none", 1e-5, 1e-4)


@AMOUNTS
def test_losses_of_unequal_shares_are_those_of_the_whole_batch(outcome, amount: str) -> None:
    assert outcome(amount)[1]["losses"] is None


@AMOUNTS
def test_updates_of_two_devices_are_those_of_one(outcome, amount: str) -> None:
    assert outcome(amount)[1]["updates"] is None


def test_two_replicas_count_what_one_would(outcome) -> None:
    assert outcome("few")[1]["counts"] is None


def together(task: str, folders: list[Path], status: int = 0) -> None:
    """Run `task` in a process for each folder, joined by JAX; all must end with `status`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    shared = {"KERAS_BACKEND": "jax", "JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(len(folders))}
    processes = [begin(task, folder, JAX_PROCESS_ID=folder.name, **shared) for folder in folders]
    try:
        for process in processes:
            end(process, status)
    finally:
        for process in processes:
            process.kill()


@pytest.mark.nightly
@pytest.mark.slow
def test_two_processes_train_as_one_and_resume_exactly(tmp_path: Path) -> None:
    pytest.importorskip("jax")
    folders = [tmp_path / "0", tmp_path / "1"]
    together("killed", folders, -signal.SIGKILL)
    together("multi_host", folders)
    chief, other = folders
    compare(chief, "whole", "none", 1e-4, 1e-4)
    # Only process 1 got the signal; both stopped after the same step, and went on to the same bits.
    assert "SIGTERM: stopped after step 4 of 6" in (chief / "interrupted.txt").read_text()
    assert "after step 4 of 6" in (other / "interrupted.txt").read_text()
    compare(chief, "broken", "whole", 0.0, 0.0)
    compare(chief, "killed", "whole", 0.0, 0.0)
    sessions = map(json.loads, (chief / "runs" / "killed" / "sessions.jsonl").read_text().splitlines())
    assert [(line["event"], line["step"]) for line in sessions] == [("start", 0), ("resume", 4), ("finish", 6)]
    # Their run folders are apart here, so what process 1 knew came from process 0, and what it wrote would be seen.
    (other / "whole.npz").rename(chief / "other.npz")
    compare(chief, "whole", "other", 0.0, 0.0)
    assert not (other / "runs").exists() and not (other / "screen.txt").read_text()
    assert (chief / "runs" / "broken" / "result.json").is_file()


def test_a_batch_is_divided_without_overlap_or_loss() -> None:
    distribution = Distribution()
    distribution.devices, distribution.processes = 6, 3
    rows = []
    for distribution.process in range(3):
        rows += distribution.rows(12)
    assert rows == list(range(12))
    with pytest.raises(RunError, match=r"batch_size is 8, .* over 6 devices; set a multiple of 6"):
        distribution.rows(8)


def test_what_a_backend_cannot_do_names_the_way() -> None:
    backend = keras.backend.backend()
    if backend != "tensorflow":
        pytest.skip("says what TensorFlow cannot do")
    with pytest.raises(RunError, match=r"multi_host does not run on .*tensorflow.*20601.*\[jax\].*KERAS_BACKEND=jax"):
        start_distribution("multi_host")
