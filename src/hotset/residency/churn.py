"""The churn guard: where even the least recently used was used a moment ago, a load would only push out what is asked for next.

``arrival`` asks before it reserves room. A load that needs somebody to leave waits until the one that would go is old enough, or
is refused where that takes too long. So what is loaded stays for ``min_churn_age`` after its last use, however many are asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from hotset.clock import Clock
from hotset.errors import ErrorKind, OverloadedError
from hotset.keys import ModelKey
from hotset.residency.turns import Turn
from hotset.tiers.ledger import Weight
from hotset.tiers.memory import MemoryTier

LOOK_S: Final = 0.25
"""A load that waits looks again this often: what it waits for may be used again, or there may be room without it."""

MOST_HELD: Final = 64
"""So many loads wait at most; more are refused at once."""


def churn_wait_s(ages_s: Iterable[float], ahead: int, min_age_s: float) -> float | None:
    """Return how long a load has to wait for its victim to be old enough; None if nobody can tell.

    ``ages_s`` are the seconds since what may go was used, the one to go first first. With so many loads ``ahead`` that
    wait too, its victim is the next one behind theirs. Where nothing may go, it is not age that a load waits for.
    """
    ages = list(islice(ages_s, ahead + 1))
    if not ages:
        return 0.0
    return max(0.0, min_age_s - ages[ahead]) if ahead < len(ages) else None


class ChurnGuard:
    """Owned by the event loop; any number of ``passed`` at once, first come, first served."""

    def __init__(
        self, memory: MemoryTier[Any], *, clock: Clock, min_age_s: float, most_wait_s: float
    ) -> None:
        self._memory = memory
        self._clock = clock
        self._min_age_s = min_age_s
        self._most_wait_s = most_wait_s
        self._held: list[object] = []

    @property
    def held(self) -> int:
        """How many loads wait."""
        return len(self._held)

    async def passed(self, key: ModelKey, weight: Weight, turn: Turn) -> None:
        """Return when there is room, or what would go for it is old enough; the turn is given up meanwhile.

        Raises:
            OverloadedError: that takes too long.
        """
        if self._wait_s(weight, self.held) == 0.0:
            return
        self._refuse_if_too_long(key, weight, self.held)
        place = object()
        self._held.append(place)
        turn.give_up()
        began_s = self._clock.monotonic()
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                ahead = self._held.index(place)
                if self._wait_s(weight, ahead) != 0.0:
                    if self._clock.monotonic() - began_s >= self._most_wait_s:
                        self._refuse_if_too_long(key, weight, ahead, left_s=0.0)
                    continue
                await turn.take()
                if self._wait_s(weight, self._held.index(place)) == 0.0:
                    return
                turn.give_up()
        finally:
            self._held.remove(place)

    def _wait_s(self, weight: Weight, ahead: int) -> float | None:
        if self._memory.has_room(weight):
            return 0.0
        return churn_wait_s(self._ages_s(), ahead, self._min_age_s)

    def _ages_s(self) -> Iterator[float]:
        """What is in use goes last, and is as young as can be: it would be taken in the moment in which it is idle."""
        now_s = self._clock.monotonic()
        for entry in self._memory.idle():
            used_s = self._memory.entry_used_s(entry.key)
            yield self._min_age_s if used_s is None else now_s - used_s
        for entry in self._memory.entries():
            if entry.is_used and not entry.pinned:
                yield 0.0

    def _refuse_if_too_long(
        self, key: ModelKey, weight: Weight, ahead: int, *, left_s: float | None = None
    ) -> None:
        wait_s = self._wait_s(weight, ahead)
        most_s = self._most_wait_s if left_s is None else left_s
        if wait_s is not None and wait_s <= most_s and ahead < MOST_HELD:
            return
        raise OverloadedError(
            f"no room for {key}: all that is in memory was used less than min_churn_age ({self._min_age_s:g} s) ago",
            kind=ErrorKind.NO_ROOM,
            retry_after_s=self._min_age_s if wait_s is None else max(wait_s, LOOK_S),
        )
