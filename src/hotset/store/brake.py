"""A store that says that it is asked too much is asked less, by all of us: nobody asks while the brake is pressed.

``RemoteStore`` goes through it with each request. obstore repeats a request that was refused so by itself, a few times within a
second; the brake is for when that was not enough. It knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import random as random_module
from collections.abc import Awaitable, Callable
from typing import Final

from hotset.clock import Clock, SystemClock

FIRST_S: Final = 1.0
MOST_S: Final = 30.0
MOST_ASKED_S: Final = 300.0
"""A store that asks for more than this is asked again all the same."""

_SPREAD: Final = 0.25


class Brake:
    """Owned by the event loop. ``passed`` before each request; ``press`` or ``release`` with what it gave, after it."""

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        self._now_s = (clock or SystemClock()).monotonic
        self._sleep = sleep
        self._random = random
        self._pressed_s = float("-inf")
        self._until_s = float("-inf")
        self._pause_s = 0.0

    @property
    def left_s(self) -> float:
        """How long nobody asks from now on."""
        return max(0.0, self._until_s - self._now_s())

    async def passed(self) -> float:
        """Return the time once a request may be made; those who wait do not all go at the same moment."""
        while self.left_s:
            await self._sleep(self.left_s + _SPREAD * self._random() * self._pause_s)
        return self._now_s()

    def press(self, began_s: float) -> bool:
        """A request that began then was refused as one too many: pause, twice as long each time.

        False if that was known already: of many requests at once, the first that is refused speaks for all.
        """
        if began_s < self._pressed_s:
            return False
        self._pressed_s = self._now_s()
        self._pause_s = min(MOST_S, self._pause_s * 2 or FIRST_S)
        self._until_s = self._pressed_s + self._pause_s
        return True

    def prolong(self, asked_s: float) -> None:
        """The store has said for how long, counted from when the brake was pressed."""
        self._until_s = max(self._until_s, self._pressed_s + min(asked_s, MOST_ASKED_S))

    def release(self, began_s: float) -> None:
        """A request that began then went well."""
        if began_s >= self._pressed_s:
            self._pause_s = 0.0
            self._until_s = float("-inf")
