"""A SavedModel in a process of its own, beside a small model that shares one: unloaded, killed, and loaded again and again."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from load_client import Connection
from model_files import write_regressor
from own_memory import own_bytes
from server_process import HttpAnswer, ServerProcess, running_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

LIMIT_S = 120
CYCLES = 12
KILLS = 2
"""The third in a row would be taken for the model's own fault."""
SHARED = 2
"""Processes that models share."""
WEIGHTS_BYTES = 24_000_000
SLACK_BYTES = 8_000_000
"""What the gateway and the shared processes may take more for having answered."""
PROCESS_BYTES = 8_000_000
"""What a process takes besides its model: the pages that it writes to of those it shares with its fork server."""
LOOK_S = 0.1
LOOKS = 6
SETTLED_BYTES = 500_000

MAKER = """
import sys
import numpy as np, tensorflow as tf

class Fares(tf.Module):
    def __init__(self):
        self.rates = tf.Variable(np.full(6_000_000, 2.0, "float32"))

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.float32, name="km")])
    def ask(self, km):
        return {"fare": km * tf.reduce_mean(self.rates)}

model = Fares()
tf.saved_model.save(model, sys.argv[1], signatures=model.ask)
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("own") / "models"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MAKER, str(directory / "large" / "1")],
        capture_output=True, text=True, check=False, timeout=LIMIT_S,
        env=dict(os.environ) | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    write_regressor(directory, "small", 1, 7.0)
    return directory


@pytest.fixture(scope="module")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with served(models, tmp_path_factory.mktemp("disk") / "disk") as running:
        yield running


@contextmanager
def served(models: Path, disk: Path, **settings: Any) -> Iterator[ServerProcess]:
    with running_server(
        disk, model_dir=models, settle_time=0, sync_interval=0, own_process_above="16MiB", **settings
    ) as server:
        yield server
        if server.process.poll() is None:
            assert server.terminate() == 0
        assert server.left_behind() == []


def ask_small(server: ServerProcess) -> None:
    answer = server.predict("small", {"inputs": [[1.0]]})
    assert (answer.status, answer.json) == (200, {"outputs": [7.0]}), answer


def ask_large(server: ServerProcess) -> None:
    check_large(server.predict("large", {"inputs": {"km": [3.0]}}))


def check_large(answer: HttpAnswer) -> None:
    assert (answer.status, answer.json) == (200, {"outputs": [6.0]}), answer


def alone(server: ServerProcess) -> dict[str, int]:
    """The models that live alone, with their processes."""
    workers = server.status()["server"]["workers"]
    return {worker["model"]: worker["pid"] for worker in workers if worker["model"]}


def unload_large(server: ServerProcess) -> None:
    answer = server.request("POST", "/models/large/unload")
    assert answer.status == 200, answer


def all_memory(server: ServerProcess) -> int:
    """What the whole server takes, the gateway and the fork server included."""
    return own_bytes([server.pid, *(process.pid for process in server.process_tree())])


def is_at_rest(process: psutil.Process) -> bool:
    """Whether each of its threads sleeps. One that waits for a processor or the disk does not, however long it has to."""
    try:
        states = [
            (task / "stat").read_text().rpartition(")")[2].split()[0]
            for task in Path(f"/proc/{process.pid}/task").iterdir()
        ]
    except (FileNotFoundError, ProcessLookupError):  # it has just ended, or one of its threads has
        return False
    return set(states) == {"S"}


def settled_memory(server: ServerProcess) -> int:
    """The same once nothing more starts or is imported: the second of the shared processes comes after the first is there, and a
    framework may be imported by the fork server for those to come."""
    readings: list[int] = []

    def is_settled() -> bool:
        time.sleep(LOOK_S)
        if len(server.children()) < SHARED or not all(map(is_at_rest, server.process_tree())):
            readings.clear()
        readings.append(all_memory(server))
        return len(readings) > LOOKS and abs(readings[-1] - readings[-LOOKS]) < SETTLED_BYTES

    server.wait_until(is_settled, limit_s=LIMIT_S, what="memory no longer grows")
    return readings[-1]


def test_an_unload_ends_the_process_and_all_of_its_memory_is_back(server: ServerProcess, figure) -> None:
    ask_small(server)
    ask_large(server)
    unload_large(server)
    before = settled_memory(server)
    ask_large(server)
    (pid,) = alone(server).values()
    with_it, weight = all_memory(server), server.events("loaded")[-1]["bytes"]
    unload_large(server)
    assert not psutil.pid_exists(pid), "it ends before the unload is answered"
    after = settled_memory(server)
    ask_small(server)
    figure("its start, s", server.events("worker_started")[-1]["seconds"])
    figure("weight as measured, MB", weight / 1e6)
    figure(
        "the server without it, with it, and after its unload, MB",
        [before // 10**6, with_it // 10**6, after // 10**6],
    )
    assert weight > WEIGHTS_BYTES
    assert with_it - before > WEIGHTS_BYTES
    assert -SLACK_BYTES < with_it - before - weight < PROCESS_BYTES
    assert after - before < SLACK_BYTES


async def test_one_that_is_killed_costs_nobody_else_a_request(server: ServerProcess, figure) -> None:
    ask_small(server)
    ask_large(server)
    counts: Counter[str] = Counter()
    end = asyncio.Event()

    async def small() -> None:
        async with Connection(server.host, server.port) as connection:
            while not end.is_set():
                answer = await connection.predict("small", b'{"inputs": [[1.0]]}')
                assert (answer.status, answer.json) == (200, {"outputs": [7.0]}), answer
                counts["small"] += 1

    async def large() -> None:
        async with Connection(server.host, server.port) as connection:
            while not end.is_set():
                answer = await connection.predict("large", b'{"inputs": {"km": [3.0]}}')
                check_large(answer)  # the calls of the dead process are tried once more
                counts["large"] += 1

    async def more(name: str) -> None:
        goal = counts[name] + 20
        async with asyncio.timeout(LIMIT_S):
            while counts[name] < goal:
                await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as group:
        for work in (small, small, large):
            group.create_task(work())
        for _ in range(KILLS):
            await more("large")
            (pid,) = await asyncio.to_thread(lambda: list(alone(server).values()))
            died = len(server.events("worker_died"))
            os.kill(pid, signal.SIGKILL)
            await asyncio.to_thread(
                server.wait_until,
                lambda died=died, pid=pid: (
                    len(server.events("worker_died")) > died
                    and list(alone(server).values()) not in ([], [pid])
                ),
                limit_s=20,
                what="its model is back",
            )
            await more("small")
        end.set()
    figure(f"answers beside {KILLS} kills", dict(counts))
    assert [event["lost_models"] for event in server.events("worker_died")] == [1] * KILLS
    assert all(event["worker"] > SHARED for event in server.events("worker_died"))


def test_a_dozen_loads_and_unloads_leave_nothing(server: ServerProcess, figure) -> None:
    gateway = psutil.Process(server.pid)
    ask_small(server)
    for _ in range(2):
        ask_large(server)
        unload_large(server)
    before = settled_memory(server)
    children, files, threads = gateway.children(recursive=True), gateway.num_fds(), gateway.num_threads()
    for _ in range(CYCLES):
        ask_large(server)
        assert list(alone(server)) == ["large@1"]
        unload_large(server)
        assert alone(server) == {}
    assert gateway.children(recursive=True) == children
    starts = [it["seconds"] for it in server.events("worker_started") if it.get("model")]
    server.wait_until(
        lambda: gateway.num_fds() <= files and gateway.num_threads() <= threads,
        limit_s=10,
        what=f"no more than {files} descriptors and {threads} threads",
    )
    after = settled_memory(server)
    figure("start of such a process, median of them, s", sorted(starts)[len(starts) // 2])
    figure("the server before and after, MB", [before / 1e6, after / 1e6])
    assert after - before < SLACK_BYTES
    assert server.metric("hotset_worker_start_seconds_count", kind="own") >= CYCLES
    assert server.metric("hotset_own_processes") == 0


def test_each_alone(models: Path, tmp_path: Path) -> None:
    """``own``: no process is shared, each model has one, and no more of them are in memory than there may be."""
    with served(models, tmp_path / "disk", isolation="own", max_own_processes=1) as server:
        ask_small(server)
        assert list(alone(server)) == ["small@1"]
        (pid,) = alone(server).values()
        assert [child.pid for child in server.children()] == [pid]
        ask_large(server)
        assert list(alone(server)) == ["large@1"]
        assert not psutil.pid_exists(pid)
        ask_small(server)
