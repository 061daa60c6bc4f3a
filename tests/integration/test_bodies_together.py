"""Bodies of many clients at once, where nothing is shared: they never take more memory than they may, and who is beyond it is told."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import grpc
import psutil
import pytest

from grpc_serving import free_port
from server_process import ServerProcess, running_server

PREDICTOR = """
import pathlib, time

class Predictor:
    def load_model(self, disk_path):
        return pathlib.Path(disk_path).parents[4]

    def predict(self, model, payload):
        size = sum(array.size for array in payload.values()) if isinstance(payload, dict) else len(payload)
        while size > 100_000 and not (model / "go").exists():
            time.sleep(0.01)
        return [size]
"""
MIB = 1 << 20
BODY = 8 * MIB
MOST = 32 * MIB
CLIENTS = 60
FITTING = MOST // BODY
BASE = 20 * MIB
"""What connections and the parts in the sockets' own reads may take beside bodies."""


@pytest.fixture(params=[0, 1], ids=["threads", "processes"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[ServerProcess, int]]:
    directory = tmp_path / "models" / "m" / "1"
    directory.mkdir(parents=True)
    (directory / "value.json").write_text("{}")
    (tmp_path / "predictor.py").write_text(PREDICTOR.replace("parents[4]", f"parents[0] / {str(tmp_path)!r}"))
    settings = {
        "model_dir": tmp_path / "models",
        "predictor": tmp_path / "predictor.py",
        "settle_time": 0,
        "processes_per_replica": request.param,
        "threads_per_process": FITTING,
        "shared_memory_size": 0,
        "max_body_size": BODY,
        "max_bodies_size": MOST,
        "grpc_port": free_port(),
    }
    with running_server(tmp_path / "disk", **settings) as server:
        assert server.predict("m").status == 200
        try:
            yield server, settings["grpc_port"]
        finally:
            (tmp_path / "go").touch()


class Peak:
    """The most memory that a process had while this was open."""

    def __init__(self, server: ServerProcess) -> None:
        self._process = psutil.Process(server.pid)
        self.base = self.most = self._process.memory_info().rss
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.005):
            self.most = max(self.most, self._process.memory_info().rss)

    @property
    def grown(self) -> int:
        return self.most - self.base


def connected(server: ServerProcess, stack: ExitStack) -> socket.socket:
    return stack.enter_context(socket.create_connection((server.host, server.port), timeout=60))


def answer_of(client: socket.socket) -> tuple[int, dict[str, str]]:
    head = b""
    while b"\r\n\r\n" not in head:
        data = client.recv(4096)
        assert data, "the server closed without an answer"
        head += data
    first, *lines = head.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in lines)


HEAD = b"POST /models/m/predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/octet-stream\r\n"
HALF = b"x" * (BODY // 2)
WHOLE = HEAD + b"content-length: %d\r\n\r\n" % BODY + HALF + HALF


def half_chunked(client: socket.socket) -> None:
    client.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(HALF), HALF))


def half_declared(client: socket.socket) -> None:
    client.sendall(HEAD + b"content-length: %d\r\n\r\n%b" % (BODY, HALF))


@pytest.mark.slow
@pytest.mark.parametrize("served", [1], indirect=True, ids=["processes"])
def test_bodies_that_are_on_their_way_take_no_more_than_they_may(
    served: tuple[ServerProcess, int], tmp_path: Path, figure: Any
) -> None:
    server, _ = served
    (tmp_path / "go").touch()
    with Peak(server) as peak, ExitStack() as stack, ThreadPoolExecutor(CLIENTS) as pool:
        clients = [connected(server, stack) for _ in range(CLIENTS)]
        list(pool.map(half_declared, clients))
        coming = not_refused(server, clients, CLIENTS - FITTING)
        assert server.predict("m").status == 200, "a small one needs no room"
        for client in coming:
            client.sendall(HALF)
        good = [status for status, _ in map(answer_of, coming)].count(200)
        assert 1 <= good <= FITTING
        more = MOST // len(HALF) + 4
        chunked = [connected(server, stack) for _ in range(more)]
        list(pool.map(half_chunked, chunked))
        not_refused(server, chunked, 4)
        for client in chunked:
            client.close()
        answers = (whole_body(connected(server, stack)) for _ in range(100))
        assert any(status == 200 for status in answers), "the room has not come back"
    figure("MiB that the gateway grew by", peak.grown / MIB)
    assert peak.grown < MOST + BODY + BASE


def whole_body(client: socket.socket) -> int:
    half_declared(client)
    client.sendall(HALF)
    return answer_of(client)[0]


def not_refused(server: ServerProcess, clients: list[socket.socket], least: int) -> list[socket.socket]:
    """Return the clients that were not refused yet; so many were at least, and told when to come again."""
    refused: list[socket.socket] = []

    def look() -> bool:
        for client in clients:
            if client not in refused and has_answer(client):
                status, headers = answer_of(client)
                assert status == 503
                assert int(headers["retry-after"]) >= 1
                refused.append(client)
        return len(refused) >= least

    server.wait_until(look, limit_s=30, what=f"{least} are refused")
    return [client for client in clients if client not in refused]


def has_answer(client: socket.socket) -> bool:
    return bool(select.select([client], [], [], 0)[0])


@pytest.mark.slow
def test_bodies_that_wait_for_their_prediction_count_until_it_is_there(
    served: tuple[ServerProcess, int], tmp_path: Path, figure: Any
) -> None:
    server, _ = served
    with Peak(server) as peak, ExitStack() as stack:
        clients = [connected(server, stack) for _ in range(CLIENTS)]
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(lambda client: client.sendall(WHOLE), clients))
        waiting = not_refused(server, clients, CLIENTS - FITTING)
        (tmp_path / "go").touch()
        good = [status for status, _ in map(answer_of, waiting)].count(200)
        assert 1 <= good <= FITTING
    figure("MiB that the gateway grew by", peak.grown / MIB)
    assert peak.grown < MOST + BODY + BASE


@pytest.mark.slow
@pytest.mark.parametrize("served", [1], indirect=True, ids=["processes"])
def test_messages_of_grpc_count_too(served: tuple[ServerProcess, int], tmp_path: Path) -> None:
    from tritonclient.grpc import service_pb2

    server, port = served
    request = service_pb2.ModelInferRequest(model_name="m")
    request.inputs.add(name="x", datatype="UINT8", shape=[BODY - 1000])
    request.raw_input_contents.append(bytes(BODY - 1000))
    message = request.SerializeToString()
    with grpc.insecure_channel(
        f"127.0.0.1:{port}", options=[("grpc.max_send_message_length", -1)]
    ) as channel:
        ask = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        calls = [ask.future(message, timeout=60) for _ in range(FITTING + 3)]
        server.wait_until(
            lambda: sum(call.done() for call in calls) == 3, limit_s=30, what="three are refused"
        )
        for call in calls:
            if call.done():
                assert call.code() is grpc.StatusCode.UNAVAILABLE
                assert "max_bodies_size" in call.details()
                assert "retry-after" in dict(call.trailing_metadata())
        (tmp_path / "go").touch()
        assert sum(call.exception() is None for call in calls) == FITTING
        assert ask(message, timeout=60), "the room has come back"
