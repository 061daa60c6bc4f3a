"""What a prediction costs over gRPC, beside REST, and beside grpcio's server with a handler that does nothing.

    python benchmarks/grpc_cost.py [--rounds 5] [--seconds 2]

One row of ten features to a ``LinearRegression`` in memory, on one connection and on 32. All servers run at once and take turns,
A B C A B C; a figure is the least of its rounds, as other work on the machine only adds. Prints a table in Markdown. REST is
the Open Inference Protocol too, with JSON, and with the binary extension that tritonclient uses.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import h2_client
import numpy as np
import psutil
from models import ROW, name_of, request_for, write_models
from subjects import HERE, LOCALHOST, STOP_LIMIT_S, free_port, hotset

from hotset.messages.pool import message_class

LEVELS: Final = (1, 32)
WARM: Final = 300
INFER: Final = "/inference.GRPCInferenceService/ModelInfer"
BARE: Final = ("uvloop", "asyncio", "threads")


class Asking(Protocol):
    """One connection, one request at a time."""

    socket: socket.socket

    def send(self) -> None: ...
    def receive(self) -> bool: ...
    def close(self) -> None: ...


class Http:
    """The same request again and again over HTTP/1.1."""

    def __init__(self, port: int, path: str, body: bytes, headers: str = "") -> None:
        self.socket: Final = socket.create_connection((LOCALHOST, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = f"POST {path} HTTP/1.1\r\nhost: {LOCALHOST}\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
        self._request: Final = head.encode() + body
        self._received = b""

    def close(self) -> None:
        self.socket.close()

    def send(self) -> None:
        self.socket.sendall(self._request)

    def receive(self) -> bool:
        self._received += self.socket.recv(65536)
        head, separator, rest = self._received.partition(b"\r\n\r\n")
        if not separator:
            return False
        if not head.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(head.decode("latin-1"))
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(rest) < length:
            return False
        self._received = b""
        return True


@dataclass
class Subject:
    """A server and how it is asked. ``rounds`` are, by connections: processor time of both, and the median time, in µs."""

    name: str
    pid: int
    port: int
    connect: Any
    rounds: dict[int, list[tuple[float, float, float]]] = field(default_factory=dict)

    def cpu_s(self) -> tuple[float, float]:
        """Return the processor time of the gateway and of its children."""
        gateway = psutil.Process(self.pid)
        used = []
        for process in (gateway, *gateway.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                used.append(times.user + times.system)
        return used[0], sum(used[1:])

    def measure(self, connections: int, seconds: float) -> None:
        asking: list[Asking] = [self.connect(self.port) for _ in range(connections)]
        try:
            drive(asking, seconds=0.2)
            before = self.cpu_s()
            times = drive(asking, seconds=seconds)
            after = self.cpu_s()
        finally:
            for one in asking:
                one.close()
        gateway, child = (1e6 * (end - start) / len(times) for start, end in zip(before, after, strict=True))
        self.rounds.setdefault(connections, []).append((gateway, child, 1e6 * float(np.median(times))))

    def least(self, connections: int) -> tuple[float, float, float, float]:
        """Return the least of all rounds: both processes, the gateway in that round, the child, the median time."""
        rounds = self.rounds[connections]
        gateway, child, _ = min(rounds, key=lambda it: it[0] + it[1])
        return gateway + child, gateway, child, min(it[2] for it in rounds)


def drive(asking: Sequence[Asking], *, seconds: float) -> list[float]:
    """Keep each connection asking, and return the times that the answers took."""
    times: list[float] = []
    with selectors.DefaultSelector() as selector:
        sent: dict[int, float] = {}
        for one in asking:
            selector.register(one.socket, selectors.EVENT_READ, one)
            sent[id(one)] = time.perf_counter()
            one.send()
        end = time.perf_counter() + seconds
        running = len(asking)
        while running:
            for key, _ in selector.select(timeout=30):
                one = key.data
                if one.receive():
                    now = time.perf_counter()
                    times.append(now - sent[id(one)])
                    if now < end:
                        sent[id(one)] = now
                        one.send()
                    else:
                        selector.unregister(one.socket)
                        running -= 1
    return times


def infer_message() -> bytes:
    request = message_class("ModelInferRequest")(model_name=name_of(0), id="1")
    request.inputs.add(name="input-0", datatype="FP64", shape=[1, len(ROW)])
    request.raw_input_contents.append(np.array(ROW).tobytes())
    encoded: bytes = request.SerializeToString()
    return encoded


def json_body() -> bytes:
    tensor = {"name": "input-0", "shape": [1, len(ROW)], "datatype": "FP64", "data": list(ROW)}
    return json.dumps({"id": "1", "inputs": [tensor]}).encode()


def binary_body() -> tuple[bytes, str]:
    """Return what tritonclient's HTTP client sends, and the header that goes with it."""
    data = np.array(ROW).tobytes()
    tensor = {
        "name": "input-0",
        "shape": [1, len(ROW)],
        "datatype": "FP64",
        "parameters": {"binary_data_size": len(data)},
    }
    head = json.dumps({"id": "1", "inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return head + data, f"inference-header-content-length: {len(head)}\r\n"


@contextmanager
def bare(kind: str) -> Iterator[tuple[int, int]]:
    """Run a server whose handler does nothing; yield its process and its port."""
    port = free_port()
    with subprocess.Popen([sys.executable, str(HERE / "bare_grpc.py"), str(port), kind]) as process:
        try:
            for _ in range(200):
                with suppress(OSError):
                    socket.create_connection((LOCALHOST, port)).close()
                    break
                time.sleep(0.05)
            yield process.pid, port
        finally:
            process.terminate()
            process.wait(STOP_LIMIT_S)


@contextmanager
def subjects(folder: Path) -> Iterator[list[Subject]]:
    write_models(folder / "models", 1)
    rpc, path = infer_message(), f"/v2/models/{name_of(0)}/infer"
    binary, header = binary_body()
    with ExitStack() as stack:
        grpc_port = free_port()
        settings = {"grpc-port": str(grpc_port)}
        ours = stack.enter_context(
            hotset(folder / "models", folder / "ours", request_for(0), settings=settings)
        )
        found = [
            Subject("hotset, REST, JSON", ours.pid, ours.port, lambda port: Http(port, path, json_body())),
            Subject(
                "hotset, REST, binary", ours.pid, ours.port, lambda port: Http(port, path, binary, header)
            ),
            Subject("hotset, gRPC", ours.pid, grpc_port, lambda port: h2_client.Call(port, INFER, rpc)),
        ]
        for kind in BARE:
            pid, port = stack.enter_context(bare(kind))
            found.append(
                Subject(f"bare grpcio, {kind}", pid, port, lambda port: h2_client.Call(port, INFER, rpc))
            )
        yield found


def table(found: Sequence[Subject]) -> Iterator[str]:
    for connections in LEVELS:
        yield f"\n{connections} connection{'s' if connections > 1 else ''}\n"
        yield "| | gateway, µs | child, µs | both, µs | to REST | p50, µs | to REST |"
        yield "|---|---|---|---|---|---|---|"
        base, _, _, base_p50 = found[0].least(connections)
        for subject in found:
            both, gateway, child, p50 = subject.least(connections)
            yield (
                f"| {subject.name} | {gateway:.0f} | {child:.0f} | {both:.0f} | {both / base:.2f} "
                f"| {p50:.0f} | {p50 / base_p50:.2f} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, subjects(Path(folder)) as found:
        for _ in range(options.rounds):
            for connections in LEVELS:
                for subject in found:
                    subject.measure(connections, options.seconds)
        print("\n".join(table(found)))


if __name__ == "__main__":
    main()
