"""What has to be over by a certain time, on one timer for all of it: answers of a worker, waits for a load or for room.

A timer for each would cost a call more than its place in the queue does. The timer waits for the soonest deadline
and is set anew only for a sooner one, which hardly ever comes: nearly all have the same limit. Knows nobody's errors.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Hashable
from typing import Final, Generic, Self, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

TICK_S: Final = 0.1
"""Once the timer has rung, it rests so long: where many are late, each is told at most so much later."""


def loop_time_s() -> float:
    """Return the time of the running event loop: that of its timers."""
    return asyncio.get_running_loop().time()


class Waits(Generic[K, V]):
    """Owned by the event loop. ``add`` each, ``drop`` it when it is over; ``close`` at the end."""

    def __init__(self, late: Callable[[K, V], None], *, now: Callable[[], float] = loop_time_s) -> None:
        """``late`` is called with what was added once its deadline has passed; it is dropped before. Deadlines are on ``now``."""
        self._late = late
        self._now = now
        self._waits: dict[K, tuple[float, V]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = math.inf

    def __len__(self) -> int:
        return len(self._waits)

    def add(self, key: K, deadline_s: float, value: V) -> None:
        self._waits[key] = (deadline_s, value)
        if deadline_s < self._due_s:
            self._arm(deadline_s)

    def drop(self, key: K) -> None:
        """An unknown key is fine."""
        self._waits.pop(key, None)

    def close(self) -> None:
        self._waits.clear()
        self._disarm()

    def _arm(self, due_s: float) -> None:
        self._disarm()
        self._due_s = due_s
        left_s = max(0.0, due_s - self._now())
        self._timer = asyncio.get_running_loop().call_later(left_s, self._look)

    def _disarm(self) -> None:
        self._due_s = math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer, self._due_s = None, math.inf
        now_s = self._now()
        overdue = [(key, value) for key, (deadline_s, value) in self._waits.items() if deadline_s <= now_s]
        for key, value in overdue:
            del self._waits[key]
            self._late(key, value)
        soonest_s = min((deadline_s for deadline_s, _ in self._waits.values()), default=math.inf)
        if soonest_s < self._due_s and soonest_s != math.inf:
            self._arm(max(soonest_s, now_s + TICK_S))


class Limit:
    """What ``Limits.within`` gives: enter it once. Owned by one task."""

    __slots__ = ("_cancelling", "_is_over", "_limits", "_seconds", "_task")

    def __init__(self, limits: Limits, seconds: float) -> None:
        self._limits = limits
        self._seconds = seconds
        self._is_over = False

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._limits.add(self, loop_time_s() + self._seconds, self)
        return self

    def expire(self) -> None:
        """The time is up."""
        self._is_over = True
        self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        self._limits.drop(self)
        if (
            self._is_over
            and self._task.uncancel() <= self._cancelling
            and kind is not None
            and issubclass(kind, asyncio.CancelledError)
        ):
            raise TimeoutError from error


class Limits(Waits[Limit, Limit]):
    """``with limits.within(5.0): await …`` does what ``asyncio.timeout`` does, on one timer. Owned by the event loop."""

    def __init__(self) -> None:
        super().__init__(_expire)

    def within(self, seconds: float) -> Limit:
        return Limit(self, seconds)


def _expire(limit: Limit, _same: Limit) -> None:
    limit.expire()
