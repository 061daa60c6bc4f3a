"""All workers of a replica: starts them, chooses one for each load, and puts a new one in the place of a dead one.

The residency manager loads and unloads through it; a prediction goes straight to the resident's worker.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import itemgetter
from typing import Final

from hotset.clock import Clock
from hotset.errors import ErrorKind, LoadFailedError, OverloadedError, UnavailableError, WorkerDiedError
from hotset.events import EventBus, WorkerDied, WorkerStarted
from hotset.keys import DiskFile, ModelKey
from hotset.limits import Limits, Waits, loop_time_s
from hotset.payload import Encoded
from hotset.runtimes.ahead import Imports
from hotset.runtimes.options import MODEL_YAML
from hotset.status import WorkerStatus
from hotset.workers.base import LoadReply, LoadSpec, PredictCall, Swapped, Worker
from hotset.workers.forking import ForkServer
from hotset.workers.intact import Files
from hotset.workers.own_children import MakeWorker, NoChildError, OwnChildren, OwnProcesses
from hotset.workers.placement import CallRate, Home, WorkerLoad, place, suits

RESTART_FIRST_S = 0.05
RESTART_MOST_S = 10.0
STEADY_S = 30.0

MOST_LIGHT: Final = 10_000

SLIGHT_BYTES: Final = 64 << 10
"""What weighs no more is taken to be light before its first load here, but where the last ones of this size were not."""

MOST_NOT_LIGHT: Final = 16
"""So many in a row: a process's first loads take longer than others."""


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


@dataclass(slots=True)
class _Slot:
    """One place for a worker; the worker in it changes when it dies."""

    number: int
    worker: Worker | None = None
    started_s: float = 0.0
    deaths_in_a_row: int = 0
    restarts: int = 0
    bytes: int = 0
    models: int = 0
    loading: int = 0
    loaded: int = 0
    rate: CallRate = field(default_factory=CallRate)
    keys: dict[int, ModelKey] = field(default_factory=dict)
    """What is in the worker, or on its way there, by handle."""

    def come_up(self, worker: Worker, now_s: float) -> None:
        """A new worker is in this place, with nothing in it."""
        self.worker, self.started_s = worker, now_s
        self.bytes = self.models = self.loading = self.loaded = 0
        self.rate = CallRate()
        self.keys = {}


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
        self._make = make
        self._clock = clock
        self._events = events
        self._hang_s = hang_s
        self._children = children
        self.on_lost = on_lost
        self.on_suspects = on_suspects
        self._sleep = sleep
        least = 0 if own is not None and own.rule.everyone else 1
        self._slots = [_Slot(number) for number in range(1, max(least, count) + 1)]
        self.own: Final = self._make_own(own) if own is not None else None
        self._own_from = own.rule.least_bytes if own is not None else math.inf
        self._has_keepers = own is not None and own.keeps_memory is not None
        self._serving = serving if serving is not None else len(self._slots)
        self._may_swap = may_swap
        self._light: dict[ModelKey, frozenset[int]] = {}
        """What was light when it was loaded last, and in which workers it was."""
        self._not_light_in_a_row = 0 if presumes_light else MOST_NOT_LIGHT
        self._not_light: set[ModelKey] = set()
        """What is as small, and was not light."""
        self._handles = itertools.count(1)
        self._restarts: set[asyncio.Task[None]] = set()
        self._opening: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._wanted = asyncio.Event()
        self._closing = False
        self._leaving: tuple[Worker, ...] = ()
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
        return tuple(slot.worker for slot in self._slots if slot.worker is not None)

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
        return tuple([_load_of(slot, slot.worker, now_s) for slot in self._slots if slot.worker is not None])

    def statuses(self) -> tuple[WorkerStatus, ...]:
        """What the status page shows, one for each place, and one for each child that holds one model alone."""
        shared = tuple(
            WorkerStatus(
                id=slot.number,
                alive=slot.worker is not None,
                pid=slot.worker.pid if slot.worker is not None else None,
                models=slot.models,
                queued=slot.worker.queued if slot.worker is not None else 0,
                restarts=slot.restarts,
                stuck=slot.worker.stuck if slot.worker is not None else 0,
            )
            for slot in self._slots
        )
        return shared if self.own is None else (*shared, *self.own.statuses())

    @property
    def is_starting(self) -> bool:
        """Whether all workers have yet to come up for the first time, and none has failed to."""
        is_opening = self._opening is not None and not self._opening.done()
        return is_opening and not any(slot.deaths_in_a_row for slot in self._slots)

    def open(self, after: Awaitable[object]) -> None:
        """Have every worker start in the background: after ``after``, or at once when a load needs one.

        A start that fails is tried again, as that of a replacement is. Instead of ``start``.
        """
        self._opening = asyncio.create_task(self._start_all(after), name="start workers")
        self._restarts.add(self._opening)
        self._opening.add_done_callback(self._restarts.discard)

    async def start(self) -> None:
        """Return when every worker is ready.

        Raises:
            ConfigError: the predictor file does not fit.
            WorkerDiedError: a child did not start; none is left behind.
        """
        if self.own is not None and not self._slots:
            await self.own.probe()
        starts = [asyncio.create_task(self._start(slot)) for slot in self._slots]
        try:
            await asyncio.gather(*starts)
        except BaseException:
            for start in starts:
                start.cancel()
            await asyncio.gather(
                *starts, return_exceptions=True
            )  # one that came up after `close` would be left
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
        if (expected_bytes > self._own_from or self._has_keepers) and (worker is None or after):
            spec = LoadSpec(0, key.name, key.version, path, weight=weight, files=files, after=after)
            resident = await self._load_alone(key, spec, expected_bytes, wait_s)
            if resident is not None:
                return resident
        is_slight = expected_bytes <= SLIGHT_BYTES
        slot = await self._choose(key, wait_s, is_slight) if worker is None else self._slot_of(worker)
        chosen = slot.worker
        assert chosen is not None
        handle = next(self._handles)
        spec = LoadSpec(handle, key.name, key.version, path, weight=weight, files=files, after=after)
        slot.models += 1
        slot.loading += 1
        slot.bytes += expected_bytes
        slot.keys[handle] = key
        try:
            with self._limits.within(self._hang_s):
                reply = await chosen.load(spec)
        except TimeoutError as error:
            self._take_off(slot, chosen, expected_bytes)
            chosen.give_up(f"the load of {key} took longer than {self._hang_s:g} s", suspects=(handle,))
            raise LoadFailedError(
                f"{key} was not loaded within {self._hang_s:g} s; mend its load, or raise load_timeout"
            ) from error
        except BaseException as error:
            self._take_off(slot, chosen, expected_bytes)
            if isinstance(error, WorkerDiedError):
                error.is_suspect = not chosen.suspects or handle in chosen.suspects
            else:
                slot.keys.pop(handle, None)
            raise
        finally:
            if slot.worker is chosen:
                slot.loading -= 1
        if slot.worker is chosen:
            slot.loaded += 1
            slot.bytes += reply.bytes - expected_bytes
        self._note(key, chosen.id, is_light=reply.is_light)
        if is_slight:
            self._note_slight(key, is_light=reply.is_light)
        return Resident(key, chosen, spec.handle, reply)

    async def _load_alone(
        self, key: ModelKey, spec: LoadSpec, expected_bytes: int, wait_s: float
    ) -> Resident | None:
        """Load into a child of its own; None if the model is to share one."""
        own = self.own
        assert own is not None
        if expected_bytes <= self._own_from and MODEL_YAML not in map(_path, spec.files or ()):
            return None  # nothing names a device that it could keep memory of
        place = await own.home(spec.path, spec.files, expected_bytes)
        if place is Home.SHARED:
            return None
        if spec.after:
            raise OverloadedError(
                f"{key} gets a child of its own, and its room has to be there before", kind=ErrorKind.NO_ROOM
            )
        if place is Home.FULL:
            await own.room(key, wait_s)
        spec = replace(spec, handle=next(self._handles))
        try:
            worker, reply = await own.load(key, spec)
        except NoChildError as error:
            if self._slots:
                return None  # better beside others than not at all
            raise UnavailableError(
                f"no child process could be started for {key}: {error}", kind=ErrorKind.WORKER_DIED
            ) from error
        return Resident(key, worker, spec.handle, reply, is_alone=True)

    def is_light(self, key: ModelKey) -> bool:
        """Whether its last load disturbed nobody, and workers can swap."""
        return self._may_swap and key in self._light

    def may_swap(self, key: ModelKey, worker: Worker) -> bool:
        """Whether it may come into this worker by a swap: it is up, and the model was light there."""
        places = self._light.get(key)
        if places is None or worker.id not in places or worker.id > self._serving:
            return False
        return self._slots[worker.id - 1].worker is worker

    def swapper(self, key: ModelKey) -> Worker | None:
        """Return the worker into which it is best swapped, or None if there is none."""
        loads = [load for load in self._candidates(key) if load.id in self._light.get(key, ())]
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
        slot.models += 1
        slot.loaded += 1
        slot.bytes += reply.bytes
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
        error = None if swapped.cancelled() else swapped.exception()
        outcome = None if swapped.cancelled() or error is not None else swapped.result()
        if outcome is not None and outcome.are_gone:
            slot = self._slots[worker.id - 1]
            for resident in leaving:
                self._take_off(slot, worker, resident.reply.bytes)
        if outcome is not None and not outcome.is_light:
            self._light.pop(key, None)
        then(outcome)
        if error is not None and not isinstance(error, WorkerDiedError):
            raise error  # to the loop's handler of exceptions: a fault of ours

    def _swap_hangs(self, swapped: asyncio.Future[Swapped], resident: Resident) -> None:
        resident.worker.give_up(f"the load of {resident.key} took longer than {self._hang_s:g} s")
        swapped.cancel()

    def suits(self, key: ModelKey, worker: int, *, expected_bytes: int = SLIGHT_BYTES + 1) -> bool:
        """Whether this worker is up, and about as good a place for this load as the best; where one is wished for, that one."""
        wished = self.wishes.get(key) if self.wishes else None
        if wished is not None:
            return wished == worker
        loads = self._candidates(key, is_slight=expected_bytes <= SLIGHT_BYTES)
        return bool(loads) and suits(loads, worker)

    def _candidates(self, key: ModelKey, *, is_slight: bool = False) -> Sequence[WorkerLoad]:
        """Return what the workers carry into which it may be loaded."""
        loads: Sequence[WorkerLoad] = self.loads()
        if self.bounds and key in self.bounds:
            may = self.bounds[key]
            loads = [load for load in loads if may(load.id)]
        if key not in self._light and not (is_slight and self._is_presumed_light(key)):
            return loads
        return [load for load in loads if load.id <= self._serving] or loads

    def _note(self, key: ModelKey, worker: int, *, is_light: bool) -> None:
        """Remember whether a load disturbed anybody."""
        if not is_light:
            self._light.pop(key, None)
            return
        places = self._light.get(key, frozenset())
        if worker not in places:
            if len(self._light) >= MOST_LIGHT:
                self._light.clear()
            self._light[key] = places | {worker}

    def _is_presumed_light(self, key: ModelKey) -> bool:
        """Else a store of small models would be spread over all workers for good, if it fits into memory."""
        return self._not_light_in_a_row < MOST_NOT_LIGHT and key not in self._not_light

    def _note_slight(self, key: ModelKey, *, is_light: bool) -> None:
        self._not_light_in_a_row = 0 if is_light else self._not_light_in_a_row + 1
        if is_light:
            self._not_light.discard(key)
            return
        if len(self._not_light) >= MOST_LIGHT:
            self._not_light.clear()
        self._not_light.add(key)

    def _forget_light_in(self, worker: int) -> None:
        self._light = {key: places - {worker} for key, places in self._light.items() if places != {worker}}

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
        error = None if unloading.cancelled() else unloading.exception()
        for slot in self._slots:
            if slot.worker is resident.worker:
                self._take_off(slot, resident.worker, resident.reply.bytes)
                slot.keys.pop(resident.handle, None)
        then()
        if error is not None and not isinstance(error, WorkerDiedError):
            raise error  # to the loop's handler of exceptions: a fault of ours

    def _hangs(self, unloading: asyncio.Future[None], resident: Resident) -> None:
        resident.worker.give_up(
            f"the unload of {resident.key} took longer than {self._hang_s:g} s", suspects=(resident.handle,)
        )
        unloading.cancel()

    def kill(self) -> None:
        """End every process at once, whatever it is at; none takes its place. ``close`` is still to be called, or goes on."""
        self._closing = True
        for worker in (*self.workers, *self._leaving):
            worker.kill()
        if self.own is not None:
            self.own.kill()

    async def close(self) -> None:
        """Stop every worker. Safe to call twice."""
        self._closing = True
        for task in self._restarts:
            task.cancel()
        await asyncio.gather(*self._restarts, return_exceptions=True)
        workers = self._leaving = self.workers
        for slot in self._slots:
            slot.worker = None
        await asyncio.gather(*(worker.close() for worker in workers))
        if self.own is not None:
            await self.own.close()
        if self._children is not None:
            await self._children.close()

    def _make_own(self, own: OwnProcesses) -> OwnChildren:
        return OwnChildren(
            self._make,
            own,
            behind=len(self._slots),
            clock=self._clock,
            events=self._events,
            hang_s=self._hang_s,
            on_lost=lambda worker, reason: self.on_lost(worker, reason),  # noqa: PLW0108 - the manager sets it later
            on_suspects=lambda keys, reason: self.on_suspects(keys, reason),  # noqa: PLW0108 - as above
        )

    def _slot_of(self, worker: int) -> _Slot:
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
            await self._until_one_is_up(wait_s)

    async def _choose(self, key: ModelKey, wait_s: float, is_slight: bool) -> _Slot:
        loads = self._candidates(key, is_slight=is_slight)
        if not loads:
            await self._until_one_is_up(wait_s, key)
            loads = self._candidates(key, is_slight=is_slight)
        return self._slot_of(place(loads))

    async def _until_one_is_up(self, wait_s: float, key: ModelKey | None = None) -> None:
        try:
            async with asyncio.timeout(wait_s):
                while not (self.workers if key is None else self._candidates(key)):
                    self._wanted.set()
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError as error:
            raise UnavailableError(
                f"no worker came up within {wait_s:g} s", kind=ErrorKind.WORKER_DIED
            ) from error

    async def _start(self, slot: _Slot) -> None:
        began_s = self._clock.monotonic()
        worker: Worker = self._make(slot.number, lambda reason: self._died(slot, worker, reason))
        try:
            await worker.start()
        except BaseException:
            await worker.close()
            raise
        slot.come_up(worker, self._clock.monotonic())
        self._changed.set()
        self._events.publish(WorkerStarted(worker.id, worker.pid, slot.started_s - began_s))

    def _died(self, slot: _Slot, worker: Worker, reason: str) -> None:
        if slot.worker is not worker or self._closing:
            return  # it died while it started or stopped: whoever started or stopped it is told
        slot.worker = None
        slot.restarts += 1
        slot.bytes = slot.models = 0
        steady = self._clock.monotonic() - slot.started_s >= STEADY_S
        slot.deaths_in_a_row = 0 if steady else slot.deaths_in_a_row + 1
        # A handler of the user's has a handle too, and is no model.
        suspects = sorted({slot.keys[handle] for handle in worker.suspects if handle in slot.keys})
        at = " ".join(map(str, suspects)) or None
        self.on_suspects(suspects, reason)
        self._forget_light_in(worker.id)  # the next one has loaded nothing yet
        lost = self.on_lost(worker.id, reason)
        self._events.publish(WorkerDied(worker.id, worker.pid, reason, lost, at))
        task = asyncio.create_task(self._replace(slot, worker), name=f"replace worker {worker.id}")
        self._restarts.add(task)
        task.add_done_callback(self._restarts.discard)

    async def _replace(self, slot: _Slot, dead: Worker) -> None:
        await dead.close()
        await self._bring_up(slot)

    async def _start_all(self, after: Awaitable[object]) -> None:
        signs = {asyncio.ensure_future(after), asyncio.create_task(self._wanted.wait())}
        try:
            await asyncio.wait(signs, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for sign in signs:
                sign.cancel()
        await asyncio.gather(*map(self._bring_up, self._slots))

    async def _bring_up(self, slot: _Slot) -> None:
        while slot.worker is None:
            await self._sleep(restart_after_s(slot.deaths_in_a_row))
            try:
                await self._start(slot)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told, and tried again later
                slot.deaths_in_a_row += 1
                self._events.publish(WorkerDied(slot.number, None, f"did not start: {error}", 0))

    def _take_off(self, slot: _Slot, worker: Worker, weight: int) -> None:
        if slot.worker is worker:
            slot.models -= 1
            slot.bytes -= weight


def _load_of(slot: _Slot, worker: Worker, now_s: float) -> WorkerLoad:
    # The first call after a load has waited for it anyway.
    calls_per_s = slot.rate.at(now_s, worker.calls - slot.loaded)
    return WorkerLoad(worker.id, slot.bytes, slot.models, worker.queued, slot.loading, calls_per_s)


_path: Final[Callable[[DiskFile], str]] = itemgetter(0)


def restart_after_s(deaths_in_a_row: int) -> float:
    """Return the pause before a dead worker is replaced: none after a steady life, then doubling."""
    if deaths_in_a_row <= 1:
        return 0.0
    return float(min(RESTART_MOST_S, RESTART_FIRST_S * 2.0 ** min(deaths_in_a_row - 1, 30)))
