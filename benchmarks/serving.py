"""Load on ``lstmkit serve``: requests per second and latency, batches, broken requests, slow clients, a killed server.

    python benchmarks/serving.py RUNS [--seconds 60] [--real-time] [-o results/serving.json]

Server and client are two processes on one machine and talk over the loopback, each pinned to a core of its own. The
client waits for each answer before it asks again, so with many connections the latency is that of a full queue. RUNS is
a folder for the fitted models; they are made if it has none. ``--real-time`` also measures a live step at real-time
priority, which shows how much of the latency is waiting for other processes on the cores.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import random
import re
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import machine

HOST, PORT = "127.0.0.1", 8719
CONNECTIONS = (1, 16, 128)
SLOW_CLIENTS = 50
PING, PONG = 0x89, 0x8A  # first bytes of frames of WebSocket
LIBRARIES = ("fastapi", "uvicorn", "httptools", "websockets", "pydantic")


# ---- models ----------------------------------------------------------------------------------------------------------


def fit_models(folder: Path) -> dict[str, Path]:
    """A classifier of short questions, the forecaster of the demo, and an anomaly detector of two channels."""
    from lstmkit import AnomalyDetector, Classifier
    from lstmkit.data import catalog
    from lstmkit.data.text_files import open_bytes
    from lstmkit.demo import fit_demo
    from lstmkit.progress import Progress

    runs = {name: folder / name for name in ("classifier", "forecaster", "detector")}
    if not runs["classifier"].exists():
        with open_bytes(catalog.locate("trec_questions", "TREC.train")) as file:
            lines = file.read().decode("latin-1").splitlines()
        labels, texts = zip(*(line.split(" ", 1) for line in lines), strict=True)
        coarse = [label.partition(":")[0] for label in labels]
        Classifier(epochs=2, test_fraction=0.0).fit(([*texts], coarse), run=runs["classifier"])
    if not runs["forecaster"].exists():
        fit_demo(runs["forecaster"], Progress())
    if not runs["detector"].exists():
        steps = np.arange(2000)
        waves = np.stack([np.sin(steps / 7), np.cos(steps / 11)], axis=1)
        AnomalyDetector(epochs=2, test_fraction=0.0).fit(waves, run=runs["detector"])
    return runs


# ---- the server ------------------------------------------------------------------------------------------------------


@dataclass
class Server:
    """A server process.

    Attributes:
        process: The process.
        log: Its log.
    """

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def resident_mb(self) -> float:
        """Memory of the process in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1000

    @property
    def examples(self) -> dict[str, Any]:
        """By run its example request, and its example step."""
        with urllib.request.urlopen(f"http://{HOST}:{PORT}/v1", timeout=30) as answer:
            return {run["name"]: run for run in json.load(answer)["runs"]}

    def wait_until_ready(self) -> float:
        """Wait until it answers; seconds that this took."""
        start = time.monotonic()
        while time.monotonic() - start < 120:
            with suppress(OSError), urllib.request.urlopen(f"http://{HOST}:{PORT}/ready", timeout=1):
                return time.monotonic() - start
            time.sleep(0.05)
        raise RuntimeError(f"the server does not start, see {self.log}")


@contextmanager
def serving(runs: Sequence[Path], log: Path, core: str, *options: str) -> Iterator[Server]:
    """A server of runs, pinned to a core; it is stopped at the end."""
    command = ["taskset", "-c", core, sys.executable, "-m", "lstmkit", "-q", "serve", *map(str, runs)]
    with log.open("ab") as output:
        process = subprocess.Popen([*command, "--port", str(PORT), *options], stderr=output, stdout=output)
    server = Server(process, log)
    try:
        server.wait_until_ready()
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@contextmanager
def real_time() -> Iterator[None]:
    """This process, and those that it starts, run before all others. Raises PermissionError without the right to it."""
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


# ---- clients ---------------------------------------------------------------------------------------------------------


def post(path: str, body: bytes, content_type: str = "application/json") -> bytes:
    """An HTTP request."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def text_frame(content: bytes) -> bytes:
    """A frame of WebSocket from a client, masked with zeros."""
    short = len(content) < 126
    head = struct.pack("!BB", 0x81, 0x80 | len(content)) if short else struct.pack("!BBH", 0x81, 0xFE, len(content))
    return head + bytes(4) + content


def http_length(data: bytes) -> int:
    """The length of the first answer in ``data``; more than there is, if it is not complete."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return len(data) + 1
    match = re.search(rb"content-length: (\d+)", data[:end], re.IGNORECASE)
    return end + 4 + (int(match[1]) if match else 0)


def frame_length(data: bytes) -> int:
    """As :func:`http_length`, of a frame of WebSocket from a server."""
    if len(data) < 4:
        return len(data) + 1
    return 4 + int.from_bytes(data[2:4], "big") if data[1] == 126 else 2 + data[1]


class Client(asyncio.Protocol):
    """A connection that asks again as soon as it has the answer.

    Args:
        message: What it asks.
        length: The length of the first answer in the bytes received.
        upgrade: A request whose answer is awaited before the first message.
    """

    def __init__(self, message: bytes, length: Callable[[bytes], int], upgrade: bytes = b"") -> None:
        self.message, self.length, self.upgrade = message, length, upgrade
        self.latencies: list[float] = []
        self.faults = 0
        self.stopped = False
        self._data, self._asked = b"", 0.0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(self.upgrade) if self.upgrade else self._ask()

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        self._transport.write(self.message)

    def data_received(self, data: bytes) -> None:
        self._data += data
        while True:
            length = http_length(self._data) if self.upgrade else self.length(self._data)
            if len(self._data) < max(length, 1):
                return
            answer, self._data = self._data[:length], self._data[length:]
            self._take(answer)

    def _take(self, answer: bytes) -> None:
        if answer[0] == PING:
            self._transport.write(bytes((PONG, 0x80 | answer[1])) + bytes(4) + answer[2:])
            return
        if self.upgrade:
            self.upgrade = b""
        else:
            self.latencies.append(time.perf_counter() - self._asked)
            self.faults += b"error" in answer[:300]
        self._transport.close() if self.stopped else self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        self.faults += not self.stopped


async def load(make: Callable[[], Client], connections: int, seconds: float, server: Server) -> dict[str, Any]:
    """What clients measure, after a short warm-up."""
    loop = asyncio.get_running_loop()
    clients = [(await loop.create_connection(make, HOST, PORT))[1] for _ in range(connections)]
    await asyncio.sleep(min(2.0, seconds / 5))
    for client in clients:
        client.latencies.clear()
        client.faults = 0
    memory, start = [server.resident_mb], time.perf_counter()
    while time.perf_counter() - start < seconds:
        await asyncio.sleep(min(1.0, seconds))
        memory.append(server.resident_mb)
    duration = time.perf_counter() - start
    latencies = sorted(1000 * latency for client in clients for latency in client.latencies)
    for client in clients:
        client.stopped = True
    await asyncio.sleep(0.3)
    return {
        "connections": connections,
        "seconds": round(duration, 1),
        "requests_per_s": round(len(latencies) / duration, 1),
        "p50_ms": round(statistics.median(latencies), 3),
        "p99_ms": round(latencies[int(0.99 * len(latencies))], 3),
        "max_ms": round(latencies[-1], 3),
        "memory_mb": [round(memory[0], 1), round(max(memory), 1), round(memory[-1], 1)],
        "faults": sum(client.faults for client in clients),
    }


def clients_of(example: dict[str, Any], live: bool) -> Callable[[], Client]:
    """A maker of clients that send the example of a run, or its example step."""
    name = example["name"]
    if not live:
        return lambda: Client(post(f"/v1/{name}/predict", json.dumps(example["example"]).encode()), http_length)
    key = base64.b64encode(bytes(16)).decode()
    upgrade = (
        f"GET /v1/{name}/live HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()
    return lambda: Client(text_frame(json.dumps(example["live"]).encode()), frame_length, upgrade)


# ---- faults ----------------------------------------------------------------------------------------------------------


def broken_requests(example: dict[str, Any], count: int, seed: int) -> Iterator[bytes]:
    """Requests with a fault in the protocol, the JSON, the types, the values, or the form."""
    rng, path = random.Random(seed), f"/v1/{example['name']}/predict"
    body = json.dumps(example["example"]).encode()
    values = [
        None,
        [],
        {},
        "/etc/passwd",
        [None],
        [[]],
        [{}],
        -1,
        1e308,
        True,
        ["\ud800"],
        [{"a": {"b": 1}}],
        {"data": 1},
    ]
    for _ in range(count):
        kind = rng.randrange(8)
        if kind == 0:  # flipped and lost bytes
            broken = bytearray(body)
            for _ in range(rng.randint(1, 4)):
                broken[rng.randrange(len(broken))] = rng.randrange(256)
            yield post(path, bytes(broken[: rng.randint(0, len(broken))]))
        elif kind == 1:
            yield post(path, json.dumps({"data": rng.choice(values), "options": {}}).encode())
        elif kind == 2:
            yield post(path, json.dumps({**example["example"], "options": {"x": rng.choice(values)}}).encode())
        elif kind == 3:
            yield post(path, b'{"data":' + b"[" * rng.choice((10, 1000, 100_000)))
        elif kind == 4:
            yield post(path, body, rng.choice(("text/plain", "", "application/xml", "multipart/form-data")))
        elif kind == 5:
            form = (
                b'--x\r\nContent-Disposition: form-data; name="file"; filename="../../a.csv"\r\n\r\n'
                + rng.randbytes(200)
            )
            yield post(f"{path}/file", form + b"\r\n--x--\r\n", "multipart/form-data; boundary=x")
        elif kind == 6:
            yield post(rng.choice(("/", "/v1", "/v1/x/predict", f"{path}/../../..", "/v1/%00", path * 9)), body)
        else:
            yield rng.choice(
                (b"GARBAGE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", post(path, body).replace(b": ", b"\x00 ", 1))
            )


async def send_broken(requests: Iterator[bytes]) -> dict[str, int]:
    """Send each request on a connection of its own, 16 at a time; the number of answers by status."""
    statuses: dict[str, int] = {}

    async def one_by_one() -> None:
        for request in requests:
            reader, writer = await asyncio.open_connection(HOST, PORT)
            try:
                writer.write(request)
                line = await asyncio.wait_for(reader.readline(), 60)
                status = line.split(b" ")[1].decode() if line.count(b" ") > 1 else "closed"
            except ConnectionError:
                status = "closed"
            statuses[status] = statuses.get(status, 0) + 1
            writer.close()

    await asyncio.gather(*(one_by_one() for _ in range(16)))
    return dict(sorted(statuses.items()))


async def hold_slowly(clients: int, stop: asyncio.Event) -> None:
    """Clients that send a byte a second of their headers, or of their body, and come back when they are cut off."""

    async def one(request: bytes) -> None:
        while not stop.is_set():
            _, writer = await asyncio.open_connection(HOST, PORT)
            try:
                for position in range(len(request)):
                    writer.write(request[position : position + 1])
                    await writer.drain()
                    await asyncio.sleep(1)
                    if stop.is_set():
                        break
            except ConnectionError:
                pass
            finally:
                writer.close()

    whole = post("/v1/classifier/predict", b"x" * 1000)
    head, _, _ = whole.partition(b"\r\n\r\n")
    starts = [whole, head + b"\r\n\r\n"]
    await asyncio.gather(*(one(starts[i % 2]) for i in range(clients)))


# ---- all -------------------------------------------------------------------------------------------------------------


async def measure(
    runs: dict[str, Path], seconds: float, log: Path, core: str, broken: int, priority: bool
) -> dict[str, Any]:
    """All cases; those at real-time priority if ``priority`` is true."""
    loads: dict[str, list[dict[str, Any]]] = {}
    with serving([*runs.values()], log, core) as server:
        examples = server.examples
        for name in runs:
            make = clients_of(examples[name], live=name == "detector")
            loads[name] = [await load(make, n, seconds, server) for n in CONNECTIONS]
            print(name, *loads[name], sep="\n  ", file=sys.stderr)
        memory, statuses = [server.resident_mb], []
        for half in (0, 1):  # memory may grow in the first half, for what is kept once
            statuses.append(await send_broken(broken_requests(examples["classifier"], broken // 2, seed=half)))
            memory.append(server.resident_mb)
        stop, make = asyncio.Event(), clients_of(examples["classifier"], live=False)
        alone = await load(make, 1, min(seconds, 10), server)
        slow = asyncio.create_task(hold_slowly(SLOW_CLIENTS, stop))
        beside = await load(make, 1, min(seconds, 15), server)
        stop.set()
        await slow
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
    with serving([*runs.values()], log, core) as server:  # on the same port, at once
        answered = await load(make, 1, 1, server)
    with serving([runs["classifier"]], log, core, "--max-batch", "1") as server:
        alone_each = [await load(make, n, min(seconds, 12), server) for n in CONNECTIONS]
    if priority:
        with real_time(), serving([runs["detector"]], log, core) as server:
            make = clients_of(server.examples["detector"], live=True)
            loads["detector_real_time"] = [await load(make, 1, seconds, server)]
    left = [str(path) for path in Path(tempfile.gettempdir()).glob("lstmkit-serve-*")]
    return {
        "loads": loads,
        "classifier_one_by_one": alone_each,
        "broken_requests": {
            "sent": broken,
            "statuses": statuses,
            "memory_mb": [round(m, 1) for m in memory],
            "tracebacks": log.read_text(encoding="utf-8").count("Traceback"),
        },
        "slow_clients": {"clients": SLOW_CLIENTS, "without": alone, "with": beside},
        "after_kill_9": {"answered": answered["requests_per_s"] > 0, "folders_left": left},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0, help="time of each case")
    parser.add_argument("--broken", type=int, default=10_000, help="number of broken requests")
    parser.add_argument("--cores", default="0,1", help="the cores of server and client")
    parser.add_argument("--real-time", action="store_true", help="also measure a live step at real-time priority")
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    runs = fit_models(given.runs)
    server_core, _, client_core = given.cores.partition(",")
    os.sched_setaffinity(0, {int(client_core)})
    log = given.runs / "server.log"
    log.write_bytes(b"")
    facts = machine.describe(threads=1, seed=0)
    versions = {name: machine.version(name) for name in LIBRARIES}
    facts["cores"] = f"server on core {server_core}, client on core {client_core} of the same machine"
    record = {
        **facts,
        "libraries": versions,
        **asyncio.run(measure(runs, given.seconds, log, server_core, given.broken, given.real_time)),
    }
    text = json.dumps(record, indent=1) + "\n"
    print(text)
    if given.output:
        given.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
