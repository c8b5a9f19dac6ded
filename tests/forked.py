"""Server of Python processes that have imported Keras and NumPy, and nothing of segzoo: one for all workers of a run.

A process that imports TensorFlow takes ten seconds for it; one that this server forks has done so. Each client has a
fork of its own, which runs code in further forks, or loads models as `elsewhere.py` does.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import select
import signal
import subprocess
import sys
import time
import traceback
import types
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any


def connect(folder: Path) -> tuple[Connection, subprocess.Popen | None]:
    """Connect to the server of a folder, which is started if no other worker has done so; returns it to its owner."""
    address, owned = folder / "forked.address", None
    try:
        address.with_suffix(".lock").touch(exist_ok=False)
        owned = subprocess.Popen([sys.executable, __file__, str(address)], stdin=subprocess.PIPE)
    except FileExistsError:
        pass  # of another worker, which starts the server
    end = time.monotonic() + 120
    while not address.is_file():
        assert time.monotonic() < end and (owned is None or owned.poll() is None), "the server did not start"
        time.sleep(0.05)
    port, key = address.read_text().split()
    return Client(("127.0.0.1", int(port)), authkey=bytes.fromhex(key)), owned


def serve(address: Path) -> None:
    """Fork a process for each client, until the standard input ends."""
    # albumentations would import torch, and Keras scikit-learn, where they are installed: seconds of no use to a fork.
    sys.modules["sklearn"] = sys.modules["matplotlib"] = None  # type: ignore[assignment]
    sys.modules["albumentations.pytorch"] = types.ModuleType("albumentations.pytorch")
    import keras  # noqa: F401  (before segzoo: whoever needs the other order starts a process)

    del sys.modules["sklearn"], sys.modules["matplotlib"]
    assert not [name for name in sys.modules if name.partition(".")[0] == "segzoo"]
    key = os.urandom(16)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no client's process is waited for
    with Listener(("127.0.0.1", 0), authkey=key) as listener:
        written = address.with_suffix(".part")
        written.touch(mode=0o600)
        written.write_text(f"{listener.address[1]} {key.hex()}")
        written.replace(address)
        while True:
            ready, _, _ = select.select([listener._listener._socket, sys.stdin], [], [])
            if sys.stdin in ready:  # whoever still needs a server starts another one
                address.unlink()
                address.with_suffix(".lock").unlink()
                return
            client = listener.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                listener.close()
                with contextlib.suppress(EOFError):
                    answer(client)
                os._exit(0)
            client.close()


def answer(client: Connection) -> None:
    """Serve one client: its first message says what for, and each further one is a request, which has one answer."""
    if client.recv() == "models":
        runpy.run_path(str(Path(__file__).with_name("elsewhere.py")))["answer"](client)
    while True:
        request = client.recv()
        if (child := os.fork()) == 0:
            client.close()
            run(**request)
        client.send(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def run(code: str, arguments: list[str], folder: str, path: list[str], out: str, errors: str) -> Any:
    """Run code as `python -c` does, its standard output and errors in files."""
    for number, name in ((1, out), (2, errors)):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(folder)
    sys.path[:0] = path
    sys.argv = ["-c", *arguments]
    status = 1
    try:
        exec(compile(code, "<forked>", "exec"), {"__name__": "__main__"})
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    del sys.path[0]  # this file's folder, of which a child knows nothing
    serve(Path(sys.argv[1]))
