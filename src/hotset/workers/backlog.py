"""Calls that wait for a predict thread, by model, and the choice of what a thread takes next.

Owned by whoever holds the lock of the predict threads; it starts nothing and knows no time.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from hotset.workers.base import PredictCall

QUANTUM_S: Final = 0.002
"""A thread takes about this much work of one model, so that another model's call waits no longer than that."""


class Job(NamedTuple):
    """One call with the number under which its answer goes back."""

    number: int
    call: PredictCall


BATCH_S: Final = 0.02
"""A batch takes about this long at most. Where a larger one costs less for each call, the pace falls and it grows."""


def unit_size(waiting: int, *, threads: int, pace_s: float, batch: int = 1) -> int:
    """Return how many of a model's waiting calls one thread takes, one at least.

    No more than its share, so that the other threads are not idle; and no more than a quantum at the model's pace.
    A model of unknown pace (0) may be slow, so its first call is taken alone. Up to ``batch`` calls that are
    predicted at once are taken at once.
    """
    if waiting <= 1:
        return waiting
    if batch > 1 and pace_s > 0.0:
        return min(waiting, batch, max(2, int(BATCH_S / pace_s)))
    share = math.ceil(waiting / threads)
    if pace_s <= 0.0:
        return 1
    return max(1, min(share, int(QUANTUM_S / pace_s)))


class Backlog:
    """Waiting calls in the order of arrival for each model, and models in rotation.

    Not thread-safe. ``take`` and then ``done`` for every unit taken.
    """

    def __init__(
        self,
        *,
        threads: int,
        pace_s: Callable[[int], float],
        batch: Callable[[int], int] = lambda _handle: 1,
    ) -> None:
        """``pace_s`` says how long a call of a model takes, ``batch`` how many are predicted at once."""
        self._threads = threads
        self._pace_s = pace_s
        self._batch = batch
        self._waiting: dict[int, deque[Job]] = {}
        self._running: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, jobs: Iterable[Job]) -> None:
        waiting = self._waiting
        for job in jobs:
            handle = job.call.handle
            queue = waiting.get(handle)
            if queue is None:
                waiting[handle] = deque((job,))
            else:
                queue.append(job)

    def take(self) -> list[Job]:
        """Return the next unit, all of one model: of those that wait, the one on fewest threads, in rotation.

        So a model whose every call is slow has all threads only as long as nobody else wants one.
        """
        handle = self._next_handle()
        queue = self._waiting.pop(handle)
        waiting = len(queue)
        size = waiting
        if waiting > 1:
            size = unit_size(
                waiting, threads=self._threads, pace_s=self._pace_s(handle), batch=self._batch(handle)
            )
        if size == len(queue):
            unit = list(queue)
        else:
            unit = [queue.popleft() for _ in range(size)]
            self._waiting[handle] = queue  # at the end: the others come first
        self._running[handle] = self._running.get(handle, 0) + 1
        return unit

    def done(self, handle: int) -> None:
        """Say that a thread is through with a unit of this model."""
        left = self._running[handle] - 1
        if left:
            self._running[handle] = left
        else:
            del self._running[handle]

    def _next_handle(self) -> int:
        running = self._running
        if not running or len(self._waiting) == 1:
            return next(iter(self._waiting))
        return min(self._waiting, key=lambda handle: running.get(handle, 0))
