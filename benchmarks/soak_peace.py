"""What the soak asks in peace, at its end: that every model answers with what is there, and what thousands of models cost."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from soak_models import CALM
from soak_neighbours import Scale
from soak_scene import Scene
from soak_status import still_in_use
from soak_verdict import Question

from hotset.demo.connection import Connection

AGREE_S: Final = 60.0
LOOK_S: Final = 0.2
IDLE: Final = 5000
ASKED_OF_SCALE: Final = 500


class Peace:
    """Owned by the event loop: ``agrees`` once, while the last server runs; then read ``scale``."""

    def __init__(self, scene: Scene) -> None:
        self.scale: Scale | None = None
        self._scene = scene

    async def agrees(self) -> None:
        """See that every model answers with what is there, that nothing is in use then, and what thousands of models cost."""
        connection = self._scene.connection()
        await self._all_answer(connection)
        self._scene.verdict.broken += still_in_use(await self._scene.status(connection))
        few = [await self._hot(connection)]
        await asyncio.to_thread(self._scene.models.add_idle, IDLE)
        await self._catalog_has(connection, least=IDLE)
        many = await self._hot(connection)
        await asyncio.to_thread(self._scene.models.remove_idle)
        await self._catalog_has(connection, most=IDLE)
        few.append(await self._hot(connection))
        connection.close()
        self.scale = Scale(few, many, IDLE)
        self._scene.verdict.broken += [
            *self.scale.dearer(),
            *self._scene.neighbours.delayed(),
            *self._scene.growth.too_much(),
        ]

    async def _all_answer(self, connection: Connection) -> None:
        end_s = time.monotonic() + AGREE_S
        want = {name: max(versions.items()) for name, versions in self._scene.models.now.items()}
        last: dict[str, tuple[int, int]] = {}
        while want and time.monotonic() < end_s:
            for name, version in [*want.items()]:
                asked = Question(name)
                answer = await self._scene.ask(connection, "predict", asked)
                if answer is not None:
                    self._scene.verdict.prediction(asked, answer, last)
                if last.get(name) == version:
                    del want[name]
            await asyncio.sleep(LOOK_S)
        for name, version in want.items():
            what = f"{AGREE_S:g} s after the last change {name} answers {last.get(name)}, not {version}"
            self._scene.verdict.broken.append(what)

    async def _hot(self, connection: Connection) -> list[float]:
        """Return how long each of some hundred answers of a model in memory took."""
        path = f"/models/{CALM[0]}/predict"
        return [(await connection.ask("POST", path, b"{}")).seconds for _ in range(ASKED_OF_SCALE)]

    async def _catalog_has(
        self, connection: Connection, *, least: float = 0, most: float = float("inf")
    ) -> None:
        """Wait until the server knows so many models, for as long as it may take to agree."""
        end_s = time.monotonic() + AGREE_S
        while not least <= (await self._scene.status(connection))["server"]["catalog"]["models"] <= most:
            if time.monotonic() > end_s:
                self._scene.verdict.broken.append(
                    f"after {AGREE_S:g} s the catalog has not {least} to {most} models"
                )
                return
            await asyncio.sleep(LOOK_S)
