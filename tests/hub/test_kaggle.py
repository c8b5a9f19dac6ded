"""Runs on Kaggle Models, pushed to and fetched from a stand-in over HTTP."""

from __future__ import annotations

import logging
import re

import pytest
from kaggle_server import SIGNATURE

from segzoo.errors import HubError
from segzoo.hub import fetch_file, fetch_run
from segzoo.hub.address import parse
from segzoo.hub.services import PushOptions, of

PLACE = "owner/model/keras/small"
RUN = f"kaggle://{PLACE}"


@pytest.fixture
def pushed(kaggle, pushed_files) -> list[dict[str, bytes]]:
    """A public run with one version; returns its versions."""
    kaggle.models.add("owner/model")
    kaggle.versions[PLACE] = [pushed_files]
    return kaggle.versions[PLACE]


@pytest.fixture
def log_in(kaggle, monkeypatch):
    """Log in to Kaggle by a token in the environment, as on a server."""

    def log_in(*rights: str) -> str:
        kaggle.tokens["KGAT_secret"] = set(rights)
        monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_secret")
        return "KGAT_secret"

    return log_in


def test_a_run_is_fetched_checked_and_pinned_to_its_version(kaggle, pushed, pushed_files) -> None:
    pushed.insert(0, {"README.md": b""})
    found = fetch_run(RUN)
    assert found.origin == f"{RUN}/2"
    for name in ("config.yaml", "environment.json", "best.weights.h5"):
        assert (found.folder / name).read_bytes() == pushed_files[name]
    assert fetch_file(f"{RUN}/best.weights.h5").origin == f"{RUN}/2/best.weights.h5"
    asked = len(kaggle.requests)
    assert fetch_run(found.origin) == found and len(kaggle.requests) == asked, "a version in the cache needs no Kaggle"
    with pytest.raises(HubError, match=r"no file segzoo.json under .*small/1; a run that segzoo push has"):
        fetch_run(f"{RUN}/1")


@pytest.mark.parametrize("kind", ["close", "reset"])
def test_a_connection_that_breaks_in_the_middle_is_taken_up_again(kaggle, pushed, pushed_files, kind) -> None:
    address = parse(RUN)
    kaggle.breaks.append((kind, 100_000))
    path, version = of(address).fetch(address, "best.weights.h5")
    assert path.read_bytes() == pushed_files["best.weights.h5"] and version == "1" and not kaggle.breaks
    ranges = [request.headers.get("range") for request in kaggle.asked("files")]
    assert ranges == [None, None, ranges[2]] and re.fullmatch(r"bytes=\d+-", ranges[2])
    assert ranges[2] == "bytes=100000-" or kind == "reset"  # which may lose the last that was sent


def test_after_a_connection_that_breaks_each_time_nothing_half_is_used(kaggle, pushed, pushed_files) -> None:
    address = parse(RUN)
    of(address).fetch(address, "segzoo.json")
    kaggle.breaks += [("close", 10)] * 8
    with pytest.raises(HubError, match=r"could not be fetched after 4 attempts: the connection to Kaggle failed"):
        of(address).fetch(address, "best.weights.h5")
    kaggle.breaks.clear()
    assert (fetch_run(RUN).folder / "best.weights.h5").read_bytes() == pushed_files["best.weights.h5"]


def test_what_arrives_damaged_is_fetched_anew(kaggle, pushed, pushed_files) -> None:
    kaggle.damaged = 2
    assert (fetch_run(RUN).folder / "segzoo.json").read_bytes() == pushed_files["segzoo.json"]
    kaggle.damaged = 4
    with pytest.raises(HubError, match=r"came damaged 4 times: its MD5 was not the one that Kaggle says"):
        of(parse(RUN)).fetch(parse(RUN), "config.yaml", fresh=True)


def test_a_file_that_was_changed_after_the_push_is_refused(kaggle, pushed, pushed_files) -> None:
    pushed.append({**pushed_files, "best.weights.h5": b"others"})
    with pytest.raises(HubError, match=r"small/2/best.weights.h5 is not the file that was pushed"):
        fetch_run(RUN)


def test_a_private_run_needs_the_login_of_kaggle(kaggle, pushed, log_in, caplog) -> None:
    kaggle.private.add("owner/model")
    with pytest.raises(HubError, match=r"no permission to read .*consent.*com/models/owner/model.*kagglehub.login"):
        fetch_run(RUN)
    caplog.set_level(logging.INFO)
    token = log_in("read")
    assert fetch_run(RUN).origin == f"{RUN}/1"
    assert kaggle.requests[-2].headers["authorization"] == f"Bearer {token}"
    assert not [request for request in kaggle.asked("files") if "authorization" in request.headers]
    assert token not in caplog.text
    assert SIGNATURE not in caplog.text
    kaggle.tokens.clear()
    with pytest.raises(HubError, match=r"without a login .Unauthenticated.*kagglehub.login") as caught:
        fetch_run(RUN)
    assert token not in f"{caught.value}{caught.value.__cause__}"


def test_what_is_not_there_is_named(kaggle, pushed) -> None:
    with pytest.raises(HubError, match=r"no file segzoo.json under kaggle://owner/other/keras/small") as caught:
        fetch_run("kaggle://owner/other/keras/small")
    assert "\n" not in str(caught.value)
    with pytest.raises(HubError, match=r"no file segzoo.json under kaggle://owner/model/keras/small/9"):
        fetch_run(f"{RUN}/9")
    with pytest.raises(HubError, match=r"cannot be fetched"):
        fetch_run("kaggle://owner/model/noframework/small")


def test_without_a_connection_a_version_in_the_cache_is_used(kaggle, pushed, monkeypatch) -> None:
    from kagglesdk import kaggle_env

    found = fetch_run(RUN)
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.LOCAL, "http://127.0.0.1:9")
    assert fetch_run(f"{RUN}/1") == found
    with pytest.raises(HubError, match=r"connection to Kaggle failed.*by an address with its version"):
        fetch_run(RUN)


def test_a_push_makes_a_model_and_then_versions_that_are_fetched_alike(kaggle, pushed_files, log_in, tmp_path) -> None:
    log_in("read", "write")
    address = parse(RUN)
    for notes in ("First", "Second"):
        made = of(address).push(address, tmp_path / "files", PushOptions(license="MIT", message=notes))
    assert made is None and kaggle.versions[PLACE] == [pushed_files, pushed_files]
    assert kaggle.facts[0] == {"private": True} and kaggle.facts[1]["licenseName"] == "MIT"
    assert kaggle.facts[2]["versionNotes"] == "Second"
    assert fetch_run(RUN).origin == f"{RUN}/2"


@pytest.mark.parametrize(
    ("login", "words"), [((), r"without a login"), (("read",), r"no permission to write .*models.create")]
)
def test_a_push_without_permission_is_refused(kaggle, pushed_files, log_in, tmp_path, login, words) -> None:
    if login:
        log_in(*login)
    address = parse(RUN)
    with pytest.raises(HubError, match=words):
        of(address).push(address, tmp_path / "files", PushOptions())
    assert not kaggle.models and not kaggle.uploads


def test_versions_cannot_be_chosen(kaggle, tmp_path) -> None:
    for address, options in ((f"{RUN}/3", PushOptions()), (RUN, PushOptions(revision="x"))):
        with pytest.raises(HubError, match=r"Kaggle numbers versions itself"):
            of(parse(address)).push(parse(address), tmp_path, options)
    assert not kaggle.requests
