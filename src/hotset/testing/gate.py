"""Where a fake waits until the test lets it go on."""

from __future__ import annotations

import asyncio


class Gate:
    """A place to hold callers up. Open at first; ``close`` it, wait until ``arrived``, then ``open`` it."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self._arrivals = asyncio.Semaphore(0)

    async def pass_through(self) -> None:
        if not self._open.is_set():
            self._arrivals.release()
        await self._open.wait()

    async def arrived(self) -> None:
        """Return when one more caller waits at the closed gate."""
        await self._arrivals.acquire()

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()
