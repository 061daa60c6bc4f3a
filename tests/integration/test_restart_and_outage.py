"""A restart brings the hot set back by itself; a warm replica answers without its store, before and after a restart."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from load_client import Connection, prediction, rows, spread
from model_files import write_regressor
from server_process import ServerProcess, running_server
from servers import rclone_s3

MODELS = 40
ON_DISK = 24
IN_MEMORY = 8


def name_of(number: int) -> str:
    return f"city-{number}"


def hot_numbers() -> list[int]:
    """In the order in which they are asked for; the last ``IN_MEMORY`` stay in memory."""
    return list(range(ON_DISK))


async def ask(number: int, connection: Connection) -> None:
    answer = await connection.predict(name_of(number), rows())
    assert (answer.status, prediction(answer)) == (200, number)


def in_tier(server: ServerProcess, tier: str) -> set[str]:
    return {name for name, model in server.models().items() if model["versions"][0]["tier"] == tier}


async def ask_each_in_turn(server: ServerProcess, numbers: list[int]) -> None:
    await spread(server.host, server.port, connections=1, work=(partial(ask, it) for it in numbers))


@pytest.mark.slow
async def test_the_hot_set_comes_back_and_the_store_may_be_away(tmp_path: Path, figure) -> None:
    (tmp_path / "s3").mkdir()
    settings: dict[str, object] = {
        "model_cache_size": IN_MEMORY,
        "disk_model_cache_size": ON_DISK,
        "settle_time": 0,
        "sync_interval": "500ms",
    }
    disk = tmp_path / "disk"
    hot = {name_of(number) for number in hot_numbers()[-IN_MEMORY:]}
    cold = {name_of(number) for number in hot_numbers()[:-IN_MEMORY]}
    with rclone_s3(tmp_path / "s3") as s3:
        settings |= {"model_dir": s3.make_bucket("cities"), "environment": s3.environment}
        for number in range(MODELS):
            write_regressor(tmp_path / "s3" / "cities", name_of(number), 1, number)
        with running_server(disk, **settings) as server:
            await ask_each_in_turn(server, hot_numbers())
            assert in_tier(server, "memory") == hot
            assert server.terminate() == 0
        with running_server(disk, **settings) as server:
            server.wait_until(
                lambda: in_tier(server, "memory") == hot, limit_s=20, what="the hot set is back"
            )
            assert in_tier(server, "disk") == cold
            assert (server.fetches, server.loads) == (0, IN_MEMORY)
            figure("models back in memory without a request", server.loads)
            server.kill()
        # After a crash too: the hot set was written down after a pass of the sync loop.
        with running_server(disk, **settings) as server:
            server.wait_until(
                lambda: in_tier(server, "memory") == hot, limit_s=20, what="the hot set is back"
            )
            s3.process.terminate()
            s3.process.wait()
            answered = await answer_without_store(server)
            figure("answers of a warm replica without its store", answered)
            assert server.terminate() == 0
    with running_server(disk, **settings) as server:
        answered = await answer_without_store(server)
        figure("answers of a replica that was started without its store", answered)
        status = server.status()["server"]
        assert status["readiness"]["ready"]
        assert status["sync"]["failures"] > 0
        assert server.metric("hotset_sync_degraded") == 1
        for number in range(ON_DISK, MODELS):
            refused = await asyncio.to_thread(server.predict, name_of(number), {"instances": [[0.0]]})
            assert (refused.status, refused.json["kind"]) == (503, "store_unavailable")
            assert int(refused.headers["retry-after"]) >= 1
            break  # each takes as long as the store's retries


async def answer_without_store(server: ServerProcess) -> int:
    """Wait until the sync loop has noticed, and ask for everything on disk, all at once and twice in turn."""
    server.wait_until(lambda: server.events("sync_failed"), limit_s=90, what="the outage is noticed")
    numbers = hot_numbers() * 10
    work = (partial(ask, number) for number in numbers)
    await spread(server.host, server.port, connections=8, work=work)
    await ask_each_in_turn(server, hot_numbers() * 2)
    # As it was before: the same models are the hot ones.
    assert server.fetches == 0
    assert server.metric("hotset_requests_total") == server.metric("hotset_requests_total", outcome="ok")
    return len(numbers) + 2 * ON_DISK
