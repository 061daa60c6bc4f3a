"""Work that nobody waits for, done a little later and one piece at a time. The disk tier writes to the medium this way.

It waits a moment first, so that what a request needs goes before, and so that what was measured by then is written along.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

K = TypeVar("K")

DELAY_S: Final = 1.0


class Behind(Generic[K]):
    """Owned by the event loop. Any ``add`` and ``settled``, then ``close``, which may be called twice."""

    def __init__(self, work: Callable[[K], Awaitable[None]], *, delay_s: float = DELAY_S) -> None:
        """``work`` must not raise."""
        self._work = work
        self._delay_s = delay_s
        self._waiting: dict[K, None] = {}
        self._now = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def add(self, key: K) -> None:
        """Do the work of ``key`` soon; once, if it waits already."""
        self._waiting[key] = None
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="write behind")

    async def settled(self) -> None:
        """Do all of it now, and return when it is done."""
        self._now.set()
        if self._task is not None:
            await asyncio.wait([self._task])
        self._now.clear()

    async def close(self, *, limit_s: float) -> None:
        """Do what can be done within ``limit_s``, and leave the rest."""
        try:
            async with asyncio.timeout(limit_s):
                await self.settled()
        except TimeoutError:
            self.stop()

    def stop(self) -> None:
        """Leave what waits."""
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while self._waiting:
            await self._pause()
            while self._waiting:
                key = next(iter(self._waiting))
                del self._waiting[key]
                await self._work(key)

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._delay_s):
                await self._now.wait()
        except TimeoutError:
            return
