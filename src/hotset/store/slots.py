"""Slots for what is under way, which those who wait in silence give to others: what hangs must not keep all else from going on.

A store has them for its requests, and the fetcher for whole versions. A slot bounds the memory and the band that its holder
takes; who waits for a store that says nothing takes neither.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final, Self, TypeVar

T = TypeVar("T")

PATIENCE_S: Final = 2.0
"""A store that has not said a word for so long is waited for without a slot."""


class Slot:
    """One holder's; an async context manager. Owned by one task. Legal inside: ``waited``, ``lend``."""

    __slots__ = ("_holds", "_lends", "_slots")

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._holds = False
        self._lends = False

    async def __aenter__(self) -> Self:
        await self._slots.free.acquire()
        self._holds = True
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._take_back()
        if self._holds:
            self._holds = False
            self._slots.free.release()

    def lend(self) -> None:
        """Let another have it. Nothing if too many have done so already; twice is fine."""
        if self._holds and self._slots.lent < self._slots.most_lent:
            self._holds = False
            self._lends = True
            self._slots.lent += 1
            self._slots.free.release()

    async def waited(self, coming: Awaitable[T]) -> T:
        """Return what comes. While it is long in coming another has the slot, and then this one again: first come, first served."""
        timer = asyncio.get_running_loop().call_later(self._slots.patience_s, self.lend)
        try:
            found = await coming
        finally:
            timer.cancel()
        if not self._holds:
            self._take_back()
            await self._slots.free.acquire()
            self._holds = True
        return found

    def _take_back(self) -> None:
        if self._lends:
            self._lends = False
            self._slots.lent -= 1


class Slots:
    """Owned by the event loop."""

    def __init__(self, most: int, *, most_lent: int, patience_s: float = PATIENCE_S) -> None:
        """``most_lent`` may wait in silence without one; more keep theirs, so that their number is bounded too."""
        self.free: Final = asyncio.Semaphore(most)
        self.patience_s: Final = patience_s
        self.most_lent: Final = most_lent
        self.lent = 0

    def slot(self) -> Slot:
        return Slot(self)
