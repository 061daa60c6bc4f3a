"""A name that is not in the catalog: look for it in the store once, and remember a no for a while.

Concurrent requests for one name share one look; a no is kept in a cache that is bounded in entries and in time, so
a flood of unknown names costs memory nothing and the store at most ``most_at_once`` listings at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from hotset.catalog import ModelEntry
from hotset.clock import Clock
from hotset.errors import HotsetError, OverloadedError
from hotset.residency.flight import Flights

T = TypeVar("T")

FOUND_TTL_S: Final = 1.0
"""A model that is there is not listed again sooner, whatever versions are asked for that it has not."""

Find = Callable[[str], Awaitable[ModelEntry | None]]


class Lookup:
    """Owned by the event loop."""

    def __init__(
        self,
        find: Find,
        *,
        clock: Clock,
        ttl_s: float,
        most: int = 10_000,
        most_at_once: int = 8,
        is_stale: Callable[[str], bool] = lambda _: False,
        forgets: bool = True,
    ) -> None:
        """``find`` lists one name in the store and returns its entry, or None.

        ``is_stale`` tells whether a name that is known should be looked at again before it is loaded. ``forgets``
        False: a new snapshot says nothing of names that are not in it.
        """
        self._find = find
        self.is_stale: Final = is_stale
        self._forgets = forgets
        self._clock = clock
        self._ttl_s = ttl_s
        self._most = most
        self._most_waiting = 64 * most_at_once
        self._slots = asyncio.Semaphore(most_at_once)
        self._noes: OrderedDict[str, float] = OrderedDict()
        self._found: OrderedDict[str, tuple[float, ModelEntry]] = OrderedDict()
        self._flights: Flights[str, ModelEntry | None, ModelEntry | None] = Flights(
            share=lambda _, entry: entry, give_back=lambda _: None
        )

    def __len__(self) -> int:
        """How many noes are remembered."""
        return len(self._noes)

    async def look(self, name: str, *, afresh: bool = False) -> ModelEntry | None:
        """Return the model as the store has it now, or None; with ``afresh``, not as it was a moment ago.

        Raises:
            StoreError: the store did not answer; that is not remembered.
            OverloadedError: too many names are being looked up already.
        """
        if afresh:
            await self._forget_one(name)
        if self.is_known_missing(name):
            return None
        until_s, entry = self._found.get(name, (0.0, None))
        if entry is not None and self._clock.monotonic() < until_s:
            return entry  # asked for a version that it has not: another listing right away would say the same
        if name not in self._flights and len(self._flights) >= self._most_waiting:
            raise OverloadedError(
                f"too many unknown models are being looked up in the store, asked for: {name!r}"
            )
        return await self._flights.join(name, lambda _: self._look(name), now_s=self._clock.monotonic())

    async def _forget_one(self, name: str) -> None:
        """Forget what is known of a name, and what is just being found: that look may have begun too early."""
        if name in self._flights:
            with contextlib.suppress(HotsetError):
                await self._flights.join(name, lambda _: self._look(name), now_s=self._clock.monotonic())
        self._noes.pop(name, None)
        self._found.pop(name, None)

    def is_known_missing(self, name: str) -> bool:
        until_s = self._noes.get(name)
        return until_s is not None and self._clock.monotonic() < until_s

    def forget(self) -> None:
        """Forget every no, if the store was listed anew."""
        if not self._forgets:
            return
        self._noes.clear()
        self._found.clear()

    async def close(self) -> None:
        await self._flights.close()

    async def _look(self, name: str) -> ModelEntry | None:
        async with self._slots:
            entry = await self._find(name)
        now_s = self._clock.monotonic()
        if entry is None:
            _remember(self._noes, name, now_s + self._ttl_s, most=self._most)
        else:
            _remember(self._found, name, (now_s + min(self._ttl_s, FOUND_TTL_S), entry), most=self._most)
        return entry


def _remember(cache: OrderedDict[str, T], name: str, value: T, *, most: int) -> None:
    cache[name] = value
    cache.move_to_end(name)
    while len(cache) > most:
        cache.popitem(last=False)
