"""Answers in parts and coroutines through a real server, to raw sockets and real clients; and what ends them early."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from server_process import ServerProcess, running_server

LIMIT_S = 30.0

PREDICTOR = """
import asyncio
import os
from pathlib import Path


class Predictor:
    def __init__(self, config):
        self.gates = Path(config["gates"])

    def load_model(self, disk_path):
        return {}

    async def predict(self, payload):
        if payload == "pid":
            return os.getpid()
        if payload == "fail":
            return self.failing()
        if payload == "blocking":
            return self.blocking()
        if payload == "endless":
            return self.endless()
        await asyncio.sleep(payload)
        return {"slept": payload}

    def blocking(self):
        yield "first\\n"
        (self.gates / "gate").read_text()
        yield "second\\n"

    async def failing(self):
        yield {"part": 1}
        raise ValueError("no second")

    async def endless(self):
        try:
            while True:
                yield {"pid": os.getpid()}
                await asyncio.sleep(0.02)
        finally:
            (self.gates / "closed").touch()
"""


@pytest.fixture(scope="module")
def gates(processes: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gates")
    os.mkfifo(path / "gate")
    return path


@pytest.fixture(scope="module")
def server(processes: int, gates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    home = tmp_path_factory.mktemp("server")
    (home / "predictor.py").write_text(PREDICTOR)
    for name in ("paris", "rome"):
        (home / "models" / name / "1").mkdir(parents=True)
        (home / "models" / name / "1" / "model.json").write_text("{}")
    with running_server(
        home / "disk",
        model_dir=home / "models",
        settle_time="0s",
        predictor=home / "predictor.py",
        predictor_config={"gates": str(gates)},
        processes_per_replica=processes,
        drain_timeout="10s",
    ) as server:
        yield server


@pytest.fixture(scope="module", params=[1, 0], ids=["process", "thread"])
def processes(request: pytest.FixtureRequest) -> int:
    return request.param


@contextmanager
def asked(server: ServerProcess, payload: object, *headers: str) -> Iterator[socket.socket]:
    body = json.dumps(payload)
    lines = [
        "POST /models/paris/predict HTTP/1.1",
        "Host: hotset",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    with socket.create_connection((server.host, server.port), LIMIT_S) as client:
        client.sendall(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
        yield client


def read_until(client: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        got = client.recv(65536)
        assert got, f"the connection ended after: {data!r}"
        data += got
    return data


def read_all(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(65536), b""))


def test_a_client_sees_the_first_part_before_the_second_is_made(server: ServerProcess, gates: Path) -> None:
    with asked(server, "blocking") as client:
        read_until(client, b"first\n\r\n")
        with (gates / "gate").open("w"):  # opens once the generator waits there for it
            pass
        assert read_until(client, b"0\r\n\r\n") == b"7\r\nsecond\n\r\n0\r\n\r\n"


def test_events_for_who_asks_for_them_and_what_broke_them_off(server: ServerProcess) -> None:
    with asked(server, "fail", "Accept: text/event-stream") as client:
        answer = read_all(client)
    assert b"content-type: text/event-stream" in answer
    assert b'data: {"part":1}\n\n' in answer
    assert b'event: error\ndata: {"error":"ValueError: no second","kind":"predict_failed"}\n\n' in answer
    assert not answer.endswith(b"0\r\n\r\n")


async def test_a_real_client_reads_parts_and_notices_one_that_breaks_off(server: ServerProcess) -> None:
    url = f"{server.url}/models/paris/predict"
    async with httpx.AsyncClient(timeout=LIMIT_S) as client:
        lines = []
        with pytest.raises(httpx.RemoteProtocolError):
            async with client.stream("POST", url, json="fail") as answer:
                assert answer.headers["content-type"] == "application/x-ndjson"
                async for line in answer.aiter_lines():
                    lines.append(json.loads(line))
        assert lines == [{"part": 1}]


async def test_a_hundred_coroutines_wait_beside_each_other(server: ServerProcess) -> None:
    """Each waits for half a second; one after the other they would take longer than the limit of each."""
    url = f"{server.url}/models/paris/predict"
    async with httpx.AsyncClient(timeout=LIMIT_S, limits=httpx.Limits(max_connections=100)) as client:
        answers = await asyncio.gather(*(client.post(url, json=0.5) for _ in range(100)))
    assert [answer.json() for answer in answers] == [{"slept": 0.5}] * 100


def test_a_client_that_leaves_closes_the_generator_and_its_model_can_leave(
    server: ServerProcess, gates: Path
) -> None:
    closed = gates / "closed"
    closed.unlink(missing_ok=True)
    with asked(server, "endless") as client:
        client.recv(65536)
        assert server.status()["requests"]["inside"] == 1
    wait_until(closed.exists)
    wait_until(lambda: server.status()["requests"]["inside"] == 0)
    assert server.request("POST", "/models/paris/unload").status == 200


def test_a_child_killed_in_the_middle_ends_its_streams_and_harms_no_others(
    server: ServerProcess, processes: int
) -> None:
    if not processes:
        pytest.skip("without a process there is none to kill")
    with asked(server, "endless") as client:
        answer = b""
        while b'{"pid":' not in answer or not answer.endswith(b"\n\r\n"):
            answer += client.recv(65536)
        pid = json.loads(answer.split(b"\r\n\r\n", 1)[1].split(b"\r\n")[1])["pid"]
        os.kill(pid, 9)
        rest = read_all(client)
    assert not rest.endswith(b"0\r\n\r\n")
    assert server.predict("rome", "pid").json != pid
    assert server.predict("paris", "pid").json != pid
    assert server.metric("hotset_requests_total", protocol="hotset", outcome="worker_died") == 1


def test_the_document_shows_what_a_prediction_may_be_sent_as(server: ServerProcess) -> None:
    document = server.request("GET", "/openapi.json").json
    answer = document["paths"]["/models/{model}/predict"]["post"]["responses"]["200"]
    assert {"application/json", "application/x-ndjson", "text/event-stream"} <= answer["content"].keys()


def wait_until(condition: object) -> None:
    assert callable(condition)
    stop_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < stop_s
        time.sleep(0.01)


def test_a_stream_in_the_middle_is_waited_for_at_the_end_of_the_server(
    tmp_path: Path, processes: int
) -> None:
    gates = tmp_path / "gates"
    gates.mkdir()
    os.mkfifo(gates / "gate")
    (tmp_path / "predictor.py").write_text(PREDICTOR)
    (tmp_path / "models" / "paris" / "1").mkdir(parents=True)
    (tmp_path / "models" / "paris" / "1" / "model.json").write_text("{}")
    with running_server(
        tmp_path / "disk",
        model_dir=tmp_path / "models",
        settle_time="0s",
        predictor=tmp_path / "predictor.py",
        predictor_config={"gates": str(gates)},
        processes_per_replica=processes,
    ) as server:
        with asked(server, "blocking") as client:
            read_until(client, b"first\n\r\n")
            server.process.terminate()
            wait_until(
                lambda: any("draining" in str(line) or "Shutting" in str(line) for line in server.lines())
            )
            with (gates / "gate").open("w"):
                pass
            assert read_until(client, b"0\r\n\r\n").endswith(b"second\n\r\n0\r\n\r\n")
        assert server.process.wait(LIMIT_S) == 0
