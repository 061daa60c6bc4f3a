"""Answers that do not come in time: all calls of a worker on one timer. Called by the workers; it ends nothing itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from hotset.errors import ErrorKind, UnavailableError
from hotset.limits import Waits


class Deadlines(Waits[int, asyncio.Future[Any]]):
    """The answers of a worker, by number; deadlines are on the monotonic clock.

    Who does not come in time is failed. Its place is kept until its answer comes, because the worker is still busy with it.
    """

    def __init__(
        self, *, now: Callable[[], float] = time.monotonic, on_late: Callable[[], None] = lambda: None
    ) -> None:
        """``on_late`` is called for each that does not come in time."""
        super().__init__(self._fail, now=now)
        self._on_late = on_late

    def _fail(self, _number: int, answer: asyncio.Future[Any]) -> None:
        if not answer.done():
            answer.set_exception(
                UnavailableError("the prediction went on past its deadline", kind=ErrorKind.DEADLINE)
            )
        self._on_late()
