"""Fixtures of the stand-ins of hubs, and of a small run to push that needs no framework."""

from __future__ import annotations

import json
from collections.abc import Iterator

import huggingface_server
import kaggle_server
import numpy as np
import pytest
from stand_in import running

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
    with running(huggingface_server.Hub()) as hub:
        yield hub


@pytest.fixture(scope="session")
def kaggle_servers() -> Iterator[kaggle_server.Kaggle]:
    with running(kaggle_server.Kaggle()) as kaggle:
        yield kaggle


@pytest.fixture
def hub(servers, tmp_path, monkeypatch) -> Iterator[huggingface_server.Hub]:
    """An empty Hugging Face Hub, of which huggingface_hub knows no token and has nothing in its cache."""
    constants = pytest.importorskip("huggingface_hub.constants")
    from huggingface_hub import file_download
    from huggingface_hub.utils import _http

    from segzoo.hub import retrying

    servers.clear()
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
    monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)
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


@pytest.fixture
def kaggle(kaggle_servers, tmp_path, monkeypatch) -> kaggle_server.Kaggle:
    """Empty Kaggle Models, of which kagglehub knows no token and has nothing in its cache."""
    pytest.importorskip("kagglehub")
    from kagglehub import clients
    from kagglesdk import kaggle_env

    from segzoo.hub import retrying

    kaggle_servers.clear()
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name, raising=False)
    # The endpoint is chosen by the name of an environment, from a table without a free port.
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.LOCAL, kaggle_servers.url)
    # It looks for the libraries that called it in every module of the process, which with TensorFlow takes seconds.
    monkeypatch.setattr(clients, "get_user_agent", lambda: "kagglehub")
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kagglehub"))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "kaggle"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(clients, "CHUNK_SIZE", 10_000)  # bytes; what is less than a chunk is fetched again
    monkeypatch.setattr(retrying, "_SECONDS", 0.01)
    return kaggle_servers


@pytest.fixture
def console_of():
    """Make a console that writes to screen.txt in a folder."""
    from rich.console import Console

    return lambda folder: Console(file=(folder / "screen.txt").open("a"), width=120)
