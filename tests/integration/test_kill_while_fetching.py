"""``kill -9`` of the server at random moments of fetching: what is on disk is complete, and adopted as it is.

``make test-faults`` does it at 50 moments; the suite at a part of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
from collections import Counter
from pathlib import Path

import pytest

from load_client import Connection, ConnectionEndedError
from model_files import write_predictor
from server_process import ServerProcess, running_server

KILLS = int(os.environ.get("HOTSET_KILLS", "20"))
LANES = 2
MODELS = 400
ON_DISK = 60
ASKED_AT_ONCE = 12
LONGEST_LIFE_S = 0.5

PREDICTOR = '''
import json
import pathlib


class Predictor:
    """Answers what the three files of a model say together."""

    def load_model(self, disk_path):
        path = pathlib.Path(disk_path)
        head = json.loads((path / "head.json").read_text())
        sizes = [(path / "weights" / name).stat().st_size for name in ("a.bin", "b.bin")]
        return {"number": head["number"], "sizes": sizes}

    def predict(self, model):
        return model
'''


def write_models(root: Path) -> dict[str, dict[str, object]]:
    """Write models of three files; return what each answers."""
    answers: dict[str, dict[str, object]] = {}
    source = random.Random(4)
    for number in range(MODELS):
        directory = root / f"m{number:03}" / "1"
        (directory / "weights").mkdir(parents=True)
        sizes = [source.randrange(1, 400_000), source.randrange(0, 40_000)]
        (directory / "head.json").write_text(json.dumps({"number": number}))
        for name, size in zip(("a.bin", "b.bin"), sizes, strict=True):
            (directory / "weights" / name).write_bytes(source.randbytes(size))
        answers[f"m{number:03}"] = {"number": number, "sizes": sizes}
    return answers


def files_below(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def whole_models(disk: Path, store: Path) -> set[str]:
    """Return the models on disk, each compared with the store byte by byte."""
    found: set[str] = set()
    for directory in (disk / "objects").iterdir():
        name = json.loads((directory / "record").read_bytes())["record"]["key"][0]
        assert files_below(directory / "files") == files_below(store / name / "1"), directory
        assert name not in found
        found.add(name)
    return found


class Lane:
    """One replica with a disk of its own, killed again and again."""

    def __init__(self, number: int, disk: Path, store: Path, answers: dict[str, dict[str, object]]) -> None:
        self.random = random.Random(number)
        self.disk = disk
        self.store = store
        self.answers = answers
        self.counts: Counter[str] = Counter()

    async def run(self, kills: int, **settings: object) -> None:
        expected: set[str] = set()
        for kill in range(kills + 1):
            with running_server(self.disk, await_ready=False, **settings) as server:
                await asyncio.to_thread(server.wait_ready)
                await self.check_adopted(server, expected)
                if kill == kills:
                    return
                await self.fetch_until_killed(server)
            expected = await asyncio.to_thread(whole_models, self.disk, self.store)
            # What was hot and has left the disk since would be fetched ahead, which is not what is counted here.
            (self.disk / "hot.json").unlink(missing_ok=True)
            self.counts["torn"] += len(list((self.disk / "staging").iterdir()))
            self.counts["kills"] += 1

    async def check_adopted(self, server: ServerProcess, expected: set[str]) -> None:
        recovered = server.events("recovered")[0]
        assert recovered["adopted"] == len(expected)
        async with Connection(server.host, server.port) as connection:
            models = (await connection.ask("GET", "/models?limit=1000")).json["models"]
            assert {it["name"] for it in models if it["versions"][0]["tier"] != "store"} == expected
            for name in expected:
                answer = await connection.predict(name)
                assert (answer.status, answer.json) == (200, self.answers[name])
                self.counts["adopted"] += 1
        assert server.fetches == 0, "what is on disk is not fetched again"
        assert not list((self.disk / "staging").iterdir())

    async def fetch_until_killed(self, server: ServerProcess) -> None:
        names = self.random.sample(sorted(self.answers), ASKED_AT_ONCE * 8)
        first = asyncio.Event()
        clients = [
            asyncio.create_task(self.ask(server, names[client::ASKED_AT_ONCE], first))
            for client in range(ASKED_AT_ONCE)
        ]
        await first.wait()
        await asyncio.sleep(self.random.uniform(0, LONGEST_LIFE_S))
        await asyncio.to_thread(server.kill)
        for client in clients:
            with contextlib.suppress(ConnectionEndedError):
                await client

    async def ask(self, server: ServerProcess, names: list[str], first: asyncio.Event) -> None:
        async with Connection(server.host, server.port) as connection:
            for name in names:
                first.set()
                answer = await connection.predict(name)
                assert (answer.status, answer.json) == (200, self.answers[name])
                self.counts["answered"] += 1


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_what_is_on_disk_is_whole_and_is_not_fetched_again(
    still_bucket, tmp_path: Path, figure
) -> None:
    answers = write_models(still_bucket.root)
    lanes = [Lane(number, tmp_path / f"disk-{number}", still_bucket.root, answers) for number in range(LANES)]
    settings: dict[str, object] = {
        "predictor": write_predictor(tmp_path, PREDICTOR),
        "processes_per_replica": 0,
        "model_cache_size": 20,
        "disk_model_cache_size": ON_DISK,
        "parallel_loads": 4,
        "settle_time": 0,
        **still_bucket.source,
    }
    async with asyncio.TaskGroup() as group:
        for lane in lanes:
            group.create_task(lane.run(KILLS // LANES, **settings))
    counts = sum((lane.counts for lane in lanes), Counter[str]())
    figure("kills", counts["kills"])
    figure("adopted over all restarts, none of them fetched again", counts["adopted"])
    figure("torn stages left behind by kills", counts["torn"])
    figure("requests answered before a kill, all right", counts["answered"])
    assert counts["kills"] == KILLS
    assert counts["adopted"] > KILLS
    assert counts["torn"] > KILLS / 5, "the kills were to hit fetches"
