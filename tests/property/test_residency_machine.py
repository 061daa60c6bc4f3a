"""The whole residency on fakes, under every order of requests, changes of the store, faults, deaths and restarts.

Nothing in it is left to chance: the loop has no threads and no time of its own (``virtual_loop``), so what Hypothesis
finds it finds again. What holds at every await point is checked after every step of the loop; what holds once all has
calmed down is checked by ``calm_down``, which is also the last thing that every example does.

``HOTSET_EXAMPLES`` and ``HOTSET_STEPS`` make it search for longer.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hotset.catalog import VersionEntry
from hotset.errors import (
    HotsetError,
    LoadFailedError,
    NotFoundError,
    StoreError,
    UnavailableError,
)
from hotset.events import Cause
from hotset.keys import LATEST, Fingerprint, ModelKey, ModelRef, fingerprint
from hotset.residency.arrival import MemoryEntry, Occupant
from hotset.residency.lease import ModelLease
from hotset.residency.spread import Copy, Drop, Move
from hotset.residency.state import TRANSITIONS, State, state_of
from hotset.residency.view import View
from hotset.status import Readiness
from hotset.store import ObjectMeta
from hotset.testing import FakeDriver, FakeStore, FakeWorker, Gate, ManualClock
from hotset.workers.base import DeathHandler, LoadReply, LoadSpec
from residency_bench import Bench
from virtual_loop import VirtualLoop

NAMES = ("a", "b", "c")
KIB = 1 << 10
EXAMPLES = int(os.environ.get("HOTSET_EXAMPLES", "60"))
STEPS = int(os.environ.get("HOTSET_STEPS", "40"))

names = st.sampled_from(NAMES)
numbers = st.integers(1, 3)
keys = st.builds(ModelKey, names, numbers)
words = st.one_of(st.just(LATEST), st.just(LATEST), numbers)
refs = st.builds(ModelRef, names, words)
turns = st.sampled_from([0, 1, 2, 4, 8, 16, 100])
flags = st.booleans()


@dataclass(frozen=True)
class Shape:
    """What a replica may hold, and its workers."""

    memory: int | str
    disk: int
    workers: int
    light: bool = False
    """Whether models are swapped, once they were loaded."""


shapes = st.one_of(
    st.builds(
        lambda memory, more, workers, light: Shape(memory, memory + more, workers, light),
        st.integers(1, 4),
        st.sampled_from([0, 1, 5]),
        st.sampled_from([1, 2]),
        st.booleans(),
    ),
    st.builds(Shape, st.just("300KiB"), st.sampled_from([4, 9]), st.sampled_from([1, 2]), st.booleans()),
)
weights = st.sampled_from([40 * KIB, 90 * KIB, 160 * KIB, 290 * KIB])


class WatchedStore(FakeStore):
    """Knows what every fingerprint holds, and refuses to give what is on disk already."""

    def __init__(self) -> None:
        super().__init__()
        self.contents: dict[Fingerprint, str] = {}
        self.current: dict[ModelKey, Fingerprint] = {}
        self.is_on_disk: Callable[[Fingerprint], bool] = lambda _: False

    def publish(self, key: ModelKey) -> None:
        text = f"{key.name}-{key.version}-{len(self.contents)}"
        path = f"{key.name}/{key.version}/model.txt"
        self.put(path, text.encode())
        print_ = fingerprint([("model.txt", len(text), self.objects[path].etag)])
        self.contents[print_] = text
        self.current[key] = print_

    def withdraw(self, key: ModelKey) -> None:
        self.delete(f"{key.name}/{key.version}/")
        self.current.pop(key, None)

    def newest(self, name: str) -> ModelKey | None:
        return max((key for key in self.current if key.name == name), default=None)

    async def download(self, object_: ObjectMeta, target: Path) -> None:
        print_ = fingerprint([("model.txt", object_.size, object_.etag)])
        assert not self.is_on_disk(print_), f"fetched although it is on disk: {object_.path}"
        await super().download(object_, target)


class WatchedWorker(FakeWorker):
    """Counts the loads under way of each version, over all workers; but a copy may be loaded beside it."""

    def __init__(self, number: int, on_death: DeathHandler, bench: WatchedBench) -> None:
        super().__init__(number, on_death, bench.script)
        self.is_dead = False
        self._loading = bench.loading

    async def load(self, spec: LoadSpec) -> LoadReply:
        key = ModelKey(spec.name, spec.version)
        task = asyncio.current_task()
        if task is not None and task.get_name().startswith("copy "):
            return await super().load(spec)
        self._loading[key] += 1
        assert self._loading[key] == 1, f"loaded twice at once: {key}"
        try:
            return await super().load(spec)
        finally:
            self._loading[key] -= 1

    def die(self, reason: str = "killed by the test") -> None:
        self.is_dead = True
        super().die(reason)


class WatchedBench(Bench):
    def __init__(self, path: Path, store: WatchedStore, clock: ManualClock, **given: Any) -> None:
        self.loading: Counter[ModelKey] = Counter()
        super().__init__(path, store, clock=clock, **given)
        store.is_on_disk = lambda print_: self.disk.lookup(print_) is not None

    def _make_worker(self, number: int, on_death: DeathHandler) -> WatchedWorker:
        worker = WatchedWorker(number, on_death, self)
        self.workers.append(worker)
        return worker


@dataclass(eq=False)
class Open:
    """A lease that is held, and what it has answered."""

    lease: ModelLease
    answer: str | None = None


@dataclass(eq=False)
class Request:
    """What a client waits for."""

    ref: ModelRef
    task: asyncio.Task[None] | None = None
    was_offered: bool = False
    moved: int = 0
    troubled: int = 0
    floor: int = 0


@dataclass
class Trouble:
    """What excuses a failure, counted: a request is excused by what was there when it came or came since."""

    moves: int = 0
    faults: int = 0
    floors: dict[str, int] = field(default_factory=dict)


def occupant(lease: ModelLease) -> Occupant:
    return lease._occupant


class ResidencyMachine(RuleBasedStateMachine):
    devices: tuple[int, ...] = ()
    """The sizes of the machine's devices."""

    def __init__(self) -> None:
        super().__init__()
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.directory = Path(tempfile.mkdtemp(prefix="hotset-machine-", dir=base))
        self.clock = ManualClock()
        self.store = WatchedStore()
        self.trouble = Trouble()
        self.requests: list[Request] = []
        self.background: list[asyncio.Task[None]] = []
        self.leases: list[Open] = []
        self.loop: VirtualLoop | None = None
        self.has_failed = False

    @initialize(shape=shapes, seed=st.integers(0, 1 << 16), stock=st.sets(keys, max_size=6))
    def start(self, shape: Shape, seed: int, stock: set[ModelKey]) -> None:
        self.prepare(shape, seed, stock)

    def prepare(self, shape: Shape, seed: int, stock: set[ModelKey]) -> None:
        self.shape = shape
        self.soon = seed % 2 == 1
        self.loop = VirtualLoop(self.clock, seed=seed)
        for key in sorted(stock):
            self.store.publish(key)
        self.run(self.open_bench(away=False))

    def teardown(self) -> None:
        if self.loop is None:
            return
        try:
            if not self.has_failed:
                self.run(self.calm())
                self.run(self.end())
        finally:
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.after_step = lambda: None
            self.loop.run_until_complete(asyncio.sleep(0))
            self.loop.close()
            shutil.rmtree(self.directory, ignore_errors=True)

    # Running

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        assert self.loop is not None
        self.has_failed = True
        self.loop.run(work)
        self.check()
        self.has_failed = False

    async def open_bench(self, *, away: bool) -> None:
        self.bench = WatchedBench(
            self.directory / "disk",
            self.store,
            self.clock,
            model_cache_size=self.shape.memory,
            disk_model_cache_size=self.shape.disk,
            processes_per_replica=self.shape.workers,
            load_failure_backoff="5s",
            driver=FakeDriver(*self.devices),
        )
        self.bench.soon = self.soon
        self.bench.script.light = self.shape.light
        manager = self.bench.manager
        self.view = View(
            manager,
            clock=self.clock,
            version="",
            store_url="",
            sync=self.bench.replica.finding.status,
            readiness=lambda: Readiness(ready=True),
        )
        self.states: dict[tuple[ModelKey, Fingerprint], State] = {}
        self.moved_from: object = None
        self.victims: set[MemoryEntry] = set()
        await self.bench.start(sync=False)
        await self.bench.replica.sync.restore()
        if not away:
            await self.bench.sync()
        assert self.loop is not None
        self.loop.after_step = self.after_step

    async def pass_turns(self, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)
            assert self.loop is not None
            if self.loop.is_idle():
                return

    def start_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work)

    # What holds at every await point

    def after_step(self) -> None:
        bench = self.bench
        assert bench.memory.capacity.holds(bench.memory.usage)
        assert bench.disk.capacity.holds(bench.disk.usage)
        limit = bench.memory.capacity.models
        assert limit is None or len(bench.script.live) <= limit
        gone = {it for it in bench.memory.draining() if it.cause is Cause.CAPACITY and it not in self.victims}
        assert not gone or all(it.is_copy for it in gone) or not bench.memory.copies(), "copies go first"
        self.victims.update(gone)
        if bench.manager.catalog.snapshot is not self.moved_from:
            self.moved_from = bench.manager.catalog.snapshot
            self.trouble.moves += 1
        for entry in self.offered():
            self.follow_state(entry)

    def offered(self) -> Iterator[VersionEntry]:
        for model in self.bench.manager.catalog.snapshot.models.values():
            yield from model.versions

    def follow_state(self, version: VersionEntry) -> None:
        manager = self.bench.manager
        state = state_of(
            self.view._facts(
                version,
                manager.memory.find(ModelRef(*version.key)),
                on_disk=manager.disk.lookup(version.fingerprint) is not None,
                failure=manager.failures.get(version.key, version.fingerprint),
            )
        )
        before = self.states.get((version.key, version.fingerprint))
        self.states[version.key, version.fingerprint] = state
        if before is None or before is state or state in TRANSITIONS[before]:
            return
        between = {step for step in TRANSITIONS[before] if state in TRANSITIONS[step]}
        assert between, f"{version.key} went from {before} to {state} in one step"

    def check(self) -> None:
        bench = self.bench
        bench.memory.check_invariants()
        bench.disk.check_invariants()
        assert not bench.script.used_after_unload
        for held in self.leases:
            resident = occupant(held.lease).resident
            worker: Any = resident.worker
            is_there = resident.handle in bench.script.live or resident.handle in bench.script.coming
            assert is_there or worker.is_dead or resident.handle in worker.refused, held.lease.key

    # Requests

    @rule(ref=refs, seconds=st.sampled_from([0.0, 0.5, 60.0]), count=turns)
    def ask(self, ref: ModelRef, seconds: float, count: int) -> None:
        self.run(self.begin(ref, seconds, self.ask_once, count))

    @rule(wanted=st.lists(refs, min_size=2, max_size=6), count=turns)
    def ask_at_once(self, wanted: list[ModelRef], count: int) -> None:
        for ref in wanted[:-1]:
            self.run(self.begin(ref, 60.0, self.ask_once, 0))
        self.run(self.begin(wanted[-1], 60.0, self.ask_once, count))

    @rule(ref=refs, count=turns)
    def open_lease(self, ref: ModelRef, count: int) -> None:
        self.run(self.begin(ref, 60.0, self.open_once, count))

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def use_lease(self, data: st.DataObject) -> None:
        self.run(self.use(data.draw(st.sampled_from(self.leases))))

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), count=turns)
    def release_lease(self, data: st.DataObject, count: int) -> None:
        held = data.draw(st.sampled_from(self.leases))

        async def release() -> None:
            await self.use(held)
            self.leases.remove(held)
            held.lease.release()
            await self.pass_turns(count)

        self.run(release())

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), count=turns)
    def cancel(self, data: st.DataObject, count: int) -> None:
        request = data.draw(st.sampled_from(self.requests))

        async def cancel() -> None:
            assert request.task is not None
            request.task.cancel()
            await self.pass_turns(count)

        self.run(cancel())

    async def begin(
        self,
        ref: ModelRef,
        seconds: float,
        way: Callable[[Request, float], Awaitable[None]],
        count: int,
    ) -> None:
        request = Request(
            ref,
            was_offered=self.is_offered(ref),
            moved=self.trouble.moves,
            troubled=self.trouble.faults,
            floor=self.trouble.floors.get(ref.name, 0),
        )
        request.task = self.start_task(self.excused(request, seconds, way))
        self.requests.append(request)
        request.task.add_done_callback(lambda _: self.ended(request))
        await self.pass_turns(count)

    def ended(self, request: Request) -> None:
        self.requests.remove(request)
        assert request.task is not None
        if not request.task.cancelled():
            request.task.result()

    async def excused(
        self, request: Request, seconds: float, way: Callable[[Request, float], Awaitable[None]]
    ) -> None:
        """Do it, and accept the failures for which there was a reason."""
        try:
            await way(request, seconds)
        except NotFoundError:
            has_moved = self.trouble.moves != request.moved
            assert has_moved or not request.was_offered or not self.is_offered(request.ref), request.ref
        except LoadFailedError:
            assert self.trouble.faults, request.ref
        except UnavailableError:
            return  # not now; that it ends is what `calm` sees to

    def is_offered(self, ref: ModelRef) -> bool:
        return self.bench.manager.rollover.offered(ref) is not None

    async def ask_once(self, request: Request, seconds: float) -> None:
        self.clock.advance(0.001)
        bench, ref = self.bench, request.ref
        lease = await bench.lease(ref.name, str(ref.version), timeout_s=seconds)
        held = Open(lease)
        try:
            await self.use(held)
        finally:
            lease.release()
        self.never_backwards(request, lease.key)

    async def open_once(self, request: Request, seconds: float) -> None:
        ref = request.ref
        lease = await self.bench.lease(ref.name, str(ref.version), timeout_s=seconds)
        assert ref.version in {LATEST, lease.key.version}
        self.leases.append(Open(lease))
        self.never_backwards(request, lease.key)

    async def use(self, held: Open) -> None:
        """A lease answers, the same each time, as its version does; unless its worker has died."""
        lease = held.lease
        try:
            encoded = await lease.predict(
                codec="", body=b"", content_type="", query_string="", headers=(), deadline_s=float("inf")
            )
        except UnavailableError:
            resident = occupant(lease).resident
            worker: Any = resident.worker
            assert worker.is_dead or resident.handle in worker.refused
            return
        answer = encoded.body.decode()
        text = self.store.contents[occupant(lease).version.fingerprint]
        assert answer == f"{lease.key}|{text}"
        assert text.startswith(f"{lease.key.name}-{lease.key.version}-")
        assert held.answer in {None, answer}
        held.answer = answer

    def never_backwards(self, request: Request, key: ModelKey) -> None:
        """``latest`` answers with no older version than it had before this request came."""
        assert key.name == request.ref.name
        if request.ref.version != LATEST:
            assert key.version == request.ref.version
            return
        if request.troubled == self.trouble.faults and self.is_offered(ModelRef(key.name, request.floor)):
            assert key.version >= request.floor, (key, request.floor)
            self.trouble.floors[key.name] = max(key.version, self.trouble.floors.get(key.name, 0))

    def excuse(self, name: str | None = None) -> None:
        """From here on an older version may answer, or a failure."""
        self.trouble.faults += 1
        for known in NAMES if name is None else (name,):
            self.trouble.floors.pop(known, None)

    # The store

    @rule(key=keys)
    def publish(self, key: ModelKey) -> None:
        self.store.publish(key)

    @rule(key=keys)
    def withdraw(self, key: ModelKey) -> None:
        self.store.withdraw(key)
        self.excuse(key.name)

    @rule(name=names)
    def withdraw_model(self, name: str) -> None:
        for number in (1, 2, 3):
            self.store.withdraw(ModelKey(name, number))
        self.excuse(name)

    @rule(count=turns)
    def sync(self, count: int) -> None:
        async def sync() -> None:
            self.background.append(self.start_task(self.bench.sync()))
            await self.pass_turns(count)

        self.run(sync())

    @rule(listing=flags, downloads=flags)
    def store_faults(self, listing: bool, downloads: bool) -> None:
        self.store.list_fault = StoreError("away") if listing else None
        self.store.download_fault = StoreError("away") if downloads else None

    # What is slow, and what fails

    @rule(name=names, is_open=flags, count=turns)
    def load_gate(self, name: str, is_open: bool, count: int) -> None:
        self.run(self.set_gate(self.bench.script.gate(name), is_open, count))

    @rule(which=st.sampled_from(["unload", "swap", "list", "download"]), is_open=flags, count=turns)
    def gate(self, which: str, is_open: bool, count: int) -> None:
        gates = {
            "unload": self.bench.script.unload_gate,
            "swap": self.bench.script.swap_gate,
            "list": self.store.list_gate,
            "download": self.store.download_gate,
        }
        self.run(self.set_gate(gates[which], is_open, count))

    async def set_gate(self, gate: Gate, is_open: bool, count: int) -> None:
        if is_open:
            gate.open()
        else:
            gate.close()
        await self.pass_turns(count)

    @rule(name=names, fails=flags)
    def load_fault(self, name: str, fails: bool) -> None:
        if fails:
            self.bench.script.load_faults[name] = LoadFailedError("made to fail")
            self.excuse(name)
        else:
            self.bench.script.load_faults.pop(name, None)

    @rule(name=names, weight=weights)
    def weigh(self, name: str, weight: int) -> None:
        self.bench.script.weights[name] = weight

    @rule(which=st.integers(0, 1), count=turns)
    def kill_worker(self, which: int, count: int) -> None:
        async def kill() -> None:
            workers = self.bench.replica.pool.workers
            if which < len(workers):
                self.excuse()
                workers[which].die()  # type: ignore[attr-defined]
            await self.pass_turns(count)

        self.run(kill())

    # Copies

    @precondition(lambda self: self.shape.workers > 1)
    @rule(ref=refs, moves=flags, count=turns)
    def spread(self, ref: ModelRef, moves: bool, count: int) -> None:
        """Somebody asks for a model, and it goes to the other worker too, or there altogether, whatever its queue."""

        async def spread() -> None:
            memory = self.bench.memory
            entry = memory.find(ref)
            if entry is not None:
                worker = 3 - entry.value.resident.worker.id
                before = {entry.key for entry in memory.entries()}
                self.bench.manager.copies.take(Move(entry.key, worker) if moves else Copy(entry.key, worker))
                assert {entry.key for entry in memory.entries()} == before, "a copy pushes nothing out"
            await self.pass_turns(count)

        self.run(self.begin(ref, 60.0, self.ask_once, 100))
        self.run(spread())

    @rule(which=st.integers(0, 9), count=turns)
    def gather(self, which: int, count: int) -> None:
        async def gather() -> None:
            copies = self.bench.memory.copies()
            if copies and self.bench.manager.copies._task is None:
                self.bench.manager.copies.take(Drop(copies[which % len(copies)].key))
                assert len(self.bench.memory.copies()) == len(copies) - 1
            await self.pass_turns(count)

        self.run(gather())

    def places(self) -> tuple[MemoryEntry, ...]:
        return (*self.bench.memory.entries(), *self.bench.memory.copies())

    @rule(data=st.data())
    def damage(self, data: st.DataObject) -> None:
        """The files of a version are lost from the disk behind the tier's back."""
        records = self.bench.disk.records()
        if records:
            record = data.draw(st.sampled_from(sorted(records, key=lambda it: it.key)))
            path = self.bench.disk.path(record.fingerprint)
            for file in path.rglob("*.txt"):
                file.unlink()
            self.excuse()

    # The operator

    @rule(key=keys, pinned=flags)
    def pin(self, key: ModelKey, pinned: bool) -> None:
        async def pin() -> None:
            self.bench.manager.pin(key, pinned=pinned)

        self.run(pin())

    @rule(key=keys, seconds=st.sampled_from([0.0, 60.0]), count=turns)
    def unload(self, key: ModelKey, seconds: float, count: int) -> None:
        async def work() -> None:
            try:
                await self.bench.manager.unload([key], Cause.EXPLICIT, deadline_s=self.clock.now_s + seconds)
            except UnavailableError:
                return

        async def unload() -> None:
            self.background.append(self.start_task(work()))
            await self.pass_turns(count)

        self.run(unload())

    @rule(key=keys, count=turns)
    def relieve(self, key: ModelKey, count: int) -> None:
        async def relieve() -> None:
            work = self.bench.manager.relief.relieve(key, deadline_s=self.clock.now_s + 5)
            self.background.append(self.start_task(work))
            await self.pass_turns(count)

        self.run(relieve())

    @rule(seconds=st.sampled_from([0.3, 6.0, 31.0]), count=turns)
    def advance(self, seconds: float, count: int) -> None:
        self.clock.advance(seconds)
        self.run(self.pass_turns(count))

    @rule(away=flags)
    def restart(self, away: bool) -> None:
        async def restart() -> None:
            await self.end()
            self.excuse()
            self.store.list_fault = StoreError("away") if away else None
            await self.open_bench(away=away)

        self.run(restart())

    # Calm

    @rule()
    def calm_down(self) -> None:
        self.run(self.calm())

    async def calm(self) -> None:
        self.open_all()
        self.bench.script.load_faults.clear()
        self.store.list_fault = self.store.download_fault = None
        await self.let_go()
        await self.settled()
        self.clock.advance(10_000.0)
        for _ in range(2):  # a store that shows nothing is believed the second time
            await self.bench.sync()
            await self.settled()
        for name in NAMES:
            await self.answers_as_the_store_has_it(name)
        await self.answers_without_the_store()
        await self.bench.sync()
        await self.settled()
        self.nothing_is_left()

    def open_all(self) -> None:
        script = self.bench.script
        gates = (script.unload_gate, script.swap_gate, self.store.list_gate, self.store.download_gate)
        for gate in (*gates, *self.bench.script.gates.values()):
            gate.open()

    async def let_go(self) -> None:
        for held in self.leases:
            held.lease.release()
        self.leases.clear()
        for entry in self.bench.memory.entries():
            self.bench.manager.pin(entry.key, pinned=False)
        self.bench.manager._reload.forget([ModelKey(name, number) for name in NAMES for number in (1, 2, 3)])

    async def settled(self) -> None:
        """Let everything end that can; time passes only where nothing else is left to do."""
        assert self.loop is not None
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for _ in range(400):
            await self.pass_turns(2000)
            assert self.loop.is_idle(), "it never comes to rest"
            while self.leases:  # of requests that got theirs only now
                self.leases.pop().lease.release()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            if not tasks:
                return
            self.clock.advance(0.25)
            await asyncio.sleep(0)
        raise AssertionError(f"stuck: {tasks}")

    async def answers_as_the_store_has_it(self, name: str) -> None:
        newest = self.store.newest(name)
        if newest is None:
            assert await self.outcome(ModelRef(name)) == "not found"
            return
        await self.outcome(ModelRef(name))  # an older one may answer once more
        await self.settled()
        for ref in (ModelRef(name), ModelRef(*newest), ModelRef(name)):
            expected = f"{newest}|{self.store.contents[self.store.current[newest]]}"
            assert await self.outcome(ref) == expected
            await self.settled()

    async def answers_without_the_store(self) -> None:
        """What is in memory or on disk is answered through an outage."""
        self.store.list_fault = self.store.download_fault = StoreError("away")
        await self.bench.sync()
        for version in list(self.offered()):
            if self.is_whole_on_disk(version.fingerprint):
                answer = await self.outcome(ModelRef(*version.key))
                assert answer == f"{version.key}|{self.store.contents[version.fingerprint]}"
                await self.settled()
        self.store.list_fault = self.store.download_fault = None

    def is_whole_on_disk(self, print_: Fingerprint) -> bool:
        if self.bench.disk.lookup(print_) is None:
            return False
        return (self.bench.disk.path(print_) / "model.txt").exists()

    async def outcome(self, ref: ModelRef) -> str:
        async def ask() -> str:
            try:
                return await self.bench.ask(ref.name, str(ref.version), timeout_s=60.0)
            except NotFoundError:
                return "not found"
            except HotsetError as error:
                return repr(error)

        task = asyncio.get_running_loop().create_task(ask())
        await self.settled()
        return task.result()

    def nothing_is_left(self) -> None:
        """DESIGN §9.9: what clients and the store have done leaves nothing behind but what is there now."""
        bench, manager = self.bench, self.bench.manager
        assert not self.requests
        for task in self.background:
            task.result()
        self.background.clear()
        assert not manager.flights.flights()
        assert not manager.relief._under_way.flights()
        assert bench.memory.statistics().leases == 0
        assert not bench.memory.draining()
        assert not manager._departure._unloading
        assert not manager._departure._gone
        assert not manager._reload._pins
        assert manager.copies._task is None
        in_workers = [(place.key, place.value.resident.worker) for place in self.places()]
        assert len(in_workers) == len(set(in_workers)), "a version is twice in one worker"
        assert manager.rollover.outdated == self.outdated()
        failures = {key: failure.fingerprint for key, failure in manager.failures._failures.items()}
        assert failures.items() <= self.store.current.items()
        for ref in bench.words():  # latest keeps its time as long as anything of its model is in memory
            assert bench.memory.find(ref) or (ref.version == LATEST and bench.memory.entries_of(ref.name)), (
                ref
            )
        assert list(manager.catalog.snapshot.models) == sorted({key.name for key in self.store.current})
        assert manager.catalog.snapshot.models.version_count == len(self.store.current)
        held = {entry.value.version.fingerprint for entry in bench.memory.entries()}
        assert bench.disk._holds.keys() == held
        assert bench.disk._doomed.keys() <= held, "what is to go goes, unless it serves until there is room"
        on_disk = {record.fingerprint for record in bench.disk.records()} | bench.disk._doomed.keys()
        assert on_disk - bench.disk._doomed.keys() <= set(self.store.current.values())
        objects = (path.name.partition(".")[0] for path in (self.directory / "disk" / "objects").iterdir())
        assert sorted(objects) == sorted(on_disk)
        assert not list((self.directory / "disk" / "staging").iterdir())
        handles = {place.value.resident.handle for place in self.places()}
        assert bench.script.live.keys() == handles
        assert sum(load.models for load in bench.replica.pool.loads()) == len(handles)
        weights_in_memory = sum(place.weight.bytes for place in self.places())
        assert sum(load.bytes for load in bench.replica.pool.loads()) == weights_in_memory

    def outdated(self) -> set[str]:
        """The models of which something in memory is not, or not any more, what the store has."""
        current, memory = self.store.current, self.bench.memory
        old = {
            entry.key.name
            for entry in memory.entries()
            if current[entry.key] != entry.value.version.fingerprint
        }
        serving = (memory.serving_latest(name) for name in NAMES)
        return old | {key.name for key in serving if key is not None and key != self.store.newest(key.name)}

    async def end(self) -> None:
        self.open_all()
        for request in list(self.requests):
            assert request.task is not None
            request.task.cancel()
        for task in self.background:
            task.cancel()
        await self.pass_turns(2000)
        while self.leases:
            self.leases.pop().lease.release()
        assert self.loop is not None
        bench = self.bench
        await bench.stop()
        await self.pass_turns(2000)
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not left, left
        self.background.clear()


NOT_HERE: Any = None
"""In the place of a rule of the whole machine."""

shapes_with_copies = st.one_of(
    st.builds(Shape, st.integers(2, 6), st.just(9), st.just(2)),
    st.builds(Shape, st.sampled_from(["300KiB", "500KiB"]), st.just(9), st.just(2)),
)


class CopiesMachine(ResidencyMachine):
    """Two workers, models in memory, and little else but copies: in the whole machine they come about too seldom."""

    damage = restart = store_faults = gate = load_fault = withdraw_model = advance = NOT_HERE

    @initialize(shape=shapes_with_copies, seed=st.integers(0, 1 << 16))
    def start(self, shape: Shape, seed: int) -> None:
        stock = {ModelKey(name, 1) for name in NAMES}
        self.prepare(shape, seed, stock)
        for name in NAMES:
            self.bench.script.weights[name] = 40 * KIB
        self.run(self.begin(ModelRef("a"), 60.0, self.ask_once, 100))

    @rule(refs=st.lists(refs, min_size=1, max_size=3), moves=st.booleans(), count=turns)
    def spread_leased(self, refs: list[ModelRef], moves: bool, count: int) -> None:
        """Copies while leases are held: those of the first place, then those of both."""
        for ref in refs:
            self.run(self.begin(ref, 60.0, self.open_once, 100))
        self.spread_now(refs[0], moves, count)
        for ref in refs:
            self.run(self.begin(ref, 60.0, self.open_once, 100))

    @rule(count=turns)
    def gather_all(self, count: int) -> None:
        async def gather() -> None:
            copies = self.bench.manager.copies
            while copies._task is None and self.bench.memory.copies():
                copies.take(Drop(self.bench.memory.copies()[0].key))
            await self.pass_turns(count)

        self.run(gather())

    def spread_now(self, ref: ModelRef, moves: bool, count: int) -> None:
        entry = self.bench.memory.find(ref)
        if entry is None:
            return
        worker = 3 - entry.value.resident.worker.id

        async def spread() -> None:
            step = Move(entry.key, worker) if moves else Copy(entry.key, worker)
            self.bench.manager.copies.take(step)
            await self.pass_turns(count)

        self.run(spread())


class DevicesMachine(ResidencyMachine):
    """Two workers with a device each, on which versions take memory that is known once they were loaded."""

    devices = (1 << 30, 1 << 30)

    @initialize(
        models=st.integers(2, 6),
        workers=st.sampled_from([2, 3]),
        seed=st.integers(0, 1 << 16),
        stock=st.sets(keys),
    )
    def start(self, models: int, workers: int, seed: int, stock: set[ModelKey]) -> None:
        self.prepare(Shape(f"{{models: {models}, device_bytes: 100}}", 9, workers), seed, stock)
        self.run(self.has_devices())

    async def has_devices(self) -> None:
        assert self.bench.memory.capacity.device_bytes == (100, 100)

    @rule(name=names, weight=st.sampled_from([0, 30, 60, 100]))
    def weigh_on_device(self, name: str, weight: int) -> None:
        self.bench.script.device_weights[name] = weight

    @invariant()
    def what_is_loaded_counts_where_it_is(self) -> None:
        if self.loop is None:
            return
        for place in self.places():
            device = (place.value.resident.worker.id - 1) % 2
            taken = place.weight.device_bytes
            assert taken in ((), (0,) * device + taken[-1:])
        assert all(taken <= 100 for taken in self.bench.memory.usage.device_bytes)


pytestmark = pytest.mark.slow

TestResidencyMachine = ResidencyMachine.TestCase
TestCopiesMachine = CopiesMachine.TestCase
TestDevicesMachine = DevicesMachine.TestCase
TestResidencyMachine.settings = TestCopiesMachine.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestDevicesMachine.settings = settings(TestCopiesMachine.settings, max_examples=EXAMPLES // 2)
