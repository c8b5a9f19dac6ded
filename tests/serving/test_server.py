"""A server on a real socket stops by a signal, after the request that it has; what it cannot do is said at once."""

import importlib.util
import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

import segzoo
from segzoo.errors import MissingPackageError, SegzooError
from segzoo.extras import install_command

pytest.importorskip("uvicorn")
from segzoo.serving import server

PHOTO = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
pytestmark = pytest.mark.usefixtures("small_network", "no_trial")


def stopped_in_the_middle(address: str, pid: int, number: int) -> bytes:
    """Ask for a prediction, and stop the server between the two halves of the image; return the whole answer."""
    stream = io.BytesIO()
    Image.fromarray(PHOTO).save(stream, format="PNG")
    data = stream.getvalue()
    place = urlsplit(address)
    with socket.create_connection((place.hostname, place.port), timeout=60) as connection:
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\nExpect: 100-continue\r\n\r\n"
        connection.sendall(head.encode())
        answer = connection.recv(1000)  # sent when the server begins to read the body: the request runs
        assert answer.startswith(b"HTTP/1.1 100")
        connection.sendall(data[:20])
        os.kill(pid, number)
        with pytest.raises(OSError):  # in the end nobody else is let in
            while True:
                socket.create_connection((place.hostname, place.port), timeout=60).close()
        connection.sendall(data[20:])
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def check(answer: bytes, run: Path) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200") and b"image/png" in head and b"uvicorn" not in head
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(body))), segzoo.load(run)(PHOTO))


def test_a_signal_stops_the_server_after_the_request_that_it_has(tiny_run):
    answers, servings = [], []

    def started(serving):
        servings.append(serving)
        client.start()

    def ask():
        answers.append(stopped_in_the_middle(servings[0].address, os.getpid(), signal.SIGTERM))

    client = threading.Thread(target=ask)
    before = signal.getsignal(signal.SIGTERM)
    segzoo.serve(tiny_run, port=0, started=started)
    client.join(60)
    check(answers[0], tiny_run)
    assert servings[0].private and servings[0].address in str(servings[0])
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.nightly
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_in_another_process(tiny_run, number):
    command = [sys.executable, "-m", "segzoo", "serve", str(tiny_run), "--saved-model", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stdout:
                if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                    break
            check(stopped_in_the_middle(found[0], process.pid, number), tiny_run)
            assert process.wait(60) == 0
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()


def test_a_port_that_is_taken_is_an_error_before_the_model_is_loaded(tiny_run, monkeypatch):
    monkeypatch.setattr(segzoo.backend, "start_backend", lambda: pytest.fail("the model was loaded"))
    with server.listen("127.0.0.1", 0) as taken, pytest.raises(SegzooError, match=r"cannot be listened on.*--port"):
        segzoo.serve(tiny_run, port=taken.getsockname()[1])


@pytest.mark.parametrize(
    ("host", "port"),
    [("203.0.113.7", 0), ("no such host", 0), ("127.0.0.1", 70_000), pytest.param("é" * 99, 0, id="long")],
)
def test_places_that_are_not_on_this_machine(host, port):
    with pytest.raises(SegzooError, match="cannot be listened on"):
        server.listen(host, port)


@pytest.mark.parametrize(("host", "private"), [("127.0.0.1", True), ("localhost", True), ("0.0.0.0", False)])
def test_only_loopback_is_private(host, private):
    with server.listen(host, 0) as listener:
        assert server.is_private(listener) == private
        assert re.fullmatch(r"http://[\d.]+:\d+", server.address_of(listener))


def test_small_answers_are_sent_at_once():
    """Else each body waits 40 ms for the acknowledgement of its head."""
    with server.listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_missing_packages_are_named_with_the_cure(tiny_run, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match="fastapi and uvicorn and python-multipart") as error:
        segzoo.serve(tiny_run)
    assert install_command("serve") in str(error.value)


@pytest.mark.parametrize("limit", ["max_bytes", "max_pixels", "batch"])
def test_a_limit_below_one_is_refused_before_the_model_is_opened(limit, tmp_path):
    with pytest.raises(SegzooError, match=f"{limit} must be 1 or more"):
        segzoo.serve(tmp_path / "none", port=0, **{limit: 0})
