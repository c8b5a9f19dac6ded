"""Runs and files of a Hugging Face Hub, fetched from a stand-in over HTTP."""

from __future__ import annotations

import hashlib
import json
import logging

import pytest
from huggingface_server import SIGNATURE, Repository, cached

from segzoo.errors import HubError, MissingPackageError
from segzoo.hub import fetch_file, fetch_run
from segzoo.hub.address import parse
from segzoo.hub.services import PushOptions, of

huggingface_hub = pytest.importorskip("huggingface_hub")
RUN = "hf://user/name"


@pytest.fixture
def pushed(hub, pushed_files) -> str:
    """A public run on the hub; returns its commit."""
    hub.repositories["user/name"] = Repository()
    return hub.repositories["user/name"].commit(pushed_files)


def test_a_run_is_fetched_checked_and_pinned_to_its_commit(hub, pushed, pushed_files) -> None:
    found = fetch_run(RUN)
    assert found.origin == f"{RUN}@{pushed}"
    for name in ("config.yaml", "environment.json", "best.weights.h5"):
        assert (found.folder / name).read_bytes() == pushed_files[name]
        assert found.files[name] == hashlib.sha256(pushed_files[name]).hexdigest()
    assert found.weights.origin == f"{RUN}@{pushed}/best.weights.h5"
    asked = len(hub.requests)
    assert fetch_run(found.origin) == found and len(hub.requests) == asked, "a commit that the cache has needs no hub"


def test_the_newest_is_taken_and_an_older_one_by_its_commit_or_branch(hub, pushed, pushed_files) -> None:
    repository = hub.repositories["user/name"]
    repository.branches["older"] = pushed
    newer = {"environment.json": b"{}"}
    manifest = json.loads(pushed_files["segzoo.json"])
    manifest["files"]["environment.json"] = hashlib.sha256(b"{}").hexdigest()
    newest = repository.commit({**newer, "segzoo.json": json.dumps(manifest).encode()})
    assert fetch_run(RUN).origin.endswith(newest)
    assert (fetch_run(RUN).folder / "environment.json").read_bytes() == b"{}"
    for revision in (pushed, "older"):
        found = fetch_run(f"{RUN}@{revision}")
        assert found.origin.endswith(pushed)
        assert (found.folder / "environment.json").read_bytes() == pushed_files["environment.json"]


def test_nothing_is_fetched_but_what_the_manifest_lists(hub, pushed, tmp_path) -> None:
    hub.repositories["user/name"].commit({"model.keras": b"a Lambda", "plugin.py": b"import os", "x.bin": b"a pickle"})
    fetch_run(RUN)
    assert {request.path.rpartition("/")[2] for request in hub.asked("hub", "HEAD")} == {
        "segzoo.json",
        "config.yaml",
        "environment.json",
        "best.weights.h5",
    }


@pytest.mark.parametrize("name", ["model.keras", "../../.bashrc", "state.npz", "plugin.py"])
def test_a_manifest_that_names_other_files_is_refused(hub, pushed, pushed_files, name) -> None:
    manifest = json.loads(pushed_files["segzoo.json"])
    manifest["files"][name] = "0" * 64
    hub.repositories["user/name"].commit({"segzoo.json": json.dumps(manifest).encode(), "model.keras": b"x"})
    with pytest.raises(HubError, match=r"which no run has that segzoo pushes.*nothing was fetched"):
        fetch_run(RUN)
    assert len(hub.asked("hub", "HEAD")) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"{", "its segzoo.json cannot be used: it is no JSON"),
        (b"\xff", "it is no JSON"),
        (b"[]", "it is no table"),
        (b'{"format": 2}', "in the format '2', and this version of segzoo reads format 1"),
        (b'{"format": 1}', "it lists no files"),
        (b'{"format": 1, "files": {}}', "it lists no config.yaml, or no weights"),
        (b'{"format": 1, "files": {"config.yaml": 3}}', "config.yaml has no sha256"),
        (b" " * 2**20 + b"{}", "which is too large"),
    ],
)
def test_a_manifest_that_is_none_is_refused(hub, pushed, text, words) -> None:
    hub.repositories["user/name"].commit({"segzoo.json": text})
    with pytest.raises(HubError, match=words):
        fetch_run(RUN)


@pytest.mark.parametrize("kind", ["close", "reset"])
def test_a_connection_that_breaks_in_the_middle_is_taken_up_again(hub, pushed, pushed_files, kind, tmp_path) -> None:
    hub.breaks += [(kind, 100_000), (kind, 50_000)]
    found = fetch_run(RUN)
    assert (found.folder / "best.weights.h5").read_bytes() == pushed_files["best.weights.h5"]
    assert len(hub.asked("files")) == 3 and not hub.breaks
    if kind == "close":  # which huggingface_hub itself goes on after; after a reset segzoo begins anew
        assert [request.headers.get("range") for request in hub.asked("files")] == [
            None,
            "bytes=100000-",
            "bytes=150000-",
        ]
    assert not [name for name in cached(tmp_path / "hf") if name.endswith(".incomplete")]


def test_after_a_connection_that_breaks_each_time_there_is_no_half_file(hub, pushed, tmp_path, pushed_files) -> None:
    hub.breaks += [("reset", 1000)] * 4
    with pytest.raises(HubError, match=r"best.weights.h5 could not be fetched after 4 attempts.*same command again"):
        fetch_run(RUN)
    assert not hub.breaks and not any("incomplete" in name for name in cached(tmp_path / "hf"))
    sizes = {path.stat().st_size for path in (tmp_path / "hf").rglob("*") if path.is_file()}
    assert not {size for size in sizes if 900 < size < 300_000}
    assert (fetch_run(RUN).folder / "best.weights.h5").read_bytes() == pushed_files["best.weights.h5"]


def test_a_file_that_was_changed_after_the_push_is_refused(hub, pushed, pushed_files) -> None:
    changed = hub.repositories["user/name"].commit({"best.weights.h5": pushed_files["best.weights.h5"][::-1]})
    expected = hashlib.sha256(pushed_files["best.weights.h5"]).hexdigest()
    with pytest.raises(
        HubError, match=rf"@{changed}/best.weights.h5 is not the file that was pushed: .*{expected}.*owner"
    ):
        fetch_run(RUN)


def test_a_damaged_copy_in_the_cache_is_fetched_anew(hub, pushed, pushed_files, monkeypatch) -> None:
    path = fetch_run(RUN).folder / "best.weights.h5"
    path.write_bytes(b"damaged")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match=r"The cache holds it damaged, and it could not be fetched anew"):
        fetch_run(RUN)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    assert (fetch_run(RUN).folder / "best.weights.h5").read_bytes() == pushed_files["best.weights.h5"]


def test_offline_the_cache_is_all_there_is(hub, pushed, pushed_files, monkeypatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match=r"not in the cache.*HF_HUB_OFFLINE forbids.*Fetch it once") as caught:
        fetch_run(RUN)
    assert not hub.requests and "\n" not in str(caught.value)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    online = fetch_run(RUN)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert fetch_run(RUN) == online and online.origin.endswith(pushed) and not hub.requests


def test_without_a_connection_the_cache_is_used_too(hub, pushed, monkeypatch) -> None:
    found = fetch_run(RUN)
    for name, value in {
        "ENDPOINT": "http://127.0.0.1:9",
        "HUGGINGFACE_CO_URL_TEMPLATE": "http://127.0.0.1:9/x",
    }.items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    assert fetch_run(RUN) == found
    with pytest.raises(HubError, match=r"the connection to http://127.0.0.1:9 failed .ConnectError.*HF_ENDPOINT"):
        fetch_run("hf://user/other")


def test_without_a_name_server_the_cache_is_all_there_is(hub, pushed, monkeypatch) -> None:
    found = fetch_run(RUN)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "https://hub.invalid")  # reserved for what is nowhere
    hub.requests.clear()
    assert fetch_run(RUN) == found
    with pytest.raises(
        HubError, match=r"not in the cache.*there is no hub\.invalid to be found.*HF_ENDPOINT"
    ) as caught:
        fetch_run("hf://user/other")
    assert not hub.requests and "\n" not in str(caught.value)


def test_a_private_run_is_read_with_the_login_of_the_hub_alone(hub, pushed, log_in, caplog, tmp_path) -> None:
    hub.repositories["user/name"].private = True
    with pytest.raises(HubError, match=r"There is no repository user/name.*or it is private.*hf auth login"):
        fetch_run(RUN)
    caplog.set_level(logging.DEBUG)
    token = log_in("read")
    assert fetch_run(RUN).origin.endswith(pushed)
    assert {request.headers.get("authorization") for request in hub.asked("hub", "HEAD")} >= {f"Bearer {token}"}
    assert not [request for request in hub.asked("files") if "authorization" in request.headers]
    assert token not in caplog.text


def test_a_gated_run_is_refused_with_the_way_in(hub, pushed, log_in) -> None:
    hub.repositories["user/name"].gated = True
    for login in ((), ("read",)):
        if login:
            log_in(*login)
        with pytest.raises(HubError, match=rf"is gated.*Accept them on {hub.url}/user/name.*hf auth login"):
            fetch_run(RUN)
    log_in("read", "gated")
    assert fetch_run(RUN).origin.endswith(pushed)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("hf://user/other", "There is no repository user/other on the Hugging Face Hub"),
        (f"{RUN}@nobranch", "user/name has no branch, tag or commit 'nobranch'"),
        (f"{RUN}/gone.weights.h5", "hf://user/name has no file 'gone.weights.h5'"),
        ("hf://user/empty", "holds no run of segzoo: it has no segzoo.json"),
        (f"{RUN}/x.bin", "does not end in .weights.h5 or .keras"),
    ],
)
def test_what_is_not_there_is_named(hub, pushed, address, words) -> None:
    hub.repositories["user/empty"] = Repository()
    hub.repositories["user/empty"].commit({"README.md": b""})
    with pytest.raises(HubError, match=words) as caught:
        fetch_file(address)
    assert "\n" not in str(caught.value)


def test_a_token_that_is_not_accepted_is_named_but_never_shown(hub, pushed, log_in, caplog) -> None:
    token = log_in("read")
    hub.tokens.clear()
    with pytest.raises(HubError, match=r"Your token is not accepted.*hf auth login") as caught:
        fetch_run(RUN)
    assert token not in f"{caught.value}{caught.value.__cause__}{caplog.text}"


def test_a_file_is_checked_against_the_manifest_beside_it_or_the_hubs_own_digest(hub, pushed, pushed_files) -> None:
    found = fetch_file(f"{RUN}/best.weights.h5")
    digest = hashlib.sha256(pushed_files["best.weights.h5"]).hexdigest()
    assert (found.origin, found.sha256) == (f"{RUN}@{pushed}/best.weights.h5", digest)
    assert fetch_file(RUN) == found
    hub.repositories["user/plain"] = Repository()
    commit = hub.repositories["user/plain"].commit({"sub/x.weights.h5": b"weights", "x.keras": b"small"})
    found = fetch_file("hf://user/plain/sub/x.weights.h5")
    assert found.origin == f"hf://user/plain@{commit}/sub/x.weights.h5" and found.path.read_bytes() == b"weights"
    assert found.sha256 == hashlib.sha256(b"weights").hexdigest()
    found.path.write_bytes(b"damaged")
    assert fetch_file(found.origin).path.read_bytes() == b"weights"


def test_a_file_that_nothing_vouches_for_needs_a_digest(hub) -> None:
    hub.repositories["user/plain"] = Repository()
    hub.repositories["user/plain"].commit({"x.keras": b"small"})  # not a large file here, so without a sha256
    digest = hashlib.sha256(b"small").hexdigest()
    with pytest.raises(HubError, match=rf"says the digest.*sha256 here is {digest}.*model.weights_sha256"):
        fetch_file("hf://user/plain/x.keras")
    assert fetch_file("hf://user/plain/x.keras", digest).path.read_bytes() == b"small"
    with pytest.raises(HubError, match=r"is not the file that was pushed"):
        fetch_file("hf://user/plain/x.keras", "0" * 64)


@pytest.fixture
def folder(tmp_path, pushed_files):
    """Folder of a run to push."""
    (tmp_path / "files" / "README.md").write_text('---\nlicense: "mit"\n---\n# Small\n')
    return tmp_path / "files"


def test_a_push_is_one_commit_that_is_fetched_alike(hub, folder, log_in, pushed_files) -> None:
    token = log_in("read", "write")
    address = parse(RUN)
    made = of(address).push(address, folder, PushOptions(private=True, message="First"))
    repository = hub.repositories["user/name"]
    assert repository.private and repository.messages == ["", "First"] and repository.branches == {"main": made}
    assert repository.commits[made].keys() == {*pushed_files, "README.md", ".gitattributes"}
    found = fetch_run(RUN)
    assert found.origin == f"{RUN}@{made}"
    assert (found.folder / "best.weights.h5").read_bytes() == pushed_files["best.weights.h5"]
    assert not [request for request in hub.requests if request.server == "files" and token in str(request.headers)]


def test_an_upload_that_breaks_is_tried_again_and_without_it_there_is_no_commit(hub, folder, log_in) -> None:
    log_in("read", "write")
    address = parse(RUN)
    hub.drops = 1000
    with pytest.raises(
        HubError, match=r"^hf://user/name could not be pushed: the connection to http.* failed"
    ) as caught:
        of(address).push(address, folder, PushOptions())
    assert len(hub.repositories["user/name"].commits) == 1 and not hub.blobs and SIGNATURE not in str(caught.value)
    hub.drops = 2
    made = of(address).push(address, folder, PushOptions())
    assert hub.drops == 0 and fetch_run(RUN).origin == f"{RUN}@{made}"


def test_a_push_to_a_branch_leaves_the_others(hub, folder, log_in, pushed) -> None:
    log_in("read", "write")
    address = parse(RUN)
    for _ in range(2):
        made = of(address).push(address, folder, PushOptions(revision="trial/1"))
    repository = hub.repositories["user/name"]
    assert repository.branches == {"main": pushed, "trial/1": made}
    assert fetch_run(f"{RUN}@trial%2F1").origin == f"{RUN}@{made}"


@pytest.mark.parametrize(
    ("login", "words"),
    [
        ((), "You are not logged in.*hf auth login"),
        (("read",), "no permission to write hf://user/name .You don't have the rights"),
    ],
)
def test_a_push_without_permission_is_refused_and_leaves_nothing(hub, folder, log_in, login, words) -> None:
    token = log_in(*login) if login else "none"
    address = parse(RUN)
    with pytest.raises(HubError, match=words) as caught:
        of(address).push(address, folder, PushOptions())
    assert not hub.repositories and not hub.blobs and token not in str(caught.value) and "\n" not in str(caught.value)


def test_a_private_push_to_a_public_repository_is_refused(hub, folder, log_in, pushed) -> None:
    log_in("read", "write")
    address = parse(RUN)
    with pytest.raises(HubError, match=r"is public already.*Nothing was pushed"):
        of(address).push(address, folder, PushOptions(private=True))
    assert hub.repositories["user/name"].branches == {"main": pushed}


def test_a_licence_that_the_hub_does_not_know_is_refused_before_anything_is_uploaded(hub, folder, log_in) -> None:
    log_in("read", "write")
    (folder / "README.md").write_text('---\nlicense: "no such licence"\n---\n# Small\n')
    address = parse(RUN)
    with pytest.raises(HubError, match=r"license"):
        of(address).push(address, folder, PushOptions())
    assert not hub.blobs and len(hub.repositories["user/name"].commits) == 1


def test_no_message_and_no_log_shows_a_signed_address(hub, pushed, caplog) -> None:
    hub.breaks += [("close", 10), *[("reset", 10)] * 4]
    with pytest.raises(HubError) as caught:
        fetch_run(RUN)
    assert SIGNATURE not in f"{caught.value}{caplog.text}" and f"downloading from {hub.files}" in caplog.text


def test_without_the_library_the_message_says_how_to_install_it(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(MissingPackageError, match=r"hf://user/name needs huggingface_hub.*\[hub\]"):
        fetch_run(RUN)
