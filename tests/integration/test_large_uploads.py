"""Large bodies over HTTP, with a small shared memory: bounded, shared fairly, and never lost with whoever goes away."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

from load_client import Connection
from model_files import write_predictor, write_value
from own_memory import own_bytes
from server_process import HttpAnswer, ServerProcess, running_server

MIB = 1 << 20
SHARED = 16 * MIB
BODY = 6 * MIB
CLIENTS = 32
OCTETS = {"content-type": "application/octet-stream"}

PREDICTOR = """
import hashlib
import os
import pathlib
import signal


class Predictor:
    def load_model(self, disk_path):
        return None

    def predict(self, model, payload: memoryview, query_params):
        if "kill" in query_params and pathlib.Path(query_params["kill"]).exists():
            pathlib.Path(query_params["kill"]).unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        answer = hashlib.sha256(payload).hexdigest().encode()
        return answer * (int(query_params.get("size", 64)) // 64)
"""


@contextmanager
def large_server(tmp_path: Path, **settings: object) -> Iterator[ServerProcess]:
    write_value(tmp_path / "models", "m", 1, 0)
    given = {"shared_memory_size": f"{SHARED}", "max_body_size": f"{2 * BODY}", **settings}
    with running_server(
        tmp_path / "disk",
        model_dir=tmp_path / "models",
        settle_time=0,
        predictor=write_predictor(tmp_path, PREDICTOR),
        preload="all",
        **given,
    ) as server:
        yield server


def body_of(number: int, size: int = BODY) -> bytes:
    return number.to_bytes(4, "big") * (size // 4)


def mark(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


def upload(server: ServerProcess, body: bytes, query: str = "") -> HttpAnswer:
    return server.request("POST", f"/models/m/predict{query}", body, headers=OCTETS)


class Peak:
    """The most memory that the server and its children had together, that which they share counted once."""

    def __init__(self, server: ServerProcess) -> None:
        self._pids = [server.pid, *(child.pid for child in server.children())]
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self.base = self.most = self._now()

    def __enter__(self) -> Self:
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._watcher.join()

    @property
    def grown(self) -> int:
        return self.most - self.base

    def _now(self) -> int:
        return own_bytes(self._pids)

    def _watch(self) -> None:
        while not self._ended.wait(0.01):
            self.most = max(self.most, self._now())


async def test_32_large_uploads_at_once_take_no_more_than_there_is(tmp_path: Path, figure) -> None:
    with large_server(tmp_path) as server:
        bodies = [body_of(number) for number in range(CLIENTS)]

        async def one(body: bytes) -> None:
            async with Connection(server.host, server.port) as connection:
                for _ in range(2):
                    answer = await connection.ask("POST", "/models/m/predict", body, OCTETS)
                    assert (answer.status, answer.body) == (200, mark(body))

        with Peak(server) as peak:
            async with asyncio.TaskGroup() as group:
                for body in bodies:
                    group.create_task(one(body))
        figure("grown MiB", peak.grown / MIB)
        assert peak.grown < 3 * SHARED < CLIENTS * BODY / 3


def test_small_requests_are_answered_while_there_is_no_room(tmp_path: Path) -> None:
    with large_server(tmp_path) as server:
        held = [half_an_upload(server) for _ in range(SHARED // BODY + 3)]
        for _ in range(20):
            assert upload(server, b"small").body == mark(b"small")
        for client in held:
            client.close()


def half_an_upload(server: ServerProcess) -> socket.socket:
    """Return a connection that has announced a body, and sent half of it or as much as is read of it."""
    client = socket.create_connection((server.host, server.port))
    head = f"POST /models/m/predict HTTP/1.1\r\nhost: x\r\ncontent-length: {BODY}\r\n\r\n"
    client.sendall(head.encode())
    client.settimeout(0.5)
    try:
        client.sendall(bytes(BODY // 2))
    except TimeoutError:  # there is no room for it
        return client
    return client


def test_clients_that_go_in_the_middle_of_an_upload_take_nothing_with_them(tmp_path: Path) -> None:
    with large_server(tmp_path) as server:
        for round_ in range(3):
            held = [half_an_upload(server) for _ in range(SHARED // BODY + 2)]
            with ThreadPoolExecutor(4) as pool:
                answers = [pool.submit(upload, server, body_of(number)) for number in range(4)]
                for client in held:
                    client.close()
                for number, answer in enumerate(answers):
                    assert answer.result().body == mark(body_of(number)), round_


def test_a_child_killed_with_a_large_body_in_hand_costs_a_second_try(tmp_path: Path) -> None:
    with large_server(tmp_path) as server:
        first = {child.pid for child in server.children()}
        for number in range(2):  # a third death within ten minutes would be the model's: it is quarantined
            order = tmp_path / "kill"
            order.touch()
            answer = upload(server, body_of(number), f"?kill={order}")
            assert (answer.status, answer.body) == (200, mark(body_of(number)))
            assert not order.exists()
        assert not first & {child.pid for child in server.children()}


def test_large_answers_come_whole_also_to_who_reads_slowly(tmp_path: Path) -> None:
    with large_server(tmp_path) as server:
        size = 5 * MIB
        slow = [socket.create_connection((server.host, server.port)) for _ in range(6)]
        for number, client in enumerate(slow):
            head = f"POST /models/m/predict?size={size} HTTP/1.1\r\nhost: x\r\ncontent-type: text/html\r\n"
            client.sendall(f"{head}content-length: 1\r\n\r\n{number}".encode())
        for number in range(10):
            answer = upload(server, body_of(number, 400_000), f"?size={size}")
            assert answer.body == mark(body_of(number, 400_000)) * (size // 64)
        for client in slow:
            client.close()


def test_without_shared_memory_all_is_as_well(tmp_path: Path) -> None:
    with large_server(tmp_path, shared_memory_size=0) as server:
        answer = upload(server, body_of(1), f"?size={BODY}")
        assert answer.body == mark(body_of(1)) * (BODY // 64)


@pytest.mark.parametrize("processes", [0, 2])
def test_any_number_of_processes(tmp_path: Path, processes: int) -> None:
    with large_server(tmp_path, processes_per_replica=processes) as server, ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(upload, server, body_of(number), f"?size={BODY}") for number in range(8)]
        for number, answer in enumerate(answers):
            assert answer.result().body == mark(body_of(number)) * (BODY // 64)


def test_a_body_of_chunks_may_be_large_too(tmp_path: Path) -> None:
    with large_server(tmp_path) as server, socket.create_connection((server.host, server.port)) as client:
        body = body_of(7)
        client.sendall(
            b"POST /models/m/predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/octet-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        for start in range(0, BODY, 100_000):
            part = body[start : start + 100_000]
            client.sendall(b"%x\r\n%b\r\n" % (len(part), part))
        client.sendall(b"0\r\n\r\n")
        answer = b""
        while len(answer) < 12 or not answer.endswith(mark(body)):
            part = client.recv(65536)
            assert part, answer
            answer += part
        assert answer.startswith(b"HTTP/1.1 200")
