"""HTTP servers that stand in for a hub and its store of files; they note what they are asked, and can break."""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeVar
from urllib.parse import urlsplit

Answer = tuple[int, dict[str, str], bytes]


@dataclass(frozen=True)
class Request:
    """One request that arrived, at the server "hub" or "files"."""

    server: str
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class StandIn:
    """State of both servers.

    Attributes:
        url: address of the hub.
        files: address of the store of files.
        requests: all that arrived.
        breaks: how the next answers with files break: "close" or "reset" after so many bytes.
        drops: how many uploads of files are hung up on.
    """

    url = files = ""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all that happened."""
        self.requests: list[Request] = []
        self.breaks: list[tuple[str, int]] = []
        self.drops = 0

    def asked(self, server: str, method: str = "GET") -> list[Request]:
        return [request for request in self.requests if (request.server, request.method) == (server, method)]

    def answer(self, server: str, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        raise NotImplementedError


def part_of(content: bytes, headers: dict[str, str]) -> Answer:
    """Answer with a file, or with the rest of it that is asked for."""
    ranged = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
    if ranged is None:
        return 200, {"Accept-Ranges": "bytes"}, content
    start = int(ranged[1])
    span = f"bytes {start}-{len(content) - 1}/{len(content)}"
    return 206, {"Accept-Ranges": "bytes", "Content-Range": span}, content[start:]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stand_in: StandIn
    server_name: str

    def _serve(self) -> None:
        if self.command == "PUT" and self.stand_in.drops:
            self.stand_in.drops -= 1
            self.close_connection = True
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self._body(headers)
        path = urlsplit(self.path).path
        status, more, content = self.stand_in.answer(self.server_name, self.command, path, headers, body)
        self.stand_in.requests.append(Request(self.server_name, self.command, self.path, headers, body))
        self.send_response(status)
        for name, value in {**more, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.server_name == "files" and self.command == "GET" and self.stand_in.breaks:
            self._break(content, *self.stand_in.breaks.pop(0))
        else:
            self.wfile.write(content)

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(headers.get("content-length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _break(self, content: bytes, kind: str, count: int) -> None:
        """Send the first bytes, and then hang up, or reset the connection."""
        self.wfile.write(content[:count])
        self.wfile.flush()
        if kind == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = _serve

    def log_message(self, format: str, *args: object) -> None:
        """Be quiet."""

    def finish(self) -> None:
        with suppress(OSError):  # the connection was reset on purpose
            super().finish()


S = TypeVar("S", bound=StandIn)


@contextmanager
def running(stand_in: S) -> Iterator[S]:
    """Run both servers on ports of their own."""
    servers = []
    for name in ("hub", "files"):
        handler = type(name, (_Handler,), {"stand_in": stand_in, "server_name": name})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
    stand_in.url, stand_in.files = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    yield stand_in
    for server in servers:
        server.shutdown()
        server.server_close()
