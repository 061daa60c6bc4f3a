"""A whole replica on fakes: the real tiers, manager, fetch and sync; store, worker and clock under the test's control."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import leaks
from hotset.config import load_settings
from hotset.errors import ErrorKind, HotsetError, UnavailableError
from hotset.events import Event, EventBus
from hotset.keys import ModelRef, parse_ref
from hotset.replica import Replica
from hotset.residency.lease import ModelLease
from hotset.residency.memory_meter import MemoryMeter
from hotset.testing import FakeDriver, FakeStore, FakeWorker, Gate, ManualClock, WorkerScript
from hotset.workers.base import DeathHandler


class Bench:
    """``ask`` is what a client does: lease, predict, release."""

    def __init__(
        self,
        path: Path,
        store: FakeStore | None = None,
        *,
        clock: ManualClock | None = None,
        driver: FakeDriver | None = None,
        meter: MemoryMeter | None = None,
        **settings: Any,
    ) -> None:
        self.store = store or FakeStore()
        self.clock = clock or ManualClock()
        self.script = WorkerScript()
        self.workers: list[FakeWorker] = []
        self.seen: list[Event] = []
        self.soon = False
        """Whether requests wait for loads as started predictions do."""
        events = EventBus()
        events.subscribe(self.seen.append)
        given = {
            "model_dir": "unused",
            "disk_path": str(path),
            "settle_time": 0,
            "sync_interval": 0,
            **settings,
        }
        if "models" in given:
            given.pop("model_dir")
        self.replica = Replica(
            load_settings(None, {}, given),
            clock=self.clock,
            events=events,
            store=self.store,
            make_worker=self._make_worker,
            driver=driver or FakeDriver(),
            meter=meter,
        )
        self.manager = self.replica.manager
        leaks.managers.add(self.manager)
        self.memory = self.replica.memory
        self.disk = self.replica.disk

    def _make_worker(self, number: int, on_death: DeathHandler) -> FakeWorker:
        worker = FakeWorker(number, on_death, self.script)
        self.workers.append(worker)
        return worker

    async def start(self, *, sync: bool = True) -> None:
        await self.disk.recover()
        await self.replica.pool.start()
        if sync:
            await self.replica.sync.pass_once()

    async def sync(self) -> None:
        await self.replica.sync.pass_once()

    async def lease(self, name: str, version: str | None = None, timeout_s: float = 5.0) -> ModelLease:
        ref = parse_ref(name, version)
        ready = self.manager.lease_now(ref)
        if ready is not None:
            return ready
        if self.soon:
            waiting = self.manager.lease_soon(ref, deadline_s=self.clock.now_s + timeout_s)
            if waiting is not None:
                return await self._leased(ref, waiting, timeout_s)
        return await self.manager.lease(ref, deadline_s=self.clock.now_s + timeout_s)

    async def _leased(
        self, ref: ModelRef, waiting: asyncio.Future[ModelLease], timeout_s: float
    ) -> ModelLease:
        """What a started prediction does, for a caller that may be cancelled."""
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled() and waiting.exception() is None:
                waiting.result().release()
            raise
        except HotsetError as error:
            return await self.manager.lease_instead(ref, error, deadline_s=self.clock.now_s + timeout_s)

    async def ask(self, name: str, version: str | None = None, timeout_s: float = 5.0) -> str:
        """Ask once, and once more where the worker did not have it after all: that is the data plane's part."""
        try:
            return await self.ask_once(name, version, timeout_s)
        except UnavailableError as error:
            if error.kind is not ErrorKind.NOT_LOADED:
                raise
            return await self.ask_once(name, version, timeout_s)

    async def held_up(self, name: str) -> tuple[Gate, asyncio.Task[str]]:
        """Ask for a model; its load has begun, and waits until the gate is opened."""
        gate = self.script.gate(name)
        gate.close()
        asked = asyncio.create_task(self.ask(name))
        await gate.arrived()
        return gate, asked

    async def ask_once(self, name: str, version: str | None = None, timeout_s: float = 5.0) -> str:
        self.clock.advance(0.001)
        lease = await self.lease(name, version, timeout_s)
        try:
            answer = await lease.predict(
                codec="", body=b"", content_type="", query_string="", headers=(), deadline_s=float("inf")
            )
        finally:
            lease.release()
        return answer.body.decode()

    async def infer(self, name: str, version: str | None = None) -> str:
        """What a door does: the data plane's own retry included."""
        answer = await self.replica.dataplane.infer(
            parse_ref(name, version), protocol="test", codec="native", body=b""
        )
        return answer.encoded.body.decode()

    async def settled(self) -> None:
        """Return when no flight is in the air, nothing is being unloaded or deleted, and nothing is being saved.

        A save that a sync has started holds the version whose record it writes: one that is to go goes after it.
        """
        while True:
            flights = [flight.task for flight in self.manager.flights.flights() if flight.task]
            for task in flights:
                await _quietly(task)
            await self.manager.quiet()
            if self.replica._saving is not None:
                await asyncio.wait([self.replica._saving])
            await self.disk.settled()
            if not len(self.manager.flights) and not self.memory.draining():
                return

    def in_memory(self) -> set[str]:
        return {str(entry.key) for entry in self.memory.entries()}

    def words(self) -> set[ModelRef]:
        """Every word that has a last-used time, whether it means something or not."""
        return set(self.memory._recency.victims())

    def on_disk(self) -> set[str]:
        return {str(record.key) for record in self.disk.records()}

    def check(self) -> None:
        self.memory.check_invariants()
        self.disk.check_invariants()
        assert not self.script.used_after_unload
        limit = self.memory.capacity.models
        assert limit is None or self.script.most_live <= limit, "more models lived in workers than fit"

    async def stop(self) -> None:
        self.check()
        await self.replica.stop()
        assert not self.script.live
        assert self.memory.usage == (0, 0, ())
        self.memory.check_invariants()


async def _quietly(task: Any) -> None:
    try:
        await task
    except Exception:
        return  # the flight's own failure: its waiters and the events have it


@asynccontextmanager
async def bench(
    path: Path, store: FakeStore | None = None, *, sync: bool = True, **settings: Any
) -> AsyncIterator[Bench]:
    it = Bench(path, store, **settings)
    await it.start(sync=sync)
    try:
        yield it
        it.check()
    finally:
        await it.stop()
