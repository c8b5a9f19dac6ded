"""Server process: a socket that is taken before the model is loaded, and a stop that finishes what runs."""

from __future__ import annotations

import ipaddress
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from segzoo.errors import SegzooError


def listen(host: str, port: int) -> socket.socket:
    """Open the socket of a server.

    Args:
        host: name or address of an interface of this machine.
        port: 1 to 65535, or 0 for a free one.

    Raises:
        SegzooError: no such interface, or the port is taken or not allowed.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family)
    except (OSError, OverflowError, TypeError, ValueError) as error:  # the last two of odd names
        reason = getattr(error, "strerror", None) or error
        raise SegzooError(
            f"{host}, port {port}: cannot be listened on ({reason}). Choose another --host or --port; port 0 takes a "
            "free one."
        ) from error
    # Connections inherit it. asyncio sets it on none whose protocol was left open, and a small body, sent after its
    # head, would wait 40 ms for the client's delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def address_of(listener: socket.socket) -> str:
    """Return the address of a listening socket as a browser takes it."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_private(listener: socket.socket) -> bool:
    """Return whether only this machine reaches a listening socket."""
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def run(
    app: FastAPI, listener: socket.socket, started: Callable[[], None] | None = None, stop_seconds: int = 60
) -> None:
    """Serve until SIGTERM or SIGINT; then take no more requests, and finish those that run.

    Args:
        app: the application.
        listener: listening socket; closed at the end.
        started: called when requests are answered.
        stop_seconds: seconds that requests have left from the signal on.

    Raises:
        SegzooError: the application did not start.
    """
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=stop_seconds
    )
    server = _Server(config, started)
    server.run([listener])
    if not server.started:
        raise SegzooError("The server did not start; its messages above say why.")


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, started: Callable[[], None] | None):
        super().__init__(config)
        self._tell = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self._tell is not None:
            self._tell()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop by signals without raising them again at the end: to stop is what they asked for, and it was done."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        heeded = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, self.handle_exit) for number in heeded}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
