"""Turns to load: how many versions are on their way into memory at once, each with room that is promised to it.

Room is asked for in a turn and not before. Else a burst of requests would evict for all of its models at once, and
what is hot would be gone long before the first of them is loaded.
"""

from __future__ import annotations

import asyncio
from typing import Self


class Turn:
    """One flight's turn; an async context manager. It may be given up early, and taken again. Owned by one task."""

    __slots__ = ("_holds", "_slots")

    def __init__(self, slots: asyncio.Semaphore) -> None:
        self._slots = slots
        self._holds = False

    async def take(self) -> None:
        """Wait for a turn; first come, first served."""
        if not self._holds:
            await self._slots.acquire()
            self._holds = True

    def give_up(self) -> None:
        """Let the next one have it. Twice is fine."""
        if self._holds:
            self._holds = False
            self._slots.release()

    async def __aenter__(self) -> Self:
        await self.take()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.give_up()


class Turns:
    """Owned by the event loop."""

    def __init__(self, most: int) -> None:
        self._slots = asyncio.Semaphore(most)

    def turn(self) -> Turn:
        return Turn(self._slots)
