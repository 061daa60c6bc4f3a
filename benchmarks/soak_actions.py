"""What the soak does to a server and its store, disk and children. ``soak.py`` runs it beside the clients."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import psutil
from soak_disk import SmallDisk
from soak_journal import crowd_was_served_once
from soak_scene import Scene
from soak_verdict import AFTERMATH_S, Outage, Question

from hotset.demo.connection import Connection

PAUSE_S: Final = 0.4
AWAY_S: Final = 1.5
ON_ITS_WAY_AWAY_S: Final = 0.3
"""What was being fetched as the store went away has ended, well or not."""
CROWD: Final = 16
SETTLED_S: Final = 4.0
BAG: Final = (
    *("new version",) * 4,
    *("version deleted",) * 4,
    *("changed in place",) * 3,
    *("explicit load", "explicit unload") * 3,
    *("crowd",) * 2,
    "model deleted, another added",
    "child killed",
    "store away",
    "disk full",
)


class Actions:
    """Owned by the event loop: one ``run`` at a time, for each server. ``counts`` says what was done."""

    def __init__(self, scene: Scene, disk: SmallDisk) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(BAG, 0))
        self._scene = scene
        self._disk = disk
        self._apart = ("", 0.0)
        """A model that nobody has asked for yet, and since when it is there."""

    async def run(self) -> None:
        connection = self._scene.connection()
        for action in self._drawn():
            await asyncio.sleep(self._scene.draw.uniform(0.5, 1.5) * PAUSE_S)
            if not self._scene.goes_on:
                break
            self.counts[action] += await self._act(action, connection)
        connection.close()

    def _drawn(self) -> Iterator[str]:
        for _ in itertools.count():
            yield from self._scene.draw.sample(BAG, len(BAG))

    async def _act(self, action: str, connection: Connection) -> bool:
        """Do it, and return whether there was anything to do it to."""
        models = self._scene.models
        name = models.pick(least_versions=2 if action == "version deleted" else 1)
        if name is None:
            return False
        match action:
            case "new version":
                await models.add_version(name)
            case "version deleted":
                await models.delete_version(name)
            case "changed in place":
                await models.change(name)
            case "explicit load" | "explicit unload":
                await self._scene.explicit(
                    action.removeprefix("explicit "), self._scene.question(), connection
                )
            case "crowd":
                return await self._crowd()
            case "child killed":
                return await self._kill(connection)
            case "disk full":
                return await self._fill_disk()
            case "store away":
                await self._take_store_away(connection)
            case _:
                await models.delete_model(name)
                await models.add_model()
        return True

    async def _crowd(self) -> bool:
        """Many ask at once for a model that is nowhere but in the store, and has settled there."""
        name, since_s = self._apart
        if name and time.monotonic() - since_s < SETTLED_S:
            return False
        self._apart = (await self._scene.models.add_model_apart(), time.monotonic())
        if not name:
            return False
        connections = [self._scene.connection() for _ in range(CROWD)]
        await asyncio.gather(*(it.ask("GET", "/health/live") for it in connections))
        self._scene.read()
        deaths = self._scene.log.deaths
        asked = Question(name)
        answers = await asyncio.gather(*(self._scene.ask(it, "predict", asked) for it in connections))
        self._scene.read()
        for connection, answer in zip(connections, answers, strict=True):
            connection.close()
            if answer is not None:
                self._scene.verdict.prediction(asked, answer, {})
        self._scene.verdict.broken += crowd_was_served_once(
            name, self._scene.journal, self._scene.log, deaths_before=deaths
        )
        self._scene.models.bring_in(name)
        return True

    async def _kill(self, connection: Connection) -> bool:
        workers = (await self._scene.status(connection))["server"]["workers"]
        pids = {it["pid"] for it in workers if it["alive"]}
        ours = {it.pid for it in psutil.Process(self._scene.server.pid).children(recursive=True)}
        if not pids & ours:
            return False
        self._scene.killed_s = time.monotonic()
        self._scene.verdict.killed_until_s = self._scene.killed_s + AFTERMATH_S
        os.kill(self._scene.draw.choice(sorted(pids & ours)), signal.SIGKILL)
        return True

    async def _fill_disk(self) -> bool:
        if self._disk.why_not:
            return False
        self._scene.verdict.full_until_s = float("inf")
        await asyncio.to_thread(self._disk.fill)
        await asyncio.sleep(AWAY_S)
        self._disk.empty()
        self._scene.verdict.full_until_s = time.monotonic() + AFTERMATH_S
        return True

    async def _take_store_away(self, connection: Connection) -> None:
        """What is on disk or in memory by then must be answered until it is back."""
        self._scene.verdict.away_until_s = float("inf")
        self._scene.models.go_away()
        await asyncio.sleep(ON_ITS_WAY_AWAY_S)
        listed = (await connection.ask("GET", "/models?limit=1000")).json()["models"]
        self._scene.verdict.outage = Outage.seen(listed)
        await asyncio.sleep(AWAY_S)
        self._scene.verdict.outage = replace(self._scene.verdict.outage, until_s=time.monotonic())
        self._scene.models.come_back()
        self._scene.verdict.away_until_s = time.monotonic() + AFTERMATH_S
