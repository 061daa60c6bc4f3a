"""Predict threads of a child that do not come back: seen on its board, looked for whenever a call is late.

``process.py`` makes one for each child, and gives the child up when it is told that too few threads are left.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from typing import Final

from hotset.workers.board import Board, stuck_since, too_many_stuck

_TICK_S: Final = 0.01


class StuckThreads:
    """Owned by the event loop. Any ``one_is_late``, ``look`` and ``rest``; ``close`` when the child is gone.

    ``board`` is where the child tells what it is at, None while it tells nothing.
    """

    def __init__(
        self,
        threads: int,
        *,
        limit_s: float,
        on_too_many: Callable[[str, Sequence[int]], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Of so many ``threads``, one that is at the same for ``limit_s`` counts as one that never comes back.

        ``on_too_many`` gets the reason in words, and the handles of what the stuck ones are at.
        """
        self.board: Board | None = None
        self._threads = threads
        self._limit_s = limit_s
        self._on_too_many = on_too_many
        self._now = now
        self._timer: asyncio.TimerHandle | None = None

    def handles(self) -> Sequence[int]:
        """Return what the stuck ones are at, once for each thread."""
        return () if self.board is None else stuck_since(self.board.running(), self._now() - self._limit_s)

    def one_is_late(self) -> None:
        """A call went past its deadline: when its thread is late enough to count as stuck, see whether it is."""
        if self._timer is not None or self.board is None:
            return
        since_s = min((at.since_s for at in self.board.running() if not at.is_load), default=math.inf)
        due_s = since_s + self._limit_s
        if due_s < math.inf:
            left_s = max(0.0, due_s - self._now())
            self._timer = asyncio.get_running_loop().call_later(left_s + _TICK_S, self.look)

    def look(self) -> None:
        """Tell if too few of the threads are left."""
        self.rest()
        stuck = self.handles()
        if len(stuck) >= too_many_stuck(self._threads):
            self._on_too_many(
                f"{len(stuck)} of its {self._threads} predict threads did not come back within {self._limit_s:g} s",
                stuck,
            )

    def rest(self) -> None:
        """Nobody waits for a call any more: do not look until one is late again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> frozenset[int]:
        """Return the handles of what the child was at when it went."""
        self.rest()
        board, self.board = self.board, None
        return frozenset() if board is None else frozenset(at.handle for at in board.running())
