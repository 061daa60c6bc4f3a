"""More than a server can do: flooded models, thousands of connections, clients that are slow or never end. Real sockets."""

from __future__ import annotations

import asyncio
import gzip
import json
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import psutil
import pytest

from load_client import Connection, percentile, timed
from server_process import HttpAnswer, ServerProcess, running_server

PREDICTOR = """
import json, pathlib, time

class Predictor:
    def load_model(self, disk_path):
        return json.loads((pathlib.Path(disk_path) / "value.json").read_text())

    def predict(self, model, payload):
        time.sleep(model["predict_s"])
        return {"is": model["is"], "size": len(payload.get("text", ""))}
"""
QUEUE = 50
FLOODING = 80
QUIET_REQUESTS = 100


@contextmanager
def serving(tmp_path: Path, models: dict[str, float], **settings: Any) -> Iterator[ServerProcess]:
    for name, predict_s in models.items():
        directory = tmp_path / "models" / name / "1"
        directory.mkdir(parents=True)
        (directory / "value.json").write_text(json.dumps({"is": name, "predict_s": predict_s}))
    (tmp_path / "predictor.py").write_text(PREDICTOR)
    given = {
        "model_dir": tmp_path / "models",
        "predictor": tmp_path / "predictor.py",
        "settle_time": "0s",
        "sync_interval": "0s",
        **settings,
    }
    with running_server(tmp_path / "disk", **given) as server:
        yield server


def right(answer: HttpAnswer, name: str) -> bool:
    if answer.status == 200:
        assert answer.json["is"] == name
        return True
    assert answer.status == 503, answer
    assert answer.json["kind"] == "overloaded", answer
    assert 1 <= int(answer.headers["retry-after"]) <= 30
    return False


async def quiet_times(server: ServerProcess, name: str) -> list[float]:
    times = []
    async with Connection(server.host, server.port) as connection:
        for _ in range(QUIET_REQUESTS):
            answer, took_s = await timed(connection.predict(name))
            assert answer.status == 200, (answer, "a quiet model's request was refused")
            times.append(took_s)
    return times


@pytest.mark.slow
@pytest.mark.parametrize("body_bytes", [0, 60_000], ids=["small", "60-kB"])
async def test_a_flooded_model_does_not_hurt_a_quiet_one(
    body_bytes: int, tmp_path: Path, figure: Any
) -> None:
    """Without shares of the queue the quiet one would be refused; without turns it would wait behind all of the other's."""
    with serving(tmp_path, {"flooded": 0.004, "quiet": 0.002}, max_queue=QUEUE, isolation="shared") as server:
        server.predict("flooded")
        alone = await quiet_times(server, "quiet")
        ended = asyncio.Event()
        waited: list[float] = []
        refused: list[HttpAnswer] = []
        body = json.dumps({"text": "x" * body_bytes}).encode()

        async def flood() -> None:
            async with Connection(server.host, server.port) as connection:
                while not ended.is_set():
                    answer, took_s = await timed(connection.predict("flooded", body))
                    if right(answer, "flooded"):
                        waited.append(took_s)
                    else:
                        refused.append(answer)
                        await asyncio.sleep(
                            0.1
                        )  # sooner than told, and yet it is the server that is measured

        async with asyncio.TaskGroup() as group:
            for _ in range(FLOODING):
                group.create_task(flood())
            while len(refused) < 50 or len(waited) < 50:
                await asyncio.sleep(0.01)
            beside = await quiet_times(server, "quiet")
            ended.set()
        alone_s, beside_s, flooded_s = (percentile(times, 0.5) for times in (alone, beside, waited))
        figure("quiet, beside the flood / alone", beside_s / alone_s)
        figure("flooded / quiet beside it", flooded_s / beside_s)
        figure("refused of the flood", len(refused) / (len(refused) + len(waited)))
        assert flooded_s > 3 * beside_s, "the quiet one waits as long as the flooded one"
        assert server.metric("hotset_refusals_total", bound="model") == len(refused)
        assert server.metric("hotset_refusals_total", bound="queue") == 0
        told = {int(answer.headers["retry-after"]) for answer in refused}
        figure("seconds told to wait", sorted(told))


@pytest.mark.slow
async def test_ten_thousand_connections(tmp_path: Path, figure: Any) -> None:
    """Idle ones cost little memory and nobody's time; where all of them ask at once, each is answered or told when to ask."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(10_000, (hard - 500) // 2 if hard != resource.RLIM_INFINITY else 10_000)
    if count < 10_000:
        figure("connections, as the system allows no more", count)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with serving(tmp_path, {"m": 0.0}) as server:
            server.predict("m")
            gateway = psutil.Process(server.pid)
            base = gateway.memory_info().rss
            connections: list[Connection] = []
            try:
                alone = [(await one(server))[1] for _ in range(200)]
                for start in range(0, count, 500):
                    some = [Connection(server.host, server.port) for _ in range(min(500, count - start))]
                    await asyncio.gather(*(it.__aenter__() for it in some))
                    connections += some
                server.wait_until(
                    lambda: len(gateway.net_connections("tcp")) > count, limit_s=30, what="all are accepted"
                )
                figure("connections", len(connections))
                figure("bytes of an idle connection", (gateway.memory_info().rss - base) / count)
                beside = [(await one(server))[1] for _ in range(200)]
                figure("a request beside them / alone", percentile(beside, 0.5) / percentile(alone, 0.5))

                answers = await asyncio.gather(*(it.predict("m") for it in connections))
                good = sum(right(answer, "m") for answer in answers)
                figure("answered, of all at once", good / count)
                assert good > 0
                for _ in range(200):
                    late = [
                        it for it, answer in zip(connections, answers, strict=True) if answer.status != 200
                    ]
                    if not late:
                        break
                    tried = await asyncio.gather(*(it.predict("m") for it in late[:500]))
                    fresh = dict(zip(late[:500], tried, strict=True))
                    answers = [fresh.get(it, was) for it, was in zip(connections, answers, strict=True)]
                assert all(right(answer, "m") for answer in answers), "some were never answered"
                assert gateway.memory_info().rss - base < count * 100_000
            finally:
                for start in range(0, len(connections), 500):
                    await asyncio.gather(*(it.__aexit__() for it in connections[start : start + 500]))
            assert server.predict("m").status == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def one(server: ServerProcess) -> tuple[HttpAnswer, float]:
    async with Connection(server.host, server.port) as connection:
        return await timed(connection.predict("m"))


class Raw:
    """A socket on which anything may be sent."""

    def __init__(self, server: ServerProcess) -> None:
        self.socket = socket.create_connection((server.host, server.port), timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def status(self) -> int:
        found = b""
        while b"\r\n" not in found:
            data = self.socket.recv(65536)
            assert data, "the server closed without an answer"
            found += data
        return int(found.split(b" ", 2)[1])


HEAD = b"POST /models/m/predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


def test_bodies_that_are_huge_or_never_end_are_refused_and_cost_no_memory(
    tmp_path: Path, figure: Any
) -> None:
    limit = 1 << 20
    with serving(tmp_path, {"m": 0.0}, max_body_size=limit) as server:
        server.predict("m")
        processes = [psutil.Process(server.pid), *server.children()]
        before = sum(process.memory_info().rss for process in processes)
        with Raw(server) as terabyte:
            terabyte.send(HEAD + b"content-length: %d\r\n\r\n" % (1 << 40))
            assert terabyte.status() == 413
        with Raw(server) as endless:
            endless.send(HEAD + b"transfer-encoding: chunked\r\n\r\n")
            chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
            with suppress(ConnectionError, TimeoutError):
                for _ in range(64):
                    endless.send(chunk)
            assert endless.status() == 413
        bomb = gzip.compress(json.dumps({"text": "x" * (200 << 20)}).encode(), 9)
        assert len(bomb) < limit
        answer = server.request("POST", "/models/m/predict", bomb, headers={"Content-Encoding": "gzip"})
        assert (answer.status, answer.json["kind"]) == (400, "invalid_input")
        members = gzip.compress(b"x" * (limit - 1), 9) * 300
        answer = server.request("POST", "/models/m/predict", members, headers={"Content-Encoding": "gzip"})
        assert answer.status == 400
        grown = sum(process.memory_info().rss for process in processes) - before
        figure("MiB more after them", grown / 2**20)
        assert grown < 64 << 20
        assert server.predict("m").status == 200


def test_half_requests_and_clients_that_do_not_read_hold_nobody_up(tmp_path: Path) -> None:
    """Heads and bodies that trickle, connections that say nothing, answers that nobody takes: the others are answered."""
    with serving(tmp_path, {"m": 0.0, "n": 0.0}) as server:
        server.predict("m")
        raws: list[Raw] = []
        try:
            for number in range(300):
                raw = Raw(server)
                raws.append(raw)
                if number % 4 == 0:
                    raw.send(HEAD[:20])
                elif number % 4 == 1:
                    raw.send(HEAD + b"content-length: 100\r\n\r\n{")
                elif number % 4 == 2:
                    ahead = HEAD.replace(b"/m/", b"/n/") + b"content-length: 2\r\n\r\n{}"
                    raw.send(ahead * 40)  # and never reads
            for _ in range(50):
                assert server.predict("m").status == 200
            server.wait_until(
                lambda: server.status()["requests"]["inside"] == 0, limit_s=30, what="nothing is inside"
            )
        finally:
            for raw in raws:
                raw.socket.close()
        assert server.predict("m").status == 200
        server.wait_until(
            lambda: len(psutil.Process(server.pid).net_connections("tcp")) < 20,
            limit_s=30,
            what="their connections are gone",
        )
