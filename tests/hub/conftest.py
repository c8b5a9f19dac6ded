"""Fixtures of the stand-ins of hubs, and of a small run to push that needs no framework."""

from __future__ import annotations

import json
from collections.abc import Iterator

import huggingface_server
import numpy as np
import pytest

from segzoo.hub import Manifest

CONFIG = """
name: small
model: {decoder: fpn, backbone: resnet18, weights: none}
data: {source: generated, size: [32, 32]}
"""


@pytest.fixture
def pushed_files(tmp_path) -> dict[str, bytes]:
    """Files of a pushed run, whose weights are 300,000 random bytes."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "environment.json").write_text(json.dumps({"packages": {"segzoo": "0.2.0"}, "given": {}}))
    (folder / "best.weights.h5").write_bytes(np.random.default_rng(0).bytes(300_000))
    Manifest.of(folder, "0.2.0").write(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="session")
def servers() -> Iterator[huggingface_server.Hub]:
    with huggingface_server.running() as hub:
        yield hub


@pytest.fixture
def hub(servers, tmp_path, monkeypatch) -> Iterator[huggingface_server.Hub]:
    """An empty Hugging Face Hub, of which huggingface_hub knows no token and has nothing in its cache."""
    constants = pytest.importorskip("huggingface_hub.constants")
    from huggingface_hub.utils import _http

    from segzoo.hub import retrying

    for kept in (servers.repositories, servers.blobs, servers.tokens, servers.requests, servers.breaks):
        kept.clear()
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    home = tmp_path / "hf"
    for name, value in {
        "ENDPOINT": servers.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": servers.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
        "HF_HUB_OFFLINE": False,
        "DOWNLOAD_CHUNK_SIZE": 10_000,  # bytes; what is less than a chunk is fetched again
        "HF_HUB_DISABLE_XET": True,  # whose servers no stand-in has
        "HF_HUB_DISABLE_PROGRESS_BARS": True,
    }.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setattr(retrying, "_SECONDS", 0.01)
    _http.close_session()
    yield servers
    _http.close_session()


@pytest.fixture
def log_in(hub, tmp_path):
    """Log in to the Hugging Face Hub as `hf auth login` does: by a token in a file."""

    def log_in(*rights: str) -> str:
        token = hub.login(*rights)
        (tmp_path / "hf").mkdir(exist_ok=True)
        (tmp_path / "hf" / "token").write_text(token)
        return token

    return log_in
