"""SIGTERM under load: what is in flight is answered, what comes later is refused or not connected, the end is clean."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from load_client import Connection, ConnectionEndedError
from model_files import SLOW_PREDICTOR, write_predictor, write_value
from server_process import ServerProcess, running_server

CONNECTIONS = 16
MODELS = 4
PREDICT_S = 0.02
LIMIT_S = 30.0


class Traffic:
    """16 connections that ask on until the server refuses. What was asked before ``seen_until`` is inside when it is told to end."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.seen_until: float | None = None

    async def until_all_is_inside(self, server: ServerProcess, least: int) -> None:
        """Return once so many requests are inside, and all that was asked before. The server reads what has come at once: what
        is asked after something else is read with it or behind it."""
        async with asyncio.timeout(LIMIT_S), Connection(server.host, server.port) as connection:
            inside = 0
            while inside < least:
                began_s = time.monotonic()
                for _ in range(2):
                    inside = (await connection.ask("GET", "/status")).json["requests"]["inside"]
            self.seen_until = began_s

    async def client(self, server: ServerProcess, number: int) -> None:
        model = f"m{number % MODELS}"
        async with Connection(server.host, server.port) as connection:
            while True:
                asked_at = time.monotonic()
                try:
                    answer = await connection.predict(model)
                except ConnectionEndedError:
                    # Only a request that the server cannot have seen before it closed the idle connection.
                    assert self.is_late(asked_at)
                    self.counts["closed"] += 1
                    return
                if answer.status == 503:
                    assert self.is_late(asked_at)  # on its way, and not inside yet
                    assert answer.json["kind"] == "shutting_down"
                    assert int(answer.headers["retry-after"]) >= 1
                    self.counts["refused"] += 1
                    return
                assert (answer.status, answer.json) == (200, {"is": model})
                self.counts["answered"] += 1

    def is_late(self, asked_at: float) -> bool:
        return self.seen_until is not None and asked_at >= self.seen_until


@pytest.mark.slow
@pytest.mark.parametrize("processes", [0, 1, 2])
async def test_requests_in_flight_end_and_nothing_is_left(processes: int, tmp_path: Path, figure) -> None:
    models = tmp_path / "models"
    for number in range(MODELS):
        write_value(models, f"m{number}", 1, {"value": {"is": f"m{number}"}, "predict_sleep_s": PREDICT_S})
    write_value(models, "long", 1, {"value": {"is": "long"}, "predict_sleep_s": 1.5})
    with running_server(
        tmp_path / "disk",
        model_dir=models,
        settle_time=0,
        predictor=write_predictor(tmp_path, SLOW_PREDICTOR),
        processes_per_replica=processes,
        threads_per_process=4,
    ) as server:
        assert len(server.children()) == (processes and processes + 1)
        assert server.predict("long").status == 200
        traffic = Traffic()
        async with asyncio.TaskGroup() as group:
            for number in range(CONNECTIONS):
                group.create_task(traffic.client(server, number))
            long_ones = [group.create_task(ask_long(server)) for _ in range(2)]
            while traffic.counts["answered"] < 10 * CONNECTIONS:
                await asyncio.sleep(0.01)
            await traffic.until_all_is_inside(server, 2)
            term_at = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
        assert [task.result() for task in long_ones] == [200, 200]
        assert await asyncio.to_thread(server.process.wait, 30) == 0
        figure("answered before the end", traffic.counts["answered"])
        figure("refused or closed after SIGTERM", traffic.counts["refused"] + traffic.counts["closed"])
        figure("seconds from SIGTERM to the end", time.monotonic() - term_at)
        assert server.left_behind() == []
        assert server.lines()[-1]["message"] == "stopped"
        assert not [line for line in server.lines() if line["level"] in {"warning", "error"}]


async def ask_long(server: ServerProcess) -> int:
    async with Connection(server.host, server.port) as connection:
        answer = await connection.predict("long")
        assert answer.json == {"is": "long"}
        return answer.status


IMPORT_THAT_HANGS = """
import pathlib, time
pathlib.Path(__file__).with_name("imported").touch()
time.sleep(600)


class Predictor:
    def load_model(self, disk_path): ...
    def predict(self, model): ...
"""


@pytest.mark.slow
@pytest.mark.parametrize("processes", [0, 1])
def test_a_start_that_hangs_is_ended_by_a_signal(processes: int, tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_value(models, "a", 1, {"value": 1})
    with running_server(
        tmp_path / "disk",
        model_dir=models,
        await_ready=False,
        predictor=write_predictor(tmp_path, IMPORT_THAT_HANGS),
        processes_per_replica=processes,
        start_timeout="600s",
    ) as server:
        server.wait_until((tmp_path / "imported").exists, limit_s=60, what="the predictor is imported")
        assert server.terminate() == 0
        assert server.left_behind() == []
        assert server.lines()[-1]["message"] == "stopped while it started"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "drain_timeout", "signals"), [(1, "100s", 2), (1, "1s", 1), (0, "1s", 1)]
)
async def test_what_takes_too_long_is_cut_off_with_503(
    processes: int, drain_timeout: str, signals: int, tmp_path: Path
) -> None:
    """After ``drain_timeout``, or at once at a second signal."""
    models = tmp_path / "models"
    write_value(models, "long", 1, {"value": 1, "predict_sleep_s": 60})
    with running_server(
        tmp_path / "disk",
        model_dir=models,
        settle_time=0,
        predictor=write_predictor(tmp_path, SLOW_PREDICTOR),
        processes_per_replica=processes,
        drain_timeout=drain_timeout,
    ) as server:
        server.children()
        async with Connection(server.host, server.port) as connection:
            asking = asyncio.create_task(connection.predict("long"))
            await asyncio.to_thread(
                server.wait_until,
                lambda: server.status()["requests"]["inside"] == 1,
                limit_s=5,
                what="it is inside",
            )
            for _ in range(signals):
                server.process.send_signal(signal.SIGTERM)
                await asyncio.to_thread(
                    server.wait_until,
                    lambda: any(line.get("message") == "Shutting down" for line in server.lines()),
                    limit_s=5,
                    what="it drains",
                )
            assert await asyncio.to_thread(server.process.wait, 30) == 0
            answer = await asking
            assert (answer.status, answer.json["kind"]) == (503, "shutting_down")
            assert int(answer.headers["retry-after"]) >= 1
        assert server.left_behind() == []
