"""Random traffic while everything happens to a real server; every answer is checked. Ends with 1 if a promise was broken.

``make soak MINUTES=n`` calls it. Ends by itself, and ends its server. New versions, deletions, files changed in place, killed
children, a store that is away, a disk that is full, crowds at one cold model, explicit loads and unloads: ``soak_actions`` does them,
shuffled anew again and again. Some requests are for models that cannot be loaded, and for names and versions that nobody has. What is
looked at beside the answers (``soak_verdict``): every load (``soak_journal``), the server's own pages (``soak_status``), who delays
whom (``soak_neighbours``) and what grows (``soak_growth``).
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
from pathlib import Path
from typing import Final

import psutil
from rich.console import Console
from rich.table import Table
from soak_actions import Actions
from soak_clients import Clients
from soak_disk import SmallDisk, small_disk
from soak_journal import loaded_twice
from soak_models import Models
from soak_peace import AGREE_S, IDLE, LOOK_S, Peace
from soak_predictor import source
from soak_scene import IN_MEMORY, Scene
from soak_status import kept_of_clients, over_capacity
from soak_verdict import SHOWN
from subjects import READY, Server, hotset

MODELS: Final = 60
IN_MEMORY_MIB: Final = 9
ON_DISK: Final = 25
CONNECTIONS: Final = 6
BROKEN: Final = 8
LOOKS_A_PAGE: Final = 20
DRAIN_S: Final = 10
SETTLE_S: Final = 1.0
SETTINGS: Final = {
    "model-cache-size": f"{{models: {IN_MEMORY}, bytes: {IN_MEMORY_MIB}MiB}}",
    "disk-model-cache-size": str(ON_DISK),
    "sync-interval": "500ms",
    "settle-time": f"{SETTLE_S:g}s",
    "processes-per-replica": "2",
    "threads-per-process": "2",
    "load-failure-backoff": "1s",
    "load-failure-backoff-max": "2s",
    "drain-timeout": f"{DRAIN_S}s",
    "log-level": "info",
    "log-format": "json",
}


class Soak:
    """Against one server after the other, on the same disk. Legal order: ``run`` for each server; ``agrees`` with the last;
    then ``tables`` and ``broken``."""

    def __init__(self, models: Models, draw: random.Random, disk: SmallDisk, journal: Path) -> None:
        self._scene = Scene(models, draw, journal)
        self._clients = Clients(self._scene)
        self._actions = Actions(self._scene, disk)
        self._peace = Peace(self._scene)
        self._ends: Counter[str] = Counter()
        self._peak = self._loads = 0

    async def run(self, server: Server, log: Path, seconds: float, *, end_by: signal.Signals | None) -> None:
        """Do everything at once for so long; then end the server, if it is to be ended, while its clients go on."""
        scene = self._scene
        scene.begin(server, log)
        scene.end_s = time.monotonic() + seconds
        async with asyncio.TaskGroup() as clients:
            for _ in range(CONNECTIONS):
                clients.create_task(self._clients.traffic())
            async with asyncio.TaskGroup() as others:
                others.create_task(self._actions.run())
                others.create_task(self._clients.neighbours())
                others.create_task(self._looks())
            if end_by is not None:
                await self._end(end_by)
            scene.is_over = True
        scene.read()
        self._loads += scene.journal.loads.total()
        self._peak = max(self._peak, scene.journal.peak)
        scene.verdict.broken += scene.journal.broken + loaded_twice(scene.journal, scene.log)

    async def agrees(self) -> None:
        """In peace, see what there is to see."""
        await self._peace.agrees()

    @property
    def broken(self) -> list[str]:
        """The promises that were, in sentences."""
        return self._scene.verdict.broken

    async def _looks(self) -> None:
        scene, connection = self._scene, self._scene.connection()
        for number in itertools.count():
            if not scene.goes_on:
                break
            server = (await scene.status(connection))["server"]
            scene.verdict.counts["looks at the tiers"] += 1
            scene.verdict.broken += over_capacity(server["tiers"])
            scene.growth.look("gateway", scene.server.pid)
            for worker in server["workers"]:
                if worker["alive"]:
                    scene.growth.look("child", worker["pid"])
            if number % LOOKS_A_PAGE == 0:
                page = await connection.ask("GET", "/metrics")
                scene.verdict.broken += kept_of_clients(page.body.decode())
            scene.read()
            await asyncio.sleep(LOOK_S)
        connection.close()

    async def _end(self, how: signal.Signals) -> None:
        """End the server: in peace, or as a power cut does, in the middle of whatever it is at."""
        scene = self._scene
        self._ends[f"server ended by {how.name}"] += 1
        children = psutil.Process(scene.server.pid).children(recursive=True)
        scene.is_killed = how is signal.SIGKILL
        began_s = scene.verdict.ended_s = time.monotonic()
        os.kill(scene.server.pid, how)
        status = await self._ended(began_s + 3 * DRAIN_S)
        took_s = time.monotonic() - began_s
        if how is signal.SIGTERM and (status != (os.CLD_EXITED, 0) or took_s > DRAIN_S):
            scene.verdict.broken.append(
                f"SIGTERM: ended after {took_s:.1f} s with {status}, not within {DRAIN_S} with 0"
            )
        _, left = await asyncio.to_thread(psutil.wait_procs, children, timeout=DRAIN_S)
        if left:
            scene.verdict.broken.append(f"processes outlive their server: {left}")

    async def _ended(self, until_s: float) -> tuple[int, int] | None:
        """Return how it ended; whoever started it will ask the system, too."""
        flags = os.WEXITED | os.WNOWAIT | os.WNOHANG
        while time.monotonic() < until_s:
            result = os.waitid(os.P_PID, self._scene.server.pid, flags)  # noqa: ASYNC222 - it returns at once
            if result is not None:
                return result.si_code, result.si_status
            await asyncio.sleep(0.02)
        return None

    def tables(self) -> list[Table]:
        """Return what was done, what came of it, and how all grows."""
        scene = self._scene
        return [
            *scene.verdict.tables(self._actions.counts + self._ends),
            self._looked_at(),
            scene.growth.table(),
        ]

    def _looked_at(self) -> Table:
        beside, scale = self._scene.neighbours, self._peace.scale
        grid = Table("", title="Looked at", title_justify="left")
        grid.add_column("", justify="right")
        grid.add_row("loads and unloads, each", f"{self._loads:,}")
        grid.add_row(f"most models in memory at once, of {IN_MEMORY}", str(self._peak))
        ratio = "-" if beside.ratio is None else f"{beside.ratio:.2f}"
        grid.add_row(f"rate beside slow models, {len(beside.beside)} times", ratio)
        grid.add_row(f"time with {IDLE:,} models more", "-" if scale is None else f"{scale.ratio:.2f}")
        return grid


def soak(seconds: float, *, restarts: int, seed: int, console: Console) -> bool:
    """Run it in a new directory, print the tables, and return whether every promise was kept."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="hotset-soak-") as directory:
        models = Models(Path(directory, "store", "models"), draw, count=MODELS, broken=BROKEN)
        predictor, journal = Path(directory, "predictor.py"), Path(directory, "journal")
        predictor.write_text(source(journal))
        settings = SETTINGS | {"predictor": str(predictor)}
        with small_disk(Path(directory, "small")) as disk:
            if disk.why_not:
                console.print(f"The disk is never full here: {disk.why_not}", markup=False, highlight=False)
            run = Soak(models, draw, disk, journal)
            time.sleep(SETTLE_S)  # what is younger is taken to be on its way, and not offered
            for number in range(restarts + 1):
                log = Path(directory, f"log-{number}")
                under = ("sh", "-c", 'exec "$@" 2> "$0"', str(log))
                with hotset(models.root, disk.path, READY, settings=settings, under=under) as server:
                    part_s = seconds / (restarts + 1)
                    end_by = (signal.SIGTERM, signal.SIGKILL)[number % 2] if number < restarts else None
                    whole = run.run(server, log, part_s, end_by=end_by)
                    asyncio.run(asyncio.wait_for(whole, part_s + 2 * AGREE_S))
                    if end_by is None:
                        asyncio.run(run.agrees())
                log.unlink()
    for table in run.tables():
        console.print(table)
    for sentence in run.broken[:SHOWN]:
        console.print(sentence, markup=False, highlight=False)
    kept = not run.broken
    console.print("Every promise was kept." if kept else f"Promises broken: {len(run.broken)}.")
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
