"""A name that is not in the catalog: look for it in the store once, and remember a no for a while.

Concurrent requests for one name share one look; a no is kept in a cache that is bounded in entries and in time, so
a flood of unknown names costs memory nothing and the store at most ``most_at_once`` listings at a time.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from hotset.catalog import ModelEntry
from hotset.clock import Clock
from hotset.errors import OverloadedError
from hotset.residency.flight import Flights

Find = Callable[[str], Awaitable[ModelEntry | None]]


class Lookup:
    """Owned by the event loop."""

    def __init__(
        self, find: Find, *, clock: Clock, ttl_s: float, most: int = 10_000, most_at_once: int = 8
    ) -> None:
        """``find`` lists one name in the store and returns its entry, or None."""
        self._find = find
        self._clock = clock
        self._ttl_s = ttl_s
        self._most = most
        self._most_waiting = 64 * most_at_once
        self._slots = asyncio.Semaphore(most_at_once)
        self._noes: OrderedDict[str, float] = OrderedDict()
        self._flights: Flights[str, ModelEntry | None, ModelEntry | None] = Flights(
            share=lambda _, entry: entry, give_back=lambda _: None
        )

    def __len__(self) -> int:
        """How many noes are remembered."""
        return len(self._noes)

    async def look(self, name: str) -> ModelEntry | None:
        """Return the model as the store has it now, or None.

        Raises:
            StoreError: the store did not answer; that is not remembered.
            OverloadedError: too many names are being looked up already.
        """
        if self.is_known_missing(name):
            return None
        if name not in self._flights and len(self._flights) >= self._most_waiting:
            raise OverloadedError(
                f"too many unknown models are being looked up in the store, asked for: {name!r}"
            )
        return await self._flights.join(name, lambda _: self._look(name), now_s=self._clock.monotonic())

    def is_known_missing(self, name: str) -> bool:
        until_s = self._noes.get(name)
        return until_s is not None and self._clock.monotonic() < until_s

    def forget(self) -> None:
        """Forget every no: the store was listed anew."""
        self._noes.clear()

    async def close(self) -> None:
        await self._flights.close()

    async def _look(self, name: str) -> ModelEntry | None:
        async with self._slots:
            entry = await self._find(name)
        if entry is None:
            self._noes[name] = self._clock.monotonic() + self._ttl_s
            self._noes.move_to_end(name)
            while len(self._noes) > self._most:
                self._noes.popitem(last=False)
        return entry
