"""Answers that do not come in time: one timer for all calls of a worker, looking a few times a second.

A timer for each call would cost every call more than its place in the queue does. A call is failed at most
``TICK_S`` late; its place is kept until its answer comes, because the worker is still busy with it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from hotset.errors import ErrorKind, UnavailableError

TICK_S: Final = 0.1


class Deadlines:
    """Owned by the event loop. ``add`` each call, ``drop`` it when its answer came; ``close`` at the end."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._calls: dict[int, tuple[float, asyncio.Future[Any]]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, number: int, deadline_s: float, answer: asyncio.Future[Any]) -> None:
        """``deadline_s`` is on the monotonic clock."""
        self._calls[number] = (deadline_s, answer)
        if self._timer is None:
            self._timer = answer.get_loop().call_later(TICK_S, self._look, answer.get_loop())

    def drop(self, number: int) -> None:
        """An unknown number is fine."""
        self._calls.pop(number, None)

    def close(self) -> None:
        self._calls.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now_s = self._now()
        overdue = [number for number, (deadline_s, _) in self._calls.items() if deadline_s <= now_s]
        for number in overdue:
            _, answer = self._calls.pop(number)
            if not answer.done():
                answer.set_exception(
                    UnavailableError("the prediction went on past its deadline", kind=ErrorKind.DEADLINE)
                )
        self._timer = loop.call_later(TICK_S, self._look, loop) if self._calls else None
