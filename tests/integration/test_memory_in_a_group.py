"""A real server in a real control group: its limit is found, and models leave before the system has to kill."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hotset.memory_limits import MemoryGroup
from memory_cgroup import NoCgroupError, memory_cgroup
from model_files import write_predictor, write_value
from server_process import ServerProcess, running_server

MB = 1 << 20
LIMIT_BYTES = 512 * MB
MODELS = 6
LIMIT_S = 30.0

PREDICTOR = '''
"""A model takes 20 MB. Asked to, a prediction keeps so much more, as a framework's arena does, or lets it go."""
import json
import pathlib

import numpy as np

kept = []


class Predictor:
    def load_model(self, disk_path):
        number = json.loads((pathlib.Path(disk_path) / "value.json").read_text())
        return number, np.full(20 << 17, float(number))

    def predict(self, model, payload):
        megabytes = payload.get("keep")
        if megabytes is not None:
            kept.clear()
            kept.append(np.ones(megabytes << 17))
        return {"number": model[0], "mean": float(model[1].mean())}
'''

Group = tuple[MemoryGroup, Callable[[], None]]


@pytest.fixture
def group() -> Iterator[Group]:
    """A group, and what a new process calls to be in it."""
    try:
        with memory_cgroup("watermarks", limit_bytes=LIMIT_BYTES) as made:
            is_unified = (made.path / "memory.max").exists()
            yield MemoryGroup(made.path, is_unified), lambda: made.add(os.getpid())
    except NoCgroupError as reason:
        print(reason)
        pytest.skip(str(reason))


def ask(server: ServerProcess, number: int, **body: int) -> int:
    answer = server.predict(f"m{number}", body)
    if answer.status == 200:
        assert answer.json == {"number": number, "mean": number}
    return answer.status


@pytest.mark.slow
def test_models_leave_above_high_and_none_comes_above_critical(tmp_path: Path, group: Group, figure) -> None:
    models = tmp_path / "models"
    for number in range(MODELS + 1):
        write_value(models, f"m{number}", 1, number)
    there, enter = group
    with running_server(
        tmp_path / "disk",
        enter=enter,
        model_dir=models,
        settle_time=0,
        predictor=write_predictor(tmp_path, PREDICTOR),
        isolation="shared",
        memory_low=0.7,
        memory_high=0.75,
        memory_critical=0.85,
    ) as server:
        for number in range(MODELS):
            assert ask(server, number) == 200
        status = server.status()["server"]
        assert status["tiers"][0]["capacity_bytes"] < LIMIT_BYTES / 2
        assert status["memory"]["limit_bytes"] == LIMIT_BYTES
        taken = there.taken_bytes()
        figure("taken by a server with 6 models of 20 MB, MB", taken / MB)
        assert MODELS * 20 * MB < taken < 0.75 * LIMIT_BYTES
        assert not server.events("evicted")

        kept = int(0.8 * LIMIT_BYTES - taken) // MB
        assert ask(server, MODELS - 1, keep=kept) == 200
        server.wait_until(lambda: server.events("evicted"), limit_s=LIMIT_S, what="models leave")
        server.wait_until(
            lambda: server.metric("hotset_memory_level") == 0, limit_s=LIMIT_S, what="memory is below low"
        )
        assert there.taken_bytes() < 0.75 * LIMIT_BYTES
        left = [event["model"] for event in server.events("evicted")]
        assert left == [f"m{number}" for number in range(len(left))]
        assert 2 <= len(left) <= 4
        assert {event["cause"] for event in server.events("evicted")} == {"pressure"}
        figure("models that left", len(left))
        figure("taken after that, MB", there.taken_bytes() / MB)

        rest = there.taken_bytes() // MB - kept
        assert ask(server, MODELS - 1, keep=int(0.92 * LIMIT_BYTES) // MB - rest) == 200
        server.wait_until(
            lambda: server.metric("hotset_memory_level") == 2, limit_s=LIMIT_S, what="memory is critical"
        )
        refused = server.predict(f"m{MODELS}", {})
        assert (refused.status, refused.json["kind"]) == (503, "memory_pressure")
        assert int(refused.headers["retry-after"]) >= 1
