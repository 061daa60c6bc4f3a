"""All workers of a replica: chooses one for each load, and knows what each carries.

The residency manager loads and unloads through it; a prediction goes straight to the resident's worker. It decides nothing
about when; that the workers are up is for the ``supervisor``.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from hotset.clock import Clock
from hotset.errors import ErrorKind, LoadFailedError, UnavailableError, WorkerDiedError
from hotset.events import EventBus, WorkerDied
from hotset.keys import ModelKey
from hotset.limits import Limits, Waits, loop_time_s
from hotset.payload import Encoded
from hotset.runtimes.ahead import Imports
from hotset.status import WorkerStatus
from hotset.workers.base import LoadReply, LoadSpec, MakeWorker, PredictCall, Swapped, Worker
from hotset.workers.forking import ForkServer
from hotset.workers.intact import Files
from hotset.workers.light_places import NOWHERE, SLIGHT_BYTES, LightPlaces
from hotset.workers.own_children import OwnChildren, OwnProcesses
from hotset.workers.placement import WorkerLoad, place, suits
from hotset.workers.slot import Slot
from hotset.workers.supervisor import Supervisor


@dataclass(frozen=True, slots=True, eq=False)
class Resident:
    """A model in a worker, ``is_alone`` in one of its own. ``predict`` may be called until it is unloaded or its worker dies."""

    key: ModelKey
    worker: Worker
    handle: int
    reply: LoadReply
    is_alone: bool = False

    def predict(self, call: PredictCall) -> Awaitable[Encoded]:
        call.handle = self.handle
        return self.worker.predict(call)


class WorkerPool:
    """Owned by the event loop. ``start``, then loads and unloads, then ``close``."""

    def __init__(
        self,
        make: MakeWorker,
        *,
        count: int,
        serving: int | None = None,
        own: OwnProcesses | None = None,
        may_swap: bool = False,
        presumes_light: bool = True,
        clock: Clock,
        events: EventBus,
        hang_s: float = 300.0,
        children: ForkServer | None = None,
        on_lost: Callable[[int, str], int] = lambda _worker, _reason: 0,
        on_suspects: Callable[[Sequence[ModelKey], str], None] = lambda _keys, _reason: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Loads that disturb nobody go to the first ``serving`` workers alone; None: to all. One process that comes and goes
        less is one that finds more of what it needs in the processor's caches. ``may_swap`` says that workers can ``swap``.
        ``presumes_light``: what is small is taken to be light, as no code of the user's loads it.

        ``own`` says which models get a child of their own, None: none; with one for everyone, ``count`` may be 0.
        ``children`` is where the workers' children come from; the pool closes it.
        ``on_lost`` is told the id of a dead worker and why, and returns how many models were in it; before that,
        ``on_suspects`` what it was loading or predicting, where that is known."""
        self._clock = clock
        self._events = events
        self._hang_s = hang_s
        self._children = children
        self.on_lost = on_lost
        self.on_suspects = on_suspects
        least = 0 if own is not None and own.rule.everyone else 1
        self._slots = [Slot(number) for number in range(1, max(least, count) + 1)]
        self._supervisor = Supervisor(
            make, self._slots, clock=clock, events=events, on_death=self._died, sleep=sleep
        )
        self.own: Final = self._make_own(make, own) if own is not None else None
        self._serving = serving if serving is not None else len(self._slots)
        self._may_swap = may_swap
        self._light = LightPlaces(presumes=presumes_light)
        self._handles = itertools.count(1)
        self.wishes: Final[dict[ModelKey, int]] = {}
        """In which worker a version is to be loaded next, for whoever needs it in a certain one."""
        self.bounds: Final[dict[ModelKey, Callable[[int], bool]]] = {}
        """Which workers may load a version, by their ids, where not all may: those bound to a certain device."""
        self._limits = Limits()
        self._unloads: Waits[asyncio.Future[None], Resident] = Waits(self._hangs)
        self._swaps: Waits[asyncio.Future[Swapped], Resident] = Waits(self._swap_hangs)

    @property
    def workers(self) -> tuple[Worker, ...]:
        """Those that models share, and that can take work now."""
        return self._supervisor.workers

    @property
    def everyone(self) -> tuple[Worker, ...]:
        """All that are up, those included that hold one model alone."""
        return self.workers if self.own is None else (*self.workers, *self.own.workers)

    def is_up(self, worker: Worker) -> bool:
        """Whether it is one of ours, and lives."""
        for slot in self._slots:
            if slot.worker is worker:
                return True
        return self.own is not None and self.own.is_up(worker)

    def is_shared(self, worker: int) -> bool:
        """Whether a worker of that id is one of those that models share."""
        return worker <= len(self._slots)

    @property
    def size(self) -> int:
        """How many there should be that models share."""
        return len(self._slots)

    @property
    def can_serve(self) -> bool:
        """Whether a model could be loaded now: a worker is up, or each model gets a child of its own."""
        return not self._slots or bool(self.workers)

    @property
    def queued(self) -> int:
        return sum(worker.queued for worker in self.everyone)

    def loads(self) -> tuple[WorkerLoad, ...]:
        """What each worker carries."""
        now_s = self._clock.monotonic()
        return tuple([slot.load(slot.worker, now_s) for slot in self._slots if slot.worker is not None])

    def statuses(self) -> tuple[WorkerStatus, ...]:
        """What the status page shows, one for each place, and one for each child that holds one model alone."""
        shared = tuple([slot.status() for slot in self._slots])
        return shared if self.own is None else (*shared, *self.own.statuses())

    @property
    def is_starting(self) -> bool:
        """Whether all workers have yet to come up for the first time, and none has failed to."""
        return self._supervisor.is_starting

    def open(self, after: Awaitable[object]) -> None:
        """Have every worker start in the background: after ``after``, or at once when a load needs one.

        A start that fails is tried again, as that of a replacement is. Instead of ``start``.
        """
        self._supervisor.open(after)

    async def start(self) -> None:
        """Return when every worker is ready.

        Raises:
            ConfigError: the predictor file does not fit.
            WorkerDiedError: a child did not start; none is left behind.
        """
        if self.own is not None and not self._slots:
            await self.own.probe()
        try:
            await self._supervisor.start()
        except BaseException:
            await self.close()
            raise

    async def load(
        self,
        key: ModelKey,
        path: str,
        *,
        expected_bytes: int = 0,
        weight: int | None = None,
        files: Files | None = None,
        worker: int | None = None,
        after: tuple[int, ...] = (),
        wait_s: float = 30.0,
    ) -> Resident:
        """Load the files in ``path`` where that disturbs least, in this very ``worker``, or in a child of its own.

        ``weight`` is what they weighed last time, if known; ``files`` what should be there; ``after`` are the handles of
        models there whose unload was begun, and has to end before.

        Raises:
            LoadFailedError: the runtime's reason.
            WorkerDiedError: the worker ended while it loaded.
            UnavailableError: no worker came up within ``wait_s``, or that one is not up.
            OverloadedError: what it was to come ``after`` is no use to it, as it gets a child of its own.
        """
        if worker is None and self.wishes:
            worker = self.wishes.get(key)
        handle = next(self._handles)
        spec = LoadSpec(handle, key.name, key.version, path, weight=weight, files=files, after=after)
        if self.own is not None and (worker is None or after) and self.own.may_be_for(expected_bytes):
            alone = await self.own.load(key, spec, expected_bytes, wait_s)
            if alone is not None:
                return Resident(key, alone.worker, handle, alone.reply, is_alone=True)
        if worker is None:
            slot = await self._choose(key, expected_bytes, wait_s)
        else:
            slot = self._slot_of(worker)
        return await self._load_into(slot, key, spec, expected_bytes)

    async def _load_into(self, slot: Slot, key: ModelKey, spec: LoadSpec, expected_bytes: int) -> Resident:
        """Load into the worker that is in this slot now."""
        worker = slot.worker
        assert worker is not None
        slot.begin_load(spec.handle, key, expected_bytes)
        try:
            with self._limits.within(self._hang_s):
                reply = await worker.load(spec)
        except TimeoutError as error:
            slot.fail_load(worker, expected_bytes)
            worker.give_up(f"the load of {key} took longer than {self._hang_s:g} s", suspects=(spec.handle,))
            raise LoadFailedError(
                f"{key} was not loaded within {self._hang_s:g} s; mend its load, or raise load_timeout"
            ) from error
        except WorkerDiedError as error:
            slot.fail_load(worker, expected_bytes)
            error.is_suspect = not worker.suspects or spec.handle in worker.suspects
            raise
        except BaseException:
            slot.fail_load(worker, expected_bytes)
            slot.keys.pop(spec.handle, None)
            raise
        slot.finish_load(worker, expected_bytes, reply.bytes)
        self._light.note(key, worker.id, is_light=reply.is_light, expected_bytes=expected_bytes)
        return Resident(key, worker, spec.handle, reply)

    def is_light(self, key: ModelKey) -> bool:
        """Whether its last load disturbed nobody, and workers can swap."""
        return self._may_swap and key in self._light.known

    def may_swap(self, key: ModelKey, worker: Worker) -> bool:
        """Whether it may come into this worker by a swap: it is up, and the model was light there."""
        places = self._light.known.get(key)
        if places is None or worker.id not in places or worker.id > self._serving:
            return False
        return self._slots[worker.id - 1].worker is worker

    def swapper(self, key: ModelKey) -> Worker | None:
        """Return the worker into which it is best swapped, or None if there is none."""
        places = self._light.known.get(key, NOWHERE)
        loads = [load for load in self._candidates(key) if load.id in places]
        return self._slot_of(place(loads)).worker if loads and self._may_swap else None

    def swap(
        self,
        key: ModelKey,
        path: str,
        reply: LoadReply,
        *,
        files: Files,
        worker: Worker,
        leaving: Sequence[Resident],
        then: Callable[[Swapped | None], None],
    ) -> Resident:
        """Load what is light in the places of idle models that leave with the same order. It may be predicted from now on.

        ``reply`` is what its last load said. ``then`` is called once, later: with what was done, or None if the worker ended.
        """
        slot = self._slots[worker.id - 1]
        handle = next(self._handles)
        after = tuple([resident.handle for resident in leaving])
        spec = LoadSpec(handle, key.name, key.version, path, weight=reply.bytes, files=files, after=after)
        slot.swap_in(reply.bytes)
        resident = Resident(key, worker, handle, reply)
        swapped = asyncio.ensure_future(worker.swap(spec))
        self._swaps.add(swapped, loop_time_s() + self._hang_s, resident)
        swapped.add_done_callback(partial(self._swapped, key, worker, leaving, then))
        return resident

    def _swapped(
        self,
        key: ModelKey,
        worker: Worker,
        leaving: Sequence[Resident],
        then: Callable[[Swapped | None], None],
        swapped: asyncio.Future[Swapped],
    ) -> None:
        self._swaps.drop(swapped)
        if swapped.cancelled() or swapped.exception() is not None:
            then(None)
            _raise_unless_dead(swapped)
            return
        outcome = swapped.result()
        if outcome.are_gone:
            slot = self._slots[worker.id - 1]
            for resident in leaving:
                slot.take_off(worker, resident.reply.bytes)
        if not outcome.is_light:
            self._light.forget(key)
        then(outcome)

    def _swap_hangs(self, swapped: asyncio.Future[Swapped], resident: Resident) -> None:
        resident.worker.give_up(f"the load of {resident.key} took longer than {self._hang_s:g} s")
        swapped.cancel()

    def suits(self, key: ModelKey, worker: int, *, expected_bytes: int = SLIGHT_BYTES + 1) -> bool:
        """Whether this worker is up, and about as good a place for this load as the best; where one is wished for, that one."""
        wished = self.wishes.get(key) if self.wishes else None
        if wished is not None:
            return wished == worker
        loads = self._candidates(key, expected_bytes)
        return bool(loads) and suits(loads, worker)

    def _candidates(self, key: ModelKey, expected_bytes: int = SLIGHT_BYTES + 1) -> Sequence[WorkerLoad]:
        """Return what the workers carry into which it may be loaded."""
        loads: Sequence[WorkerLoad] = self.loads()
        if self.bounds and key in self.bounds:
            may = self.bounds[key]
            loads = [load for load in loads if may(load.id)]
        if key not in self._light.known and not self._light.is_presumed(key, expected_bytes):
            return loads
        return [load for load in loads if load.id <= self._serving] or loads

    def import_ahead(self, imports: Imports) -> None:
        """Have every worker import these modules before a load needs them: now if it is up, or as it comes up."""
        if self._children is not None:
            self._children.import_ahead(imports.shared, own=imports.own)
        for worker in self.workers:
            worker.import_ahead((*imports.shared, *imports.own))

    def trim(self) -> None:
        """Have every worker give back to the system what is free."""
        for worker in self.everyone:
            worker.trim()

    async def unload(self, resident: Resident) -> None:
        """Return when the model's memory was given back; a worker that died has given it back already."""
        given_back = asyncio.Event()
        self.begin_unload(resident, given_back.set)
        await given_back.wait()

    def begin_unload(self, resident: Resident, then: Callable[[], None]) -> None:
        """Unload, and call ``then`` once, when the model's memory was given back or its worker has died or is given up."""
        if resident.is_alone and self.own is not None:
            self.own.begin_unload(resident.worker, resident.handle, then)
            return
        unloading = asyncio.ensure_future(resident.worker.unload(resident.handle))
        self._unloads.add(unloading, loop_time_s() + self._hang_s, resident)
        unloading.add_done_callback(partial(self._unloaded, resident, then))

    def _unloaded(
        self, resident: Resident, then: Callable[[], None], unloading: asyncio.Future[None]
    ) -> None:
        self._unloads.drop(unloading)
        for slot in self._slots:
            if slot.worker is resident.worker:
                slot.take_off(resident.worker, resident.reply.bytes)
                slot.keys.pop(resident.handle, None)
        then()
        _raise_unless_dead(unloading)

    def _hangs(self, unloading: asyncio.Future[None], resident: Resident) -> None:
        resident.worker.give_up(
            f"the unload of {resident.key} took longer than {self._hang_s:g} s", suspects=(resident.handle,)
        )
        unloading.cancel()

    def kill(self) -> None:
        """End every process at once, whatever it is at; none takes its place. ``close`` is still to be called, or goes on."""
        self._supervisor.kill()
        if self.own is not None:
            self.own.kill()

    async def close(self) -> None:
        """Stop every worker. Safe to call twice."""
        await self._supervisor.close()
        if self.own is not None:
            await self.own.close()
        if self._children is not None:
            await self._children.close()

    def _make_own(self, make: MakeWorker, own: OwnProcesses) -> OwnChildren:
        return OwnChildren(
            make,
            own,
            behind=len(self._slots),
            clock=self._clock,
            events=self._events,
            hang_s=self._hang_s,
            on_lost=self._tell_lost,
            on_suspects=self._tell_suspects,
        )

    def _slot_of(self, worker: int) -> Slot:
        for slot in self._slots:
            if slot.worker is not None and slot.worker.id == worker:
                return slot
        raise UnavailableError(f"worker {worker} is not up", kind=ErrorKind.WORKER_DIED)

    async def up(self, wait_s: float = 30.0) -> None:
        """Return when a worker is up.

        Raises:
            UnavailableError: none came up within ``wait_s``.
        """
        if not self.workers:
            await self._supervisor.until(lambda: self.workers, wait_s)

    async def _choose(self, key: ModelKey, expected_bytes: int, wait_s: float) -> Slot:
        loads = self._candidates(key, expected_bytes)
        if not loads:
            await self._supervisor.until(partial(self._candidates, key), wait_s)
            loads = self._candidates(key, expected_bytes)
        return self._slot_of(place(loads))

    def _died(self, slot: Slot, worker: Worker, reason: str) -> None:
        suspects = slot.versions(worker.suspects)
        at = " ".join(map(str, suspects)) or None
        self.on_suspects(suspects, reason)
        self._light.forget_worker(worker.id)
        lost = self.on_lost(worker.id, reason)
        self._events.publish(WorkerDied(worker.id, worker.pid, reason, lost, at))

    def _tell_lost(self, worker: int, reason: str) -> int:
        """To whoever wants to know by then."""
        return self.on_lost(worker, reason)

    def _tell_suspects(self, keys: Sequence[ModelKey], reason: str) -> None:
        self.on_suspects(keys, reason)


def _raise_unless_dead(done: asyncio.Future[Any]) -> None:
    """Raise, to the loop's handler of exceptions, what is a fault of ours and not the end of a worker."""
    error = None if done.cancelled() else done.exception()
    if error is not None and not isinstance(error, WorkerDiedError):
        raise error
