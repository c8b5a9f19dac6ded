"""The commit of the source tree, as a run records it."""

import subprocess
from pathlib import Path

import pytest

import segzoo
from segzoo.engine.checkpoint.environment import git_commit


def git(root, *arguments):
    own = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
    done = subprocess.run(["git", *own, *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_commit_is_that_of_the_tree_and_edits_are_told(tmp_path):
    assert git_commit(tmp_path) is None
    git(tmp_path, "init")
    assert git_commit(tmp_path) is None  # no commit yet
    (tmp_path / "a.py").write_text("a = 1\n")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "-m", "first")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert git_commit(tmp_path) == head
    (tmp_path / "a.py").write_text("a = 2\n")
    assert git_commit(tmp_path) == f"{head}+changes"


def test_it_is_looked_for_where_the_package_lies():
    root = Path(segzoo.__file__).parents[1]
    if not (root / ".git").exists():
        pytest.skip("segzoo is installed, not run from its source tree")
    assert git_commit().removesuffix("+changes") == git(root, "rev-parse", "HEAD")
