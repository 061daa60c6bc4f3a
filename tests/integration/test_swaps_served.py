"""Small models of scikit-learn take each other's places under load: every answer is the right model's, and few loads need a thread."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from pathlib import Path

import pytest

from load_client import Connection, prediction, rows
from model_files import write_regressor
from server_process import ServerProcess, running_server

MODELS = 12
IN_MEMORY = 4
CONNECTIONS = 8
REQUESTS = 150


class Traffic:
    """Answers are the model's own number, or 503 with ``Retry-After``."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    async def client(self, server: ServerProcess, number: int) -> None:
        draw = random.Random(number)
        async with Connection(server.host, server.port) as connection:
            for _ in range(REQUESTS):
                wanted = draw.randrange(MODELS)
                answer = await connection.predict(f"m{wanted}", rows())
                if answer.status == 503:
                    assert int(answer.headers["retry-after"]) >= 1, answer
                    self.counts[answer.json["kind"]] += 1
                    continue
                assert answer.status == 200, answer
                assert prediction(answer) == pytest.approx(float(wanted))
                assert answer.headers["x-model-version"] == "1"
                self.counts["ok"] += 1


async def all_clients(server: ServerProcess) -> Traffic:
    traffic = Traffic()
    async with asyncio.TaskGroup() as group:
        for number in range(CONNECTIONS):
            group.create_task(traffic.client(server, number))
    return traffic


async def test_every_answer_is_the_right_models(tmp_path: Path, figure) -> None:
    for number in range(MODELS):
        write_regressor(tmp_path / "models", f"m{number}", 1, float(number))
    with running_server(
        tmp_path / "disk", model_dir=tmp_path / "models", settle_time=0, model_cache_size=IN_MEMORY
    ) as server:
        first = await all_clients(server)
        assert first.counts == {"ok": CONNECTIONS * REQUESTS}
        loads = server.metric("hotset_load_seconds_count")
        killed = asyncio.create_task(all_clients(server))
        while server.metric("hotset_load_seconds_count") < loads + 20:
            await asyncio.sleep(0.01)
        for worker in server.status()["server"]["workers"]:
            if worker["models"]:
                os.kill(worker["pid"], signal.SIGKILL)
        second = await killed
        assert set(second.counts) <= {"ok", "worker_died"}
        assert second.counts["ok"] >= REQUESTS
        server.wait_until(
            lambda: 0 < server.tier("memory")["models"] <= IN_MEMORY, limit_s=20, what="models are back"
        )
        figure("answers, all right", first.counts["ok"] + second.counts["ok"])
        figure("refused, around the kill of a child", second.counts["worker_died"])
        figure("loads", server.metric("hotset_load_seconds_count"))
        assert server.terminate() == 0
