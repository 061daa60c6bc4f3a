"""Children that hold one model each: started for its load, ended by its unload, which gives all of its memory back.

The worker pool asks it before each load that may be of that kind; ``placement`` settles whether the model is to live alone.
It chooses no model and no time, and never starts one anew by itself: when one dies, only its model is lost, and whoever
needs that loads it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import psutil

from hotset.clock import Clock
from hotset.errors import ErrorKind, LoadFailedError, OverloadedError, UnavailableError, WorkerDiedError
from hotset.events import EventBus, WorkerDied, WorkerStarted
from hotset.keys import ModelKey
from hotset.limits import Limits
from hotset.runtimes.options import MODEL_YAML
from hotset.status import WorkerStatus
from hotset.workers.base import LoadReply, LoadSpec, MakeWorker, Worker
from hotset.workers.intact import Files
from hotset.workers.placement import Home, OwnRule, home

KeepsMemory = Callable[[str, Files], Awaitable[bool]]
"""Whether what lies in this directory, with these files, keeps memory until its process ends."""


@dataclass(frozen=True, slots=True)
class OwnProcesses:
    """Which models get a process of their own, and how. ``keeps_memory`` is None where nothing could keep any;
    ``prepare`` hears what files the next child is for.
    """

    rule: OwnRule
    keeps_memory: KeepsMemory | None = None
    prepare: Callable[[Files], None] = lambda _files: None


LOOK_S: Final = 0.1
"""Who waits for a child looks so often whether a model has become idle."""


class _NoChildError(Exception):
    """A child of its own could not be started; the model is not to blame. The text says why."""


class Alone(NamedTuple):
    """A model that has a worker to itself."""

    worker: Worker
    reply: LoadReply


@dataclass(slots=True)
class _Child:
    """One child. ``worker`` is None until it is up, and again once it is gone."""

    number: int
    key: ModelKey
    worker: Worker | None = None


class OwnChildren:
    """Owned by the event loop. For each model: ``load``; ``begin_unload`` once, unless its child dies. ``close`` last."""

    def __init__(
        self,
        make: MakeWorker,
        own: OwnProcesses,
        *,
        behind: int,
        clock: Clock,
        events: EventBus,
        hang_s: float,
        on_lost: Callable[[int, str], int],
        on_suspects: Callable[[Sequence[ModelKey], str], None] = lambda _keys, _reason: None,
        weigh: Callable[[int | None], int | None] | None = None,
    ) -> None:
        """Their workers' ids begin ``behind`` those of the shared ones, of which there are so many.

        ``weigh`` returns what the process of that id has for itself alone, in bytes, or None if nobody can tell.
        """
        self._make = make
        self._own = own
        self._rule = own.rule
        self._least_bytes = own.rule.least_bytes
        self._behind = behind
        self._clock = clock
        self._events = events
        self._hang_s = hang_s
        self._on_lost = on_lost
        self._on_suspects = on_suspects
        self._weigh = weigh if weigh is not None else unique_bytes
        self._limits = Limits()
        self._children: dict[int, _Child] = {}
        self.bounds: Mapping[ModelKey, Callable[[int], bool]] = {}
        """Which ids the worker of a version may have, where not all will do: those bound to a certain device."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._closing = False
        self._waiting = 0
        self._ending = 0
        self.make_room: Callable[[], bool] = lambda: False
        """Have the one of them leave whose model was not used for longest; False if all are in use."""

    @property
    def workers(self) -> tuple[Worker, ...]:
        """Those that are up."""
        return tuple(child.worker for child in self._children.values() if child.worker is not None)

    def __len__(self) -> int:
        """How many there are, those included that start or end."""
        return len(self._children)

    def is_up(self, worker: Worker) -> bool:
        """Whether this is one of ours, and lives."""
        child = self._children.get(worker.id)
        return child is not None and child.worker is worker

    def statuses(self) -> tuple[WorkerStatus, ...]:
        return tuple(
            WorkerStatus(
                id=child.number,
                alive=child.worker is not None,
                pid=child.worker.pid if child.worker is not None else None,
                models=int(child.worker is not None),
                queued=child.worker.queued if child.worker is not None else 0,
                model=str(child.key),
            )
            for child in self._children.values()
        )

    def may_be_for(self, expected_bytes: int) -> bool:
        """Whether a model that weighs so much could get a child of its own: if not, ``load`` need not be asked."""
        return expected_bytes > self._least_bytes or self._own.keeps_memory is not None

    async def load(self, key: ModelKey, spec: LoadSpec, expected_bytes: int, wait_s: float) -> Alone | None:
        """Load into a child of its own a model that gets one; None, and nothing was done, if it is to share a worker.

        Raises:
            LoadFailedError, WorkerDiedError: as in ``Worker``.
            UnavailableError: no child could be started, and there are no shared ones.
            OverloadedError: all of them were in use for ``wait_s``; or it was to come ``after`` others, which is no use to it.
        """
        place = await self._home(spec, expected_bytes)
        if place is Home.SHARED:
            return None
        if spec.after:
            raise OverloadedError(
                f"{key} gets a child of its own, and its room has to be there before", kind=ErrorKind.NO_ROOM
            )
        if place is Home.FULL:
            await self._room(key, wait_s)
        try:
            return await self._load(key, spec)
        except _NoChildError as error:
            if self._behind:
                return None  # better beside others than not at all
            raise UnavailableError(
                f"no child process could be started for {key}: {error}", kind=ErrorKind.WORKER_DIED
            ) from error

    async def probe(self) -> None:
        """Start one and end it, to find out whether one can be started.

        Raises:
            ConfigError: the predictor file does not fit.
            WorkerDiedError: it did not start.
        """
        worker = self._make(self._behind + 1, lambda _reason: None)
        try:
            await worker.start()
        finally:
            await worker.close()

    def begin_unload(self, worker: Worker, handle: int, then: Callable[[], None]) -> None:
        """Unload the model and end its child; call ``then`` once, when the process is gone."""
        self._ending += 1
        self._spawn(self._unload(worker, handle, then), f"unload with worker {worker.id}")

    def kill(self) -> None:
        """End their processes at once; none takes their place. ``close`` is still to be called."""
        self._closing = True
        for worker in self.workers:
            worker.kill()

    async def close(self) -> None:
        """End all of them. Safe to call twice."""
        self._closing = True
        await asyncio.gather(*(worker.close() for worker in self.workers))
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # Which models

    async def _home(self, spec: LoadSpec, expected_bytes: int) -> Home:
        """Return where a model goes now."""
        files = spec.files or ()
        if expected_bytes <= self._least_bytes and not any(file.path == MODEL_YAML for file in files):
            return Home.SHARED  # nothing names a device that it could keep memory of
        keeps = self._own.keeps_memory is not None and await self._own.keeps_memory(spec.path, files)
        return home(self._rule, expected_bytes=expected_bytes, keeps_memory=keeps, running=len(self))

    async def _room(self, key: ModelKey, wait_s: float) -> None:
        """Return when there may be one more.

        Raises:
            OverloadedError: all of them are in use.
        """
        self._waiting += 1
        try:
            async with asyncio.timeout(wait_s):
                while len(self) >= self._rule.most:
                    if self._ending < self._waiting:
                        self.make_room()
                    await self._change(LOOK_S)
        except TimeoutError as error:
            raise OverloadedError(
                f"no child process for {key}: expected at most {self._rule.most} that hold one model alone "
                f"(max_own_processes), found as many in use for {wait_s:g} s",
                kind=ErrorKind.NO_ROOM,
            ) from error
        finally:
            self._waiting -= 1

    # Life of one

    async def _load(self, key: ModelKey, spec: LoadSpec) -> Alone:
        """Start a child and load into it. The weight is that of the whole process, as far as it shares it with none.

        Raises:
            _NoChildError: none could be started.
            LoadFailedError: the runtime's reason, or it took too long.
            WorkerDiedError: it ended while it loaded.
        """
        child = _Child(self._free_number(key), key)
        self._children[child.number] = child
        try:
            worker = await self._started(child, spec.files or ())
            reply = await self._loaded(worker, key, spec)
            unique = await asyncio.to_thread(self._weigh, worker.pid)
            if not self.is_up(worker):
                raise WorkerDiedError(f"the worker process ended just after it loaded {key}")
        except BaseException:
            await asyncio.shield(self._spawn(self._end(child), f"end the child of {key}"))
            raise
        if unique is None:
            return Alone(worker, reply)
        return Alone(worker, replace(reply, bytes=max(unique, reply.bytes), is_estimate=False))

    async def _started(self, child: _Child, files: Files) -> Worker:
        began_s = self._clock.monotonic()
        self._own.prepare(files)
        worker: Worker = self._make(child.number, lambda reason: self._died(child, worker, reason))
        try:
            await worker.start()
        except WorkerDiedError as error:
            self._events.publish(WorkerDied(child.number, None, f"did not start: {error}", 0))
            raise _NoChildError(str(error)) from error
        child.worker = worker
        if self._closing:
            raise _NoChildError("the server stops")
        took_s = self._clock.monotonic() - began_s
        self._events.publish(WorkerStarted(child.number, worker.pid, took_s, child.key))
        return worker

    async def _loaded(self, worker: Worker, key: ModelKey, spec: LoadSpec) -> LoadReply:
        try:
            with self._limits.within(self._hang_s):
                return await worker.load(spec)
        except TimeoutError as error:
            worker.give_up(f"the load of {key} took longer than {self._hang_s:g} s", suspects=(spec.handle,))
            raise LoadFailedError(
                f"{key} was not loaded within {self._hang_s:g} s; mend its load, or raise load_timeout"
            ) from error

    async def _unload(self, worker: Worker, handle: int, then: Callable[[], None]) -> None:
        """The model's own hook first, then the process."""
        child = self._children.get(worker.id)
        try:
            async with asyncio.timeout(self._hang_s):
                await worker.unload(handle)
        except TimeoutError:
            worker.give_up(f"its unload took longer than {self._hang_s:g} s")
        except WorkerDiedError:
            pass  # it has given everything back
        finally:
            if child is not None and child.worker is worker:
                await self._end(child)
            else:
                await worker.close()
            self._ending -= 1
            then()

    async def _end(self, child: _Child) -> None:
        worker, child.worker = child.worker, None
        if worker is not None:
            await worker.close()
        self._gone(child)

    def _died(self, child: _Child, worker: Worker, reason: str) -> None:
        if child.worker is not worker or self._closing:
            return  # whoever ends it is told
        child.worker = None
        suspects = (child.key,) if worker.suspects else ()
        self._on_suspects(suspects, reason)
        lost = self._on_lost(child.number, reason)
        at = str(child.key) if suspects else None
        self._events.publish(WorkerDied(child.number, worker.pid, reason, lost, at))
        self._spawn(self._clear_away(child, worker), f"clear away worker {child.number}")

    async def _clear_away(self, child: _Child, worker: Worker) -> None:
        await worker.close()
        self._gone(child)

    def _gone(self, child: _Child) -> None:
        """Its number is free for another."""
        if self._children.get(child.number) is child:
            del self._children[child.number]
            self._changed.set()

    async def _change(self, limit_s: float) -> None:
        """Return when one is gone, or after a while: nobody tells when a model is idle that could make room."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._changed.wait()

    def _free_number(self, key: ModelKey) -> int:
        """The lowest, so that metrics do not get a new label with each load."""
        may = self.bounds.get(key)
        numbers = itertools.count(self._behind + 1)
        return next(
            number for number in numbers if number not in self._children and (may is None or may(number))
        )

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def unique_bytes(pid: int | None) -> int | None:
    """Return the memory that a process shares with no other (its unique set size), or None if the system does not tell."""
    if pid is None:
        return None
    try:
        unique: int = psutil.Process(pid).memory_full_info().uss
    except (psutil.Error, OSError, AttributeError):
        return None
    return unique
