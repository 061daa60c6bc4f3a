"""Loads and unloads of 200 models of all kinds: a replica's memory afterwards is what it was after the first 400.

``make soak-memory`` does 10,000, which takes minutes; the suite does a part of it.
"""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import pytest

from mixed_models import WIDTH, Made, write_mixed
from own_memory import own_bytes
from server_process import ServerProcess, running_server

CYCLES = int(os.environ.get("HOTSET_CYCLES", "800"))
FIRST = 400
MODELS = 200
ROOM = 10
WITHIN = 0.05
QUIET_S = 4.5
"""Longer than a child waits before it gives back what is free."""
LIMIT_S = 60.0


def memory_bytes(server: ServerProcess) -> int:
    """What the gateway, its children and their fork server take together."""
    return own_bytes([server.pid, *(child.pid for child in server.process_tree())])


def settled_bytes(server: ServerProcess, made: list[Made]) -> int:
    """Return the memory with the first models in it, once it does not shrink any more."""
    for one in made[:ROOM]:
        ask(server, one)
    time.sleep(QUIET_S)
    end_s = time.monotonic() + LIMIT_S
    before, now = 0, memory_bytes(server)
    while abs(now - before) > 0.002 * now and time.monotonic() < end_s:
        time.sleep(0.5)
        before, now = now, memory_bytes(server)
    return now


def ask(server: ServerProcess, one: Made) -> None:
    answer = server.predict(one.name, {"instances": [[0.5] * WIDTH]})
    assert answer.status == 200, answer.body


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="this system does not tell of pages")
def test_memory_after_many_cycles_is_what_it_was_after_the_first(tmp_path: Path, figure) -> None:
    made = write_mixed(tmp_path / "models", MODELS, scale=0.25)
    with running_server(
        tmp_path / "disk",
        model_dir=tmp_path / "models",
        settle_time=0,
        model_cache_size=ROOM,
        disk_model_cache_size=MODELS,
    ) as server:
        models = itertools.cycle(made)
        for one in itertools.islice(models, FIRST):
            ask(server, one)
        first = settled_bytes(server, made)
        for one in itertools.islice(models, CYCLES - FIRST):
            ask(server, one)
        last = settled_bytes(server, made)
        figure("loads", server.loads)
        figure(f"after {FIRST} cycles, MB", first / 1e6)
        figure(f"after {CYCLES} cycles, MB", last / 1e6)
        figure("last by first", last / first)
        assert server.loads >= CYCLES
        assert last < (1 + WITHIN) * first
