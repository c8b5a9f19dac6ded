"""Requests a second, latency and memory of `segzoo serve`, over loopback.

    python benchmarks/serve.py [RUN] [--requests 2000] [--size 256] [--batch 4] [--output classes]

Without RUN the network is --decoder on --backbone with random weights. The server is a process of its own; the clients
are threads of this one, each with a connection that it keeps. First 1, then 4, then 16 of them send a tenth of the
requests, then 4 of them all, of which every tenth is no image and must be answered by 422. Memory is the server's
resident set after a tenth of these and at the end. Every answer is compared with the first one.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import numpy as np
import psutil
from PIL import Image

CLIENTS = (1, 4, 16)
NO_IMAGE = b"no image"


def photo(size: int) -> bytes:
    """Return a JPEG of smooth random colours, about as large as one of a photograph."""
    coarse = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC).save(stream, format="JPEG", quality=92)
    return stream.getvalue()


def serve(options: argparse.Namespace) -> None:
    """Serve until the process is ended, with the address on the first line of the standard output."""
    import segzoo
    from segzoo.backend import start_backend
    from segzoo.inference import Predictor
    from segzoo.serving.app import create_app
    from segzoo.serving.limits import Limits
    from segzoo.serving.server import address_of, listen, run

    start_backend()
    if options.run:
        predictor = segzoo.load(options.run, batch=options.batch)
    else:
        predictor = Predictor(segzoo.build_model(options.decoder, options.backbone, 12, weights="none"))
    listener = listen("127.0.0.1", 0)
    run(
        create_app(predictor, Limits(batch=options.batch)),
        listener,
        lambda: print(address_of(listener), flush=True),
    )


class Load:
    """Clients that send requests to a server, and the seconds that each answer took."""

    def __init__(self, address: str, output: str, image: bytes):
        place = urlsplit(address)
        self._host, self._port, self._path = place.hostname or "", place.port, f"/predict?output={output}"
        self._image = image
        self._expected: bytes | None = None
        self._lock = threading.Lock()

    def run(
        self, clients: int, requests: int, malformed: int = 0, done: Callable[[int], None] | None = None
    ) -> tuple[float, list[float]]:
        """Send requests by so many clients at once; return the seconds of all, and of each.

        Args:
            clients: number of clients.
            requests: number of requests, shared among them.
            malformed: one of so many requests is no image; 0: none.
            done: called with the number of answers so far.
        """
        seconds: list[float] = []
        errors: list[BaseException] = []
        left = iter(range(requests))

        def client() -> None:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=120)
            try:
                while not errors:
                    with self._lock:
                        number = next(left, None)
                    if number is None:
                        return
                    bad = bool(malformed) and number % malformed == malformed - 1
                    started = time.perf_counter()
                    self._ask(connection, bad)
                    with self._lock:
                        seconds.append(time.perf_counter() - started)
                        if done is not None:
                            done(len(seconds))
            except BaseException as error:
                errors.append(error)
            finally:
                connection.close()

        threads = [threading.Thread(target=client) for _ in range(clients)]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return time.perf_counter() - started, seconds

    def _ask(self, connection: http.client.HTTPConnection, bad: bool) -> None:
        connection.request("POST", self._path, NO_IMAGE if bad else self._image)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != (422 if bad else 200):
            raise SystemExit(f"{answer.status}: {body[:200]!r}")
        if bad:
            return
        with self._lock:
            self._expected = body if self._expected is None else self._expected
        if body != self._expected:
            raise SystemExit("The same image got two answers.")


def measure(options: argparse.Namespace, server: subprocess.Popen[str]) -> None:
    """Load a server that has started, and print the figures."""
    assert server.stdout is not None
    address = server.stdout.readline().strip()
    if not address:
        raise SystemExit("The server did not start; its messages above say why.")
    load = Load(address, options.output, photo(options.size))
    load.run(1, 5)  # traces the graph
    tenth = max(options.requests // 10, max(CLIENTS))
    print(f"{options.output}, {options.size} x {options.size}, batch {options.batch}, {tenth} requests each\n")
    print("| clients | requests/s | median, ms | p95, ms |\n| --: | --: | --: | --: |")
    rows = []
    for clients in CLIENTS:
        total, seconds = load.run(clients, tenth)
        p95 = float(np.percentile(seconds, 95))
        rows.append({"clients": clients, "per_second": tenth / total, "median": statistics.median(seconds), "p95": p95})
        print(f"| {clients} | {tenth / total:.1f} | {rows[-1]['median'] * 1e3:.0f} | {p95 * 1e3:.0f} |", flush=True)
    process = psutil.Process(server.pid)
    memory: dict[int, float] = {}

    def note(count: int) -> None:
        if count % tenth == 0:
            memory[count] = process.memory_info().rss / 2**20

    load.run(4, options.requests, malformed=10, done=note)
    first, last = memory[min(memory)], memory[max(memory)]
    print(f"\nMemory after {min(memory)} requests {first:.0f} MiB, after {max(memory)} {last:.0f} MiB: ", end="")
    print(f"{last - first:+.1f} MiB ({(last - first) * 1024 / (max(memory) - min(memory) or 1):+.2f} KiB a request)")
    print(json.dumps({"load": rows, "memory": memory}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", help="a run or a model file")
    parser.add_argument("--requests", type=int, default=2000, help="requests of the measurement of memory")
    parser.add_argument("--size", type=int, default=256, help="height and width of the image")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--output", default="classes", choices=("classes", "overlay", "probabilities", "polygons"))
    parser.add_argument("--decoder", default="unet")
    parser.add_argument("--backbone", default="efficientnet_b0")
    parser.add_argument("--server", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.server:
        serve(options)
        return
    command = [sys.executable, __file__, *sys.argv[1:], "--server"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        measure(options, server)
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
