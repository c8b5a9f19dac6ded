"""Programs compiled by JAX are kept from run to run."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from segzoo.compile_cache import cache_folder

RUN = """
import json, os, sys
import numpy as np
import jax
events = []
jax.monitoring.register_event_listener(lambda name, **_: events.append(name.rpartition("/")[2]))
import segzoo, keras
from segzoo.engine import trainer

class Started(Exception):
    pass

def step(*_, **__):
    print(json.dumps(float(jax.jit(lambda x: (x * 3.0 + x ** 2).sum())(np.arange(4.0)))))
    raise Started

trainer._Training.run = step  # what a run compiles takes the same way
try:
    segzoo.train("unet_b3.yaml")
except Started:
    pass
hits = sum(name == "cache_hits" for name in events)
print(json.dumps([hits, jax.config.jax_compilation_cache_dir, jax.config.jax_compilation_cache_max_size]))
"""


def run(home, **environment):
    """Start a run in another process; return a result of its compiled program, hits, folder and limit of the cache."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    known |= {"KERAS_BACKEND": "jax", "XDG_CACHE_HOME": str(home), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    shown = subprocess.run(
        [sys.executable, "-c", RUN], capture_output=True, text=True, env={**known, **environment}, cwd=home
    )
    assert shown.returncode == 0, shown.stderr
    result, facts = map(json.loads, shown.stdout.splitlines())
    return result, *facts


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs JAX")
@pytest.mark.skipif(sys.platform != "linux", reason="the cache folder is named by XDG_CACHE_HOME")
def test_the_second_run_takes_what_the_first_compiled(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first, second = run(tmp_path), run(tmp_path)
    assert first[0] == second[0] == 32.0
    assert first[1] == 0 and second[1] > 0, "the second run compiled again"
    assert first[2] == second[2] == str(cache_folder()) and cache_folder().stat().st_mode & 0o777 == 0o700
    assert second[3] == 4 << 30 or importlib.util.find_spec("filelock") is None


@pytest.mark.nightly
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs JAX")
def test_the_cache_can_be_moved_and_turned_off_and_is_left_out_where_it_cannot_be_written(tmp_path):
    other = tmp_path / "other"
    assert run(tmp_path, JAX_COMPILATION_CACHE_DIR=str(other))[2:] == (str(other), -1)
    assert run(tmp_path, JAX_ENABLE_COMPILATION_CACHE="false")[2] is None
    assert not (tmp_path / "segzoo").exists()
    (tmp_path / "segzoo").write_text("a file where the folder would be")
    assert run(tmp_path)[:3] == (32.0, 0, None)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="permissions of POSIX")
def test_a_folder_that_others_can_write_is_not_used(tmp_path):
    from segzoo.compile_cache import _is_private

    assert _is_private(tmp_path / "mine") and _is_private(tmp_path / "mine")
    (tmp_path / "mine").chmod(0o777)
    assert not _is_private(tmp_path / "mine")
