"""Any requests of handlers, each for any models, at any capacity that can hold the largest of them: all of them end.

There is neither time nor a thread in the loop (``virtual_loop``): where it has nothing left to do and a request has not
ended, they wait for each other for ever. The promises of the tiers are checked at every step.
"""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handler_bench import HandlerBench
from hotset.errors import UnavailableError
from hotset.testing import FakeStore, ManualClock, versions
from virtual_loop import VirtualLoop

NAMES: Final = "abcdef"
LONG_S: Final = 100
"""Nothing takes so long but waiting for a deadline."""

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Asked:
    """A request: the models that its handler asks for, the one that its query names, and when it comes."""

    models: tuple[str, ...]
    hint: str | None
    delay_s: float


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and when: a ``worker`` is killed, the files of a ``model`` change, a ``client`` goes away."""

    kind: str
    number: int
    delay_s: float


@dataclass(frozen=True)
class Case:
    asked: tuple[Asked, ...]
    spare: int
    more_disk: int
    workers: int
    threads: int
    seed: int
    faults: tuple[Fault, ...] = ()

    @property
    def capacity(self) -> int:
        return max(1, *(len(it.models) for it in self.asked)) + self.spare


_DELAYS: Final = st.integers(0, 6).map(lambda number: number / 100)
_ASKED: Final = st.builds(
    Asked,
    models=st.lists(st.sampled_from(NAMES), max_size=4, unique=True).map(tuple),
    hint=st.sampled_from([None, *NAMES]),
    delay_s=_DELAYS,
)
_FAULTS: Final = st.builds(
    Fault, kind=st.sampled_from(["worker", "model", "client"]), number=st.integers(0, 9), delay_s=_DELAYS
)


def _cases(faults: st.SearchStrategy[tuple[Fault, ...]]) -> st.SearchStrategy[Case]:
    return st.builds(
        Case,
        asked=st.lists(_ASKED, min_size=2, max_size=10).map(tuple),
        spare=st.integers(0, 3),
        more_disk=st.integers(0, 2),
        workers=st.integers(1, 3),
        threads=st.integers(1, 2),
        seed=st.integers(0, 1000),
        faults=faults,
    )


class _Stuck(AssertionError):
    """Nobody has anything left to do."""


class _Run:
    """One case, in a loop of its own."""

    def __init__(self, case: Case, path: Path) -> None:
        self.case = case
        self.clock = ManualClock()
        self.loop = VirtualLoop(self.clock, seed=case.seed)
        self.path = path
        self.store = FakeStore()
        versions(self.store, {name: [1] for name in NAMES})

    def run(self) -> None:
        try:
            self.loop.run(self._all())
        finally:
            self.loop.close()

    async def _all(self) -> None:
        case = self.case
        self.bench = bench = HandlerBench(
            self.path,
            self.store,
            clock=self.clock,
            threads=case.threads,
            processes_per_replica=case.workers,
            model_cache_size=case.capacity,
            disk_model_cache_size=case.capacity + case.more_disk,
            request_timeout=2 * LONG_S,
        )
        await bench.start()
        self.main = asyncio.current_task()
        self.loop.after_step = self._step
        began_s = self.clock.now_s
        async with asyncio.TaskGroup() as group:
            self.clients = [group.create_task(self._ask(asked)) for asked in case.asked]
            for fault in case.faults:
                group.create_task(self._go_wrong(fault))
        assert self.clock.now_s - began_s < LONG_S, "somebody waited for a deadline"
        if not case.faults:
            assert max(bench.calls.values()) <= 2, "a handler was called more than twice for one request"
        await self._all_handlers_ended()
        await bench.settled()
        assert bench.memory.statistics().leases == 0
        await bench.stop()

    async def _all_handlers_ended(self) -> None:
        """Those whose clients have gone go on."""
        handlers = self.bench.replica.handlers
        assert handlers is not None
        while handlers.running or handlers._tasks:
            await asyncio.sleep(0.01)

    def _step(self) -> None:
        """After each step of the loop: what is promised holds, and time passes where nothing else is left to do."""
        self.bench.check()
        if not self.loop.is_idle():
            return
        timers = [it.when() for it in self.loop._scheduled if not it.cancelled()]  # type: ignore[attr-defined]
        if timers:
            self.clock.now_s = max(self.clock.now_s, min(timers))
        elif self.main is not None and not self.main.done():
            tasks: set[asyncio.Task[Any]] = asyncio.all_tasks(self.loop)
            raise _Stuck("nothing is left to do:\n" + "\n".join(map(str, tasks)))

    async def _ask(self, asked: Asked) -> None:
        await asyncio.sleep(asked.delay_s)
        try:
            given = await self.bench.handle(*asked.models, hint=asked.hint)
        except UnavailableError:
            if not self.case.faults:
                raise
        else:
            assert [it.removesuffix("-new") for it in given] == [f"{name}-1" for name in asked.models]

    async def _go_wrong(self, fault: Fault) -> None:
        await asyncio.sleep(fault.delay_s)
        if fault.kind == "worker":
            workers = self.bench.replica.pool.workers
            living: Any = workers[fault.number % len(workers)] if workers else None
            if living is not None:
                living.die()
        elif fault.kind == "model":
            name = NAMES[fault.number % len(NAMES)]
            self.store.put(f"{name}/1/model.txt", f"{name}-1-new".encode())
            await self.bench.sync()
        else:
            client = self.clients[fault.number % len(self.clients)]
            client.cancel()
            with suppress(asyncio.CancelledError):
                await client


def _run(case: Case) -> None:
    with tempfile.TemporaryDirectory() as directory:
        _Run(case, Path(directory) / "disk").run()


@given(case=_cases(st.just(())))
@settings(max_examples=30, deadline=None)
def test_every_request_is_answered(case: Case) -> None:
    _run(case)


@given(case=_cases(st.lists(_FAULTS, min_size=1, max_size=3).map(tuple)))
@settings(max_examples=30, deadline=None)
def test_every_request_ends_whatever_happens_meanwhile(case: Case) -> None:
    _run(case)
