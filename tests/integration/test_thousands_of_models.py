"""5,000 models in S3, room for 50 in memory and 200 on disk, a Zipf-shaped stream of requests: every answer is right.

``make test-faults`` asks 20,000 times; the suite does a part of it.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from load_client import Connection, percentile, prediction, rows, spread, timed
from model_files import write_regressor
from server_process import ServerProcess, running_server

MODELS = 5_000
IN_MEMORY = 50
ON_DISK = 200
REQUESTS = int(os.environ.get("HOTSET_REQUESTS", "8000"))
CONNECTIONS = 32
BODY = rows()


def name_of(number: int) -> str:
    return f"city-{number:04}"


def zipf_stream(seed: int) -> list[int]:
    """Model numbers by popularity ``1 / rank ** 1.1``, which numbers are popular being shuffled."""
    source = random.Random(seed)
    numbers = list(range(MODELS))
    source.shuffle(numbers)
    weights = [rank**-1.1 for rank in range(1, MODELS + 1)]
    return source.choices(numbers, weights, k=REQUESTS)


class Watch:
    """Reads the tiers from a connection of its own while the load runs, and keeps the most it saw."""

    def __init__(self) -> None:
        self.most: Counter[str] = Counter()
        self.reads = 0

    async def run(self, server: ServerProcess) -> None:
        async with Connection(server.host, server.port) as connection:
            while True:
                status = (await connection.ask("GET", "/status")).json
                for tier in status["server"]["tiers"]:
                    self.most[tier["tier"]] = max(self.most[tier["tier"]], tier["models"])
                self.reads += 1
                await asyncio.sleep(0.05)


async def ask(number: int, seconds: dict[str, list[float]], connection: Connection) -> None:
    answer, took = await timed(connection.predict(name_of(number), BODY))
    assert answer.status == 200, (number, answer.status, answer.body)
    assert prediction(answer) == number
    assert answer.version == 1
    assert answer.headers["x-model-name"] == name_of(number)
    seconds["cold" if "server-timing" in answer.headers else "warm"].append(took)


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_every_answer_is_right_and_capacity_is_never_exceeded(
    still_bucket, tmp_path: Path, figure
) -> None:
    for number in range(MODELS):
        write_regressor(still_bucket.root, name_of(number), 1, number)
    with running_server(
        tmp_path / "disk",
        model_cache_size=IN_MEMORY,
        disk_model_cache_size=ON_DISK,
        settle_time=0,
        sync_interval=30,
        **still_bucket.source,
    ) as server:
        watch, seconds = Watch(), {"warm": [], "cold": []}
        watching = asyncio.create_task(watch.run(server))
        began = time.perf_counter()
        work = (partial(ask, number, seconds) for number in zipf_stream(seed=2))
        await spread(server.host, server.port, connections=CONNECTIONS, work=work)
        took = time.perf_counter() - began
        watching.cancel()
        await asyncio.wait([watching])
        ok = server.metric("hotset_requests_total", outcome="ok")
        all_requests = server.metric("hotset_requests_total")
        figure("requests a second", REQUESTS / took)
        for tier in ("memory", "disk"):
            figure(f"hits in {tier}", server.metric("hotset_tier_hits_total", tier=tier))
            figure(f"most models in {tier} of {watch.reads} reads", watch.most[tier])
        figure("fetches", server.fetches)
        figure("loads", server.loads)
        figure("evictions", server.metric("hotset_evictions_total", cause="capacity"))
        for kind, values in seconds.items():
            figure(f"p50 {kind}, ms", percentile(values, 0.5) * 1e3)
            figure(f"p99 {kind}, ms", percentile(values, 0.99) * 1e3)
        assert ok == all_requests == REQUESTS
        assert watch.reads > 50
        assert watch.most["memory"] == IN_MEMORY
        assert watch.most["disk"] == ON_DISK
        assert len(list((tmp_path / "disk" / "objects").iterdir())) <= ON_DISK
