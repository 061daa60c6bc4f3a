"""Asks the server all that is planned, from many connections, and publishes a new version in the middle of it.

The screen reads ``tally``, ``rollover`` and ``tiers`` meanwhile. It decides nothing about what is shown.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Final

from hotset.demo.connection import Connection
from hotset.demo.fares import FareStore
from hotset.demo.tally import Tally, Verdict, judge
from hotset.demo.traffic import Ask

PUBLISH_AT: Final = 0.45
"""The new version comes when so much of the run is done."""
ROLLOVER_LIMIT_S: Final = 30.0
WATCH_INTERVAL_S: Final = 0.25
_BETWEEN_ASKS_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Rollover:
    """A new version of the busiest city: when it was published, and when it first answered for ``latest``."""

    city: str
    version: int
    published_s: float
    asked_meanwhile: int = 0
    answered_s: float | None = None

    @property
    def took_s(self) -> float | None:
        return None if self.answered_s is None else self.answered_s - self.published_s


@dataclass(frozen=True, slots=True)
class TierUse:
    """How full a tier is, and the most that was seen in it."""

    models: int = 0
    capacity: int = 0
    bytes: int = 0
    most: int = 0


class Drive:
    """Owned by the event loop. ``run`` once."""

    def __init__(self, port: int, fares: FareStore, asks: Sequence[Ask], *, connections: int) -> None:
        self.tally: Final = Tally()
        self.rollover: Rollover | None = None
        self.tiers: Mapping[str, TierUse] = {"memory": TierUse(), "disk": TierUse()}
        self.first_s = 0.0
        self.seconds = 0.0
        self._port = port
        self._fares = fares
        self._asks = asks
        self._connections = connections
        self._publish_now = asyncio.Event()

    async def run(self) -> None:
        """Return when every request was answered or failed, and ``latest`` has moved."""
        await self._ask_first()
        watch = asyncio.create_task(self._watch())
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._publish())
                group.create_task(self._ask_all())
            await self._look()
        finally:
            watch.cancel()
            await asyncio.wait({watch})

    async def _ask_first(self) -> None:
        """One request before all others: it waits until scikit-learn is imported, and is shown by itself."""
        began_s = time.perf_counter()
        connection = Connection("127.0.0.1", self._port)
        try:
            verdict = await self._ask(connection, replace(self._asks[0], city=self._fares.cities[0]), {})
        finally:
            connection.close()
        if verdict is not None and verdict.wrong:
            self.tally.note(verdict)
        self.first_s = time.perf_counter() - began_s

    async def _ask_all(self) -> None:
        waiting = iter(self._asks)
        began_s = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(self._connections):
                group.create_task(self._ask_each(waiting))
        self.seconds = time.perf_counter() - began_s
        self._publish_now.set()

    async def _ask_each(self, waiting: Iterator[Ask]) -> None:
        connection = Connection("127.0.0.1", self._port)
        newest: dict[str, int] = {}
        try:
            for ask in waiting:
                verdict = await self._ask(connection, ask, newest)
                if verdict is not None:
                    self.tally.note(verdict)
                if self.tally.done >= PUBLISH_AT * len(self._asks):
                    self._publish_now.set()
        finally:
            connection.close()

    async def _ask(self, connection: Connection, ask: Ask, newest: dict[str, int]) -> Verdict | None:
        """Ask and judge; ``newest`` is what ``latest`` has meant on this connection, which must not go back."""
        try:
            answer = await connection.ask("POST", ask.path, ask.body)
        except OSError as error:
            self.tally.note_failure(f"{ask.city}: {error or type(error).__name__}")
            return None
        if answer.status != HTTPStatus.OK:
            self.tally.note_failure(f"{ask.city}: {answer.status} {answer.body.decode('utf-8', 'replace')}")
            return None
        verdict = judge(ask, answer, self._fares)
        if ask.version is None:
            before = newest.get(ask.city, 0)
            if verdict.version < before:
                verdict = replace(
                    verdict, wrong=f"latest of {ask.city} went back from {before} to {verdict.version}"
                )
            newest[ask.city] = verdict.version
            self._follow(verdict)
        return verdict

    def _follow(self, verdict: Verdict) -> None:
        """Note how far the rollover is."""
        rollover = self.rollover
        if rollover is None or rollover.answered_s is not None or verdict.city != rollover.city:
            return
        if verdict.version == rollover.version:
            self.rollover = replace(rollover, answered_s=time.perf_counter())
        else:
            self.rollover = replace(rollover, asked_meanwhile=rollover.asked_meanwhile + 1)

    async def _publish(self) -> None:
        """Publish, and go on asking for the city until its new version answers, also where the run is short."""
        await self._publish_now.wait()
        city = self._fares.cities[0]
        version = await asyncio.to_thread(self._fares.publish, city)
        self.rollover = Rollover(city, version, time.perf_counter())
        ask = replace(
            next((ask for ask in self._asks if ask.city == city), self._asks[0]), city=city, version=None
        )
        connection = Connection("127.0.0.1", self._port)
        newest: dict[str, int] = {}
        try:
            async with asyncio.timeout(ROLLOVER_LIMIT_S):
                while self.rollover.answered_s is None:
                    verdict = await self._ask(connection, ask, newest)
                    if verdict is not None and verdict.wrong:
                        self.tally.note(verdict)
                    await asyncio.sleep(_BETWEEN_ASKS_S)
        except TimeoutError:
            self.tally.note_failure(f"{city}@{version} did not answer within {ROLLOVER_LIMIT_S:g} s")
        finally:
            connection.close()

    async def _watch(self) -> None:
        while True:
            await self._look()
            await asyncio.sleep(WATCH_INTERVAL_S)

    async def _look(self) -> None:
        """Read how full the tiers are; a look that fails is made again soon."""
        connection = Connection("127.0.0.1", self._port)
        try:
            page = (await connection.ask("GET", "/status")).json()
        except OSError:
            return
        finally:
            connection.close()
        self.tiers = {tier["tier"]: self._use_of(tier) for tier in page["server"]["tiers"]}

    def _use_of(self, tier: Mapping[str, Any]) -> TierUse:
        before = self.tiers.get(tier["tier"], TierUse())
        models = int(tier["models"])
        return TierUse(
            models, int(tier["capacity_models"] or 0), int(tier["bytes"]), max(before.most, models)
        )


async def counters(port: int) -> Mapping[str, float]:
    """Return the server's own counts: every sample of ``/metrics``, by name with labels."""
    connection = Connection("127.0.0.1", port)
    try:
        page = (await connection.ask("GET", "/metrics")).body.decode()
    finally:
        connection.close()
    samples = (line.rpartition(" ") for line in page.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}
