"""Keeps every shared worker up: starts them, and puts a new one in the place of one that died, later each time it dies young.

The pool makes it and reads its slots. It loads nothing, and never chooses where a model goes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from hotset.clock import Clock
from hotset.errors import ErrorKind, UnavailableError
from hotset.events import EventBus, WorkerDied, WorkerStarted
from hotset.workers.base import MakeWorker, Worker
from hotset.workers.slot import Slot

RESTART_FIRST_S: Final = 0.05
RESTART_MOST_S: Final = 10.0


class Supervisor:
    """Owned by the event loop. ``start`` or ``open``; any ``until``; ``kill`` if there is no time; ``close``."""

    def __init__(
        self,
        make: MakeWorker,
        slots: Sequence[Slot],
        *,
        clock: Clock,
        events: EventBus,
        on_death: Callable[[Slot, Worker, str], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``on_death`` hears of a worker that died, once it is out of its slot and before another is made, and publishes that."""
        self._make = make
        self._slots = slots
        self._clock = clock
        self._events = events
        self._on_death = on_death
        self._sleep = sleep
        self._restarts: set[asyncio.Task[None]] = set()
        self._opening: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._wanted = asyncio.Event()
        self._closing = False
        self._leaving: tuple[Worker, ...] = ()

    @property
    def workers(self) -> tuple[Worker, ...]:
        """Those that are up."""
        return tuple(slot.worker for slot in self._slots if slot.worker is not None)

    @property
    def is_starting(self) -> bool:
        """Whether all workers have yet to come up for the first time, and none has failed to."""
        is_opening = self._opening is not None and not self._opening.done()
        return is_opening and not any(slot.deaths_in_a_row for slot in self._slots)

    def open(self, after: Awaitable[object]) -> None:
        """Have every worker start in the background: after ``after``, or at once when somebody waits for one.

        A start that fails is tried again, as that of a replacement is. Instead of ``start``.
        """
        self._opening = asyncio.create_task(self._start_all(after), name="start workers")
        self._keep(self._opening)

    async def start(self) -> None:
        """Return when every worker is ready. If one is not, ``close`` is to end the others.

        Raises:
            ConfigError: the predictor file does not fit.
            WorkerDiedError: a child did not start.
        """
        starts = [asyncio.create_task(self._start(slot)) for slot in self._slots]
        try:
            await asyncio.gather(*starts)
        except BaseException:
            for start in starts:
                start.cancel()
            await asyncio.gather(
                *starts, return_exceptions=True
            )  # one that came up after `close` would be left
            raise

    async def until(self, is_enough: Callable[[], object], wait_s: float) -> None:
        """Return when those that are up are enough.

        Raises:
            UnavailableError: they were not within ``wait_s``.
        """
        try:
            async with asyncio.timeout(wait_s):
                while not is_enough():
                    self._wanted.set()
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError as error:
            raise UnavailableError(
                f"no worker came up within {wait_s:g} s", kind=ErrorKind.WORKER_DIED
            ) from error

    def kill(self) -> None:
        """End every process at once, whatever it is at; none takes its place. ``close`` is still to be called, or goes on."""
        self._closing = True
        for worker in (*self.workers, *self._leaving):
            worker.kill()

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

    async def _start_all(self, after: Awaitable[object]) -> None:
        signs = {asyncio.ensure_future(after), asyncio.create_task(self._wanted.wait())}
        try:
            await asyncio.wait(signs, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for sign in signs:
                sign.cancel()
        await asyncio.gather(*map(self._bring_up, self._slots))

    async def _bring_up(self, slot: Slot) -> None:
        while slot.worker is None:
            await self._sleep(restart_after_s(slot.deaths_in_a_row))
            try:
                await self._start(slot)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told, and tried again later
                slot.deaths_in_a_row += 1
                self._events.publish(WorkerDied(slot.number, None, f"did not start: {error}", 0))

    async def _start(self, slot: Slot) -> None:
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

    def _died(self, slot: Slot, worker: Worker, reason: str) -> None:
        if slot.worker is not worker or self._closing:
            return  # it died while it started or stopped: whoever started or stopped it is told
        slot.die(self._clock.monotonic())
        self._on_death(slot, worker, reason)
        self._keep(asyncio.create_task(self._replace(slot, worker), name=f"replace worker {worker.id}"))

    async def _replace(self, slot: Slot, dead: Worker) -> None:
        await dead.close()
        await self._bring_up(slot)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._restarts.add(task)
        task.add_done_callback(self._restarts.discard)


def restart_after_s(deaths_in_a_row: int) -> float:
    """Return the pause before a dead worker is replaced: none after a steady life, then doubling."""
    if deaths_in_a_row <= 1:
        return 0.0
    return float(min(RESTART_MOST_S, RESTART_FIRST_S * 2.0 ** min(deaths_in_a_row - 1, 30)))
