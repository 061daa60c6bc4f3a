"""The threads that load and unload, in a child or a thread worker: never a predict thread.

Loads run in a few threads side by side. Unloads have a thread of their own, so that memory comes back while loads
go on. Dropping a model is quick; collecting and trimming the heap is not, and ``reclaim`` decides when it is due.
What is light is loaded and unloaded by the very thread that asks, where that is allowed (``light.py`` says why).
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from hotset.errors import ErrorKind, HotsetError, OverloadedError, WorkerDiedError
from hotset.runtimes.reason import load_failure
from hotset.workers.base import LoadReply, LoadSpec
from hotset.workers.board import Board
from hotset.workers.held import Held
from hotset.workers.host import Host
from hotset.workers.imports import imports, is_deadlock
from hotset.workers.reclaim import QUIET_S

_logger: Final = logging.getLogger(__name__)

_MOST_DEADLOCKS: Final = 3

_NO_MODEL: Final = -1
"""No handle."""

LoadDone: TypeAlias = Callable[[LoadReply | HotsetError], None]
UnloadDone: TypeAlias = Callable[[], None]


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A load that has the room of models that are not gone yet."""

    models: set[int]
    spec: LoadSpec
    done: LoadDone


@dataclass(frozen=True, slots=True)
class _Leaving:
    """A model that no prediction uses any more; None if there was none of that handle."""

    handle: int
    held: Held | None
    done: UnloadDone


class LoadThreads:
    """Daemon threads over one host.

    Thread-safe. Legal order: ``start``; any ``load`` and ``unload``; ``close`` once.
    """

    def __init__(
        self,
        host: Host,
        *,
        parallel_loads: int,
        busy: Callable[[bool], None] = lambda _: None,
        prepare: Callable[[], None] = lambda: None,
        at_once: bool = False,
        now: Callable[[], float] = time.monotonic,
        board: Board | None = None,
    ) -> None:
        """``busy`` hears when the first of several loads begins and the last ends; ``prepare`` runs in each thread.

        With ``at_once``, the thread that asks loads and unloads light models itself. ``board`` is told what is being loaded.
        """
        self._host = host
        self._busy = busy
        self._prepare = prepare
        self._at_once = at_once
        self._board = board or Board.of_this_process(0)
        self._now = now
        self._loading = 0
        self._leaving: dict[int, bool] = {}
        """Models whose unload was asked for and has not ended; whether nobody uses them any more."""
        self._waiting: list[_Waiting] = []
        self._lock = threading.Lock()
        self._loads: queue.SimpleQueue[tuple[LoadSpec, LoadDone] | None] = queue.SimpleQueue()
        self._idle: queue.SimpleQueue[_Leaving | None] = queue.SimpleQueue()
        self._closing = False
        self._loaders = [
            threading.Thread(target=self._run_loads, name=f"hotset-load-{number}", daemon=True)
            for number in range(parallel_loads)
        ]
        self._unloader = threading.Thread(target=self._run_unloads, name="hotset-unload", daemon=True)

    def start(self) -> None:
        for thread in (*self._loaders, self._unloader):
            thread.start()

    def load(self, spec: LoadSpec, done: LoadDone) -> None:
        """Load ``spec``, in a thread if it is not light, and call ``done`` there with the reply or the error.

        Not before those are gone that it comes ``after``; while one of them is in use it is refused (``OverloadedError``), as
        that may take any time.
        """
        if spec.after and self._has_to_wait(spec, done):
            return
        if not (self._at_once and self._host.is_light(spec) and self._load_at_once(spec, done)):
            self._loads.put((spec, done))

    def unload(self, handle: int, done: UnloadDone) -> None:
        """Unload once no prediction uses the model, and call ``done`` when its memory was given back."""
        asked_in = threading.get_ident()
        with self._lock:
            self._leaving[handle] = False
        self._host.retire(handle, lambda held: self._leave(_Leaving(handle, held, done), asked_in))
        if self._waiting and self._leaving.get(handle) is False:
            self._refuse_waiting(handle)

    def trim(self) -> None:
        """Give free memory back to the system, behind the unloads that were asked for."""
        self._idle.put(_Leaving(_NO_MODEL, None, self._host.trim))

    def close(self, limit_s: float) -> bool:
        """Let loads that run end, refuse those queued, unload all that is idle, and end the threads.

        Blocks, ``limit_s`` at most; False if a load or a prediction went on longer, whose model then stays.
        """
        end = self._now() + limit_s
        self._closing = True
        self._refuse_waiting(None)
        for _ in self._loaders:
            self._loads.put(None)
        for thread in self._loaders:
            thread.join(max(0.0, end - self._now()))
        unloaded = queue.SimpleQueue[None]()
        handles = self._host.handles()
        for handle in handles:
            self.unload(handle, lambda: unloaded.put(None))
        with contextlib.suppress(queue.Empty):
            for _ in handles:
                unloaded.get(timeout=max(0.0, end - self._now()))
        self._idle.put(None)
        self._unloader.join(max(0.0, end - self._now()))
        return not any(thread.is_alive() for thread in (*self._loaders, self._unloader))

    def _has_to_wait(self, spec: LoadSpec, done: LoadDone) -> bool:
        """Whether it is not to be loaded now: it waits, or was refused."""
        with self._lock:
            models = {model for model in spec.after if model in self._leaving or self._host.holds(model)}
            is_in_use = any(self._leaving.get(model) is False for model in models)
            if models and not is_in_use:
                self._waiting.append(_Waiting(models, spec, done))
        if is_in_use:
            done(_in_use(spec))
        return bool(models)

    def _refuse_waiting(self, model: int | None) -> None:
        """Refuse the loads that wait for this model, which is in use; None: all that wait, as this is the end."""
        with self._lock:
            refused = [load for load in self._waiting if model is None or model in load.models]
            self._waiting = [load for load in self._waiting if load not in refused]
        for load in refused:
            load.done(WorkerDiedError("the worker is closing") if model is None else _in_use(load.spec))

    def _load_at_once(self, spec: LoadSpec, done: LoadDone) -> bool:
        try:
            reply = self._load(spec)
        except HotsetError:
            return False  # a thread has the time to find out whether it is the version's fault
        done(reply)
        return True

    def _leave(self, model: _Leaving, asked_in: int) -> None:
        """Unload it, or have it unloaded. This is the thread that asked, or the one of the last prediction."""
        held = model.held
        with self._lock:
            self._leaving[model.handle] = True
        if held is None or not (self._at_once and held.is_plain and threading.get_ident() == asked_in):
            self._idle.put(model)
            return
        self._host.release(held)
        self._left(model)

    def _left(self, model: _Leaving) -> None:
        """Tell that it is gone, and then load what comes behind it."""
        model.done()
        with self._lock:
            self._leaving.pop(model.handle, None)
            if not self._waiting:
                return
            for load in self._waiting:
                load.models.discard(model.handle)
            ready = [load for load in self._waiting if not load.models]
            self._waiting = [load for load in self._waiting if load.models]
        for load in ready:
            self._loads.put((load.spec, load.done))

    def _run_loads(self) -> None:
        self._prepare()
        while (order := self._loads.get()) is not None:
            spec, done = order
            self._count(1)
            try:
                done(self._loaded(spec))
            finally:
                self._count(-1)

    def _loaded(self, spec: LoadSpec) -> LoadReply | HotsetError:
        if self._closing:
            return WorkerDiedError("the worker is closing")
        imports.wait()
        outcome = self._attempt(spec)
        for _ in range(_MOST_DEADLOCKS):
            if not (isinstance(outcome, HotsetError) and is_deadlock(outcome)):
                break
            outcome = self._attempt(spec)  # the other thread goes on, as this one has given way
        return outcome

    def _attempt(self, spec: LoadSpec) -> LoadReply | HotsetError:
        try:
            return self._load(spec)
        except HotsetError as error:
            return error
        except BaseException as error:
            _logger.exception("load of %s@%d failed", spec.name, spec.version)
            return load_failure("the load raised", error)

    def _load(self, spec: LoadSpec) -> LoadReply:
        with self._board.loading(spec.handle, now=self._now):
            return self._host.load(spec)

    def _count(self, change: int) -> None:
        with self._lock:
            before = self._loading
            self._loading += change
            if not before or not self._loading:
                self._busy(self._loading > 0)

    def _run_unloads(self) -> None:
        self._prepare()
        going_on = True
        while going_on:
            try:
                orders = [self._idle.get(timeout=QUIET_S if self._at_once or self._host.owes else None)]
            except queue.Empty:
                self._reclaim()
                continue
            while not self._idle.empty():
                orders.append(self._idle.get())
            going_on = None not in orders
            self._unload_all([order for order in orders if order is not None])

    def _reclaim(self) -> None:
        """Reclaim what is owed: nobody asked for a while, but what is light may have been unloaded meanwhile."""
        if self._host.owes:
            self._host.reclaim(quiet=self._now() - self._host.released_s >= QUIET_S)

    def _unload_all(self, models: list[_Leaving]) -> None:
        held = [model.held for model in models if model.held is not None]
        for one in held:
            self._host.release(one)
        if held:
            self._host.reclaim(quiet=False)
        for model in models:
            self._left(model)


def _in_use(spec: LoadSpec) -> OverloadedError:
    return OverloadedError(
        f"a model whose room {spec.name}@{spec.version} was to have is still in use: expected it to be idle",
        kind=ErrorKind.NO_ROOM,
    )
