"""Random traffic while everything happens to a real server; every answer is checked. Ends with 1 if a promise was broken.

``make soak MINUTES=n`` calls it. Ends by itself, and ends its server. New versions, deletions, files changed in place, killed
children, a store that is away, a disk that is full, explicit loads and unloads: what is done is ``BAG``, shuffled anew again and
again. Some requests are for models that cannot be loaded, and for names that nobody has.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psutil
from rich.console import Console
from soak_disk import SmallDisk, small_disk
from soak_models import PREDICTOR, Models
from soak_verdict import AFTERMATH_S, SHOWN, Growth, Question, Verdict
from subjects import LOCALHOST, READY, Server, hotset

from hotset.demo.connection import Answer, Connection

MODELS: Final = 60
IN_MEMORY: Final = 10
IN_MEMORY_MIB: Final = 9
ON_DISK: Final = 25
CONNECTIONS: Final = 6
BY_NUMBER: Final = 0.3
BROKEN: Final = 8
FOR_BROKEN: Final = 0.02
FOR_UNKNOWN: Final = 0.02
PAUSE_S: Final = 0.4
AWAY_S: Final = 1.5
LOOK_S: Final = 0.2
AGREE_S: Final = 60.0
BAG: Final = (
    *("new version",) * 4,
    *("version deleted",) * 4,
    *("changed in place",) * 3,
    *("explicit load", "explicit unload") * 3,
    "model deleted, another added",
    "child killed",
    "store away",
    "disk full",
)
SETTINGS: Final = {
    "model-cache-size": f"{{models: {IN_MEMORY}, bytes: {IN_MEMORY_MIB}MiB}}",
    "disk-model-cache-size": str(ON_DISK),
    "sync-interval": "500ms",
    "processes-per-replica": "2",
    "threads-per-process": "2",
    "load-failure-backoff": "1s",
    "log-level": "error",
}


class Soak:
    """Against one server after the other, on the same disk. Legal order: ``run`` for each server; then ``agrees`` with the last;
    then read ``verdict``, ``actions`` and ``growth``."""

    def __init__(self, models: Models, draw: random.Random, disk: SmallDisk) -> None:
        self.verdict = Verdict(models)
        self._disk = disk
        self.actions: Counter[str] = Counter(dict.fromkeys(BAG, 0))
        self.growth = Growth()
        self._server: Server
        self._models = models
        self._draw = draw
        self._end_s = 0.0

    async def run(self, server: Server, seconds: float) -> None:
        """Do everything at once for so long."""
        self._server = server
        self._end_s = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(self._traffic())
            group.create_task(self._actions())
            group.create_task(self._looks())

    def end(self, number: int) -> None:
        """End the server: every other time as a power cut does, in the middle of whatever it is at."""
        how = signal.SIGKILL if number % 2 else signal.SIGTERM
        self.actions[f"server ended by {how.name}"] += 1
        os.kill(self._server.pid, how)
        self.verdict.killed_until_s = time.monotonic() + AFTERMATH_S

    @property
    def _goes_on(self) -> bool:
        return time.monotonic() < self._end_s

    async def _traffic(self) -> None:
        connection, last = Connection(LOCALHOST, self._server.port), dict[str, tuple[int, int]]()
        while self._goes_on:
            if self._draw.random() < FOR_BROKEN + FOR_UNKNOWN:
                await self._ask_in_vain(connection)
            asked = self._question()
            answer = await self._ask(connection, "predict", asked)
            if answer is not None:
                self.verdict.prediction(asked, answer, last)
                self.growth.answered(answer.seconds)
            await asyncio.sleep(0.002)  # the machine may have other work
        connection.close()

    async def _ask_in_vain(self, connection: Connection) -> None:
        """For a model that cannot be loaded, or for a name that nobody ever had: neither may cost the others anything."""
        is_broken = self._draw.random() < FOR_BROKEN / (FOR_BROKEN + FOR_UNKNOWN)
        names = self._models.broken
        asked = Question(self._draw.choice(names) if is_broken else f"nobody-{self._draw.getrandbits(64):x}")
        answer = await self._ask(connection, "predict", asked)
        if answer is not None:
            self.verdict.in_vain(asked, answer, kind="load_failed" if is_broken else "model_not_found")

    def _question(self) -> Question:
        name = self._models.pick()
        assert name is not None
        known = [it for it in self._models.now[name] if (name, it) in self.verdict.answered]
        by_number = known and self._draw.random() < BY_NUMBER
        return Question(name, self._draw.choice(known) if by_number else None)

    async def _ask(self, connection: Connection, verb: str, asked: Question) -> Answer | None:
        version = "" if asked.number is None else f"/versions/{asked.number}"
        try:
            return await connection.ask("POST", f"/models/{asked.name}{version}/{verb}", b"{}")
        except OSError as error:
            self.verdict.fail(f"{verb} {asked.name}{version}: {error!r}")
            return None

    async def _actions(self) -> None:
        connection = Connection(LOCALHOST, self._server.port)
        for action in self._drawn():
            await asyncio.sleep(self._draw.uniform(0.5, 1.5) * PAUSE_S)
            if not self._goes_on:
                break
            self.actions[action] += await self._act(action, connection)
        connection.close()

    def _drawn(self) -> Iterator[str]:
        for _ in itertools.count():
            yield from self._draw.sample(BAG, len(BAG))

    async def _act(self, action: str, connection: Connection) -> bool:
        """Do it, and return whether there was anything to do it to."""
        models = self._models
        name = models.pick(least_versions=2 if action == "version deleted" else 1)
        if name is None:
            return False
        match action:
            case "new version":
                models.add_version(name)
            case "version deleted":
                models.delete_version(name)
            case "changed in place":
                models.change(name)
            case "explicit load" | "explicit unload":
                asked = self._question()
                answer = await self._ask(connection, action.removeprefix("explicit "), asked)
                if answer is not None and answer.status != 200:
                    self.verdict.refusal(asked, answer)
            case "child killed":
                return await self._kill(connection)
            case "disk full":
                if self._disk.why_not:
                    return False
                self.verdict.full_until_s = float("inf")
                await asyncio.to_thread(self._disk.fill)
                await asyncio.sleep(AWAY_S)
                self._disk.empty()
                self.verdict.full_until_s = time.monotonic() + AFTERMATH_S
            case "store away":
                self.verdict.away_until_s = float("inf")
                models.go_away()
                await asyncio.sleep(AWAY_S)
                models.come_back()
                self.verdict.away_until_s = time.monotonic() + AFTERMATH_S
            case _:
                models.delete_model(name)
                models.add_model()
        return True

    async def _kill(self, connection: Connection) -> bool:
        pids = {it["pid"] for it in (await self._status(connection))["workers"] if it["alive"]}
        ours = {it.pid for it in psutil.Process(self._server.pid).children(recursive=True)}
        if not pids & ours:
            return False
        self.verdict.killed_until_s = time.monotonic() + AFTERMATH_S
        os.kill(self._draw.choice(sorted(pids & ours)), signal.SIGKILL)
        return True

    async def _status(self, connection: Connection) -> Any:
        return (await connection.ask("GET", "/status")).json()["server"]

    async def _looks(self) -> None:
        connection = Connection(LOCALHOST, self._server.port)
        while self._goes_on:
            status = await self._status(connection)
            self.verdict.counts["looks at the tiers"] += 1
            for tier in status["tiers"]:
                for part in ("models", "bytes"):
                    most = tier[f"capacity_{part}"]
                    if most is not None and tier[part] > most:
                        self.verdict.broken.append(f"a tier above its capacity: {tier}")
            self.growth.look("gateway", self._server.pid)
            for worker in status["workers"]:
                if worker["alive"]:
                    self.growth.look("child", worker["pid"])
            await asyncio.sleep(LOOK_S)
        connection.close()

    async def agrees(self) -> None:
        """In peace, see that every model answers with what is there."""
        connection, end_s = Connection(LOCALHOST, self._server.port), time.monotonic() + AGREE_S
        want = {name: max(versions.items()) for name, versions in self._models.now.items()}
        last: dict[str, tuple[int, int]] = {}
        while want and time.monotonic() < end_s:
            for name, version in [*want.items()]:
                asked = Question(name)
                answer = await self._ask(connection, "predict", asked)
                if answer is not None:
                    self.verdict.prediction(asked, answer, last)
                if last.get(name) == version:
                    del want[name]
            await asyncio.sleep(LOOK_S)
        connection.close()
        for name, version in want.items():
            what = f"{AGREE_S:g} s after the last change {name} answers {last.get(name)}, not {version}"
            self.verdict.broken.append(what)


def soak(seconds: float, *, restarts: int, seed: int, console: Console) -> bool:
    """Run it in a new directory, print the tables, and return whether every promise was kept."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="hotset-soak-") as directory:
        models = Models(Path(directory, "store", "models"), draw, count=MODELS, broken=BROKEN)
        predictor = Path(directory, "predictor.py")
        predictor.write_text(PREDICTOR)
        settings = SETTINGS | {"predictor": str(predictor)}
        with small_disk(Path(directory, "small")) as disk:
            if disk.why_not:
                console.print(f"The disk is never full here: {disk.why_not}", markup=False, highlight=False)
            run = Soak(models, draw, disk)
            for number in range(restarts + 1):
                with hotset(models.root, disk.path, READY, settings=settings) as server:
                    part_s = seconds / (restarts + 1)
                    asyncio.run(asyncio.wait_for(run.run(server, part_s), part_s + 2 * AGREE_S))
                    if number < restarts:
                        run.end(number + 1)
                    else:
                        asyncio.run(run.agrees())
    for table in (*run.verdict.tables(run.actions), run.growth.table()):
        console.print(table)
    for sentence in run.verdict.broken[:SHOWN]:
        console.print(sentence, markup=False, highlight=False)
    kept = not run.verdict.broken
    console.print("Every promise was kept." if kept else f"Promises broken: {len(run.verdict.broken)}.")
    return kept


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="may be a fraction")
    parser.add_argument("--restarts", type=int, help="of the server; by default one a minute")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    given = parser.parse_args()
    print(f"{given.minutes:g} minutes, seed {given.seed}", flush=True)
    restarts = int(given.minutes) if given.restarts is None else given.restarts
    sys.exit(not soak(given.minutes * 60, restarts=restarts, seed=given.seed, console=Console()))
