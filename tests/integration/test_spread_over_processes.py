"""Two child processes under load: a hot model is soon in both, and after a death the models are in both again."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from load_client import Connection
from model_files import SLOW_PREDICTOR, write_predictor, write_value
from server_process import ServerProcess, running_server

pytestmark = pytest.mark.slow

PREDICT_S = 0.01
LIMIT_S = 40.0


@contextmanager
def serving(tmp_path: Path, names: list[str]) -> Any:
    for name in names:
        write_value(tmp_path / "models", name, 1, {"value": {"is": name}, "predict_sleep_s": PREDICT_S})
    with running_server(
        tmp_path / "disk",
        model_dir=tmp_path / "models",
        settle_time=0,
        predictor=write_predictor(tmp_path, SLOW_PREDICTOR),
        processes_per_replica=2,
        preload="all",
    ) as server:
        yield server
        assert server.terminate() == 0
        assert server.left_behind() == []


@asynccontextmanager
async def traffic(server: ServerProcess, names: list[str], connections: int) -> AsyncIterator[None]:
    """Ask without a pause; every answer is right, or 503 while a child is away."""
    end = asyncio.Event()

    async def client(number: int) -> None:
        async with Connection(server.host, server.port) as connection:
            while not end.is_set():
                name = names[number % len(names)]
                answer = await connection.predict(name)
                assert answer.status == 503 or (answer.status, answer.json) == (200, {"is": name})
                number += connections + 1

    async with asyncio.TaskGroup() as group:
        for number in range(connections):
            group.create_task(client(number))
        try:
            yield
        finally:
            end.set()


async def until(server: ServerProcess, condition: Callable[[], bool], what: str) -> None:
    await asyncio.to_thread(server.wait_until, condition, limit_s=LIMIT_S, what=what)


def workers(server: ServerProcess) -> list[Any]:
    return server.status()["server"]["workers"]  # type: ignore[no-any-return]


async def test_a_hot_model_is_soon_in_both_and_survives_the_death_of_either(tmp_path: Path) -> None:
    with serving(tmp_path, ["hot", "cold"]) as server:
        async with traffic(server, ["hot"], connections=8):
            await until(server, lambda: server.metric("hotset_copies") == 1, "it is in both")
            (hot,) = server.models()["hot"]["versions"]
            assert (hot["copies"], hot["state"]) == (1, "READY")
            for event in server.events("copied"):
                assert event["model"] == "hot"
            loads = server.loads
            os.kill(workers(server)[0]["pid"], signal.SIGKILL)
            await until(server, lambda: bool(server.events("worker_died")), "the death is known")
            await until(server, lambda: server.metric("hotset_copies") == 1, "it is in both again")
        assert server.loads <= loads + 1, "only the cold one may have had to be loaded again"


async def test_after_a_death_the_models_are_in_both_again(tmp_path: Path) -> None:
    """Regression: all models stayed in the child that was left, and the new one had nothing to do."""
    names = [f"m{number}" for number in range(6)]
    with serving(tmp_path, names) as server:
        async with traffic(server, names, connections=12):
            os.kill(workers(server)[0]["pid"], signal.SIGKILL)
            await until(server, lambda: bool(server.events("worker_died")), "the death is known")
            await until(
                server,
                lambda: all(worker["alive"] and worker["models"] >= 2 for worker in workers(server)),
                "both have models",
            )
