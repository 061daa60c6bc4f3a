"""Who may wait for room with models in hand: one request at a time, the senior. Whoever else would have to lets go of
all it has first. So nobody ever waits in a circle: the senior waits for those that hold, and they wait for nobody.

Used by ``handlers``; it knows no models.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools

from hotset.errors import ErrorKind, OverloadedError


class Seniority:
    """Owned by the event loop. ``take``, and if it returns, ``give_up`` once."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._is_taken = False
        self._is_short = False
        self._enough: asyncio.Event = asyncio.Event()
        self._enough.set()

    async def take(self, number: int, *, limit_s: float) -> None:
        """Return as the senior; of those who wait, the request with the lowest number comes next.

        Raises:
            OverloadedError: it did not come to that within ``limit_s``.
        """
        if not self._is_taken:
            self._is_taken = True
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (number, next(self._order), turn))
        try:
            async with asyncio.timeout(max(0.0, limit_s)):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.give_up()  # it became the senior in the very step in which it went away
            if isinstance(error, TimeoutError):
                raise OverloadedError(
                    "no room: all that is in memory is in use, by requests that came before",
                    kind=ErrorKind.NO_ROOM,
                ) from error
            raise

    def give_up(self) -> None:
        """Let the next one be the senior."""
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._is_taken = False

    # While the senior waits for room, nobody begins what would take it

    @property
    def is_short(self) -> bool:
        """Whether the senior waits for room now."""
        return self._is_short

    def begin_wait(self) -> None:
        """The senior waits for room from now on."""
        self._is_short = True
        self._enough.clear()

    def end_wait(self) -> None:
        self._is_short = False
        self._enough.set()

    async def let_pass(self, *, limit_s: float) -> None:
        """Return when the senior does not wait for room.

        Raises:
            OverloadedError: it still does after ``limit_s``.
        """
        try:
            async with asyncio.timeout(max(0.0, limit_s)):
                while self._is_short:
                    await self._enough.wait()
        except TimeoutError as error:
            raise OverloadedError(
                "no room: a request that came before still waits for what is in use", kind=ErrorKind.NO_ROOM
            ) from error
