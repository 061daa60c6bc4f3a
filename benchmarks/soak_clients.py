"""The soak's clients: random traffic, questions in vain, and calm models asked beside slow ones. ``soak.py`` runs them."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Final

from soak_models import CALM, SLOW, SLOWLY_BROKEN
from soak_scene import Scene
from soak_status import NOBODY
from soak_verdict import Question

from hotset.demo.connection import Connection

IN_VAIN: Final = ("load_failed", "model_not_found", "version_not_found")
FOR_IN_VAIN: Final = 0.05
PHASE_S: Final = 1.0
CALM_AGAIN_S: Final = 3.0
"""After a child's death; until then its models are loaded again."""


class Clients:
    """Owned by the event loop; each verb is a task of its own, which ends by itself."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    async def traffic(self) -> None:
        connection, last = self._scene.connection(), dict[str, tuple[int, int]]()
        while not self._scene.is_over:
            if self._scene.draw.random() < FOR_IN_VAIN:
                await self._ask_in_vain(connection)
            asked = self._scene.question()
            answer = await self._scene.ask(connection, "predict", asked)
            if answer is not None:
                self._scene.verdict.prediction(asked, answer, last)
                self._scene.growth.answered(answer.seconds)
            await asyncio.sleep(0.002)  # the machine may have other work
        connection.close()

    async def _ask_in_vain(self, connection: Connection) -> None:
        """For what cannot be loaded, or for what nobody ever had: neither may cost the others anything."""
        kind = self._scene.draw.choice(IN_VAIN)
        number = None
        match kind:
            case "load_failed":
                name = self._scene.draw.choice(self._scene.models.broken)
            case "model_not_found":
                name = f"{NOBODY}{self._scene.draw.getrandbits(64):x}"
            case _:
                name, number = self._scene.draw.choice(CALM), self._scene.draw.randrange(10**6, 10**9)
        asked = Question(name, number)
        answer = await self._scene.ask(connection, "predict", asked)
        if answer is not None:
            self._scene.verdict.in_vain(asked, answer, kind=kind)

    async def neighbours(self) -> None:
        """Calm models are in memory all the time, and are asked in peace and beside slow and broken ones in turn."""
        connection, other = self._scene.connection(), self._scene.connection()
        for name in CALM:
            await self._scene.explicit("pin", Question(name), connection)
        for slow in itertools.cycle((None, SLOW, None, SLOWLY_BROKEN)):
            if not self._scene.goes_on:
                break
            await self._phase(connection, other, slow)
        connection.close()
        other.close()

    async def _phase(self, connection: Connection, other: Connection, slow: str | None) -> None:
        began_s, answers = time.monotonic(), 0
        beside = asyncio.create_task(self._be_slow(other, slow)) if slow else None
        while time.monotonic() < began_s + PHASE_S or (beside is not None and not beside.done()):
            asked = Question(self._scene.draw.choice(CALM))
            answer = await self._scene.ask(connection, "predict", asked)
            if answer is not None:
                self._scene.verdict.prediction(asked, answer, {})
                answers += 1
            await asyncio.sleep(0.002)
        if beside is not None:
            await beside
        if began_s > self._scene.killed_s + CALM_AGAIN_S:
            self._scene.neighbours.note(answers / (time.monotonic() - began_s), is_beside=beside is not None)

    async def _be_slow(self, connection: Connection, name: str) -> None:
        """Have it loaded, slowly, and asked, slowly; afterwards it is as it was."""
        asked = Question(name)
        answer = await self._scene.ask(connection, "predict", asked)
        if answer is None:
            return
        if name == SLOWLY_BROKEN:
            self._scene.verdict.in_vain(asked, answer, kind="load_failed")
            return
        self._scene.verdict.prediction(asked, answer, {})
        await self._scene.explicit("unload", Question(name), connection)
