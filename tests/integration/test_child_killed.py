"""A child is killed under load of several models: only its own requests are touched, and it comes back."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path

from load_client import Connection
from model_files import SLOW_PREDICTOR, write_predictor, write_value
from server_process import ServerProcess, running_server

MODELS = 8
CONNECTIONS = 16
PROCESSES = 2
KILLS = 3


class Traffic:
    """16 connections over all models; answers are right, or 503 with ``Retry-After``, and nothing else."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.end = asyncio.Event()

    async def client(self, server: ServerProcess, number: int) -> None:
        async with Connection(server.host, server.port) as connection:
            while not self.end.is_set():
                model = f"m{number % MODELS}"
                answer = await connection.predict(model)
                if answer.status == 503:
                    assert int(answer.headers["retry-after"]) >= 1, answer
                    self.counts[answer.json["kind"]] += 1
                else:
                    assert (answer.status, answer.json) == (200, {"is": model})
                    self.counts["ok"] += 1
                    self.counts[model] += 1
                number += CONNECTIONS + 1


async def test_no_answer_is_wrong_and_the_child_is_back(tmp_path: Path, figure) -> None:
    models = tmp_path / "models"
    for number in range(MODELS):
        write_value(models, f"m{number}", 1, {"value": {"is": f"m{number}"}, "predict_sleep_s": 0.002})
    with running_server(
        tmp_path / "disk",
        model_dir=models,
        settle_time=0,
        predictor=write_predictor(tmp_path, SLOW_PREDICTOR),
        processes_per_replica=PROCESSES,
        threads_per_process=2,
    ) as server:
        traffic = Traffic()
        async with asyncio.TaskGroup() as group:
            for number in range(CONNECTIONS):
                group.create_task(traffic.client(server, number))
            for kill in range(1, KILLS + 1):
                await more_answers(traffic)
                kill_one_with_models(server)
                await asyncio.to_thread(
                    server.wait_until,
                    lambda kill=kill: len(server.events("worker_died")) == kill and all_up(server),
                    limit_s=20,
                    what="the child is back",
                )
            await more_answers(traffic)
            traffic.end.set()
        lost = [event["lost_models"] for event in server.events("worker_died")]
        assert all(lost)
        assert lost[0] < MODELS, "the other child keeps its models"
        failed = server.metric("hotset_requests_total") - traffic.counts["ok"]
        figure("answers", traffic.counts["ok"])
        figure("kills of a child", KILLS)
        figure("refused with 503 and Retry-After", failed)
        figure("models that a killed child held", lost)
        assert server.fetches == MODELS, "what a child held is loaded from disk again"
        server.wait_until(lambda: server.tier("memory")["models"] == MODELS, limit_s=10, what="all are back")
        assert server.terminate() == 0
        assert server.left_behind() == []


async def more_answers(traffic: Traffic) -> None:
    """Return when every model has answered some more times."""
    async with asyncio.timeout(30):
        goal = {f"m{number}": traffic.counts[f"m{number}"] + 20 for number in range(MODELS)}
        while any(traffic.counts[model] < least for model, least in goal.items()):
            await asyncio.sleep(0.01)


def kill_one_with_models(server: ServerProcess) -> None:
    workers = server.status()["server"]["workers"]
    busiest = max(workers, key=lambda worker: worker["models"])
    assert busiest["pid"] in {child.pid for child in server.children()}
    os.kill(busiest["pid"], signal.SIGKILL)


def all_up(server: ServerProcess) -> bool:
    workers = server.status()["server"]["workers"]
    return [worker["alive"] for worker in workers] == [True] * (PROCESSES + 1)
