"""Whose turn it is when several wait for room: a pure rule, asked by the ledger. It promises nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Final, TypeVar

from hotset.tiers.books import NOTHING, Reservation

K = TypeVar("K", bound=Hashable)

MOST_OVERTAKEN: Final = 32
"""So many later reservations may be promised room before one that waits for more of it; then it is its turn."""


def serve(line: Iterable[Reservation[K]], promise: Callable[[Reservation[K]], bool]) -> None:
    """Offer ``promise``, which says whether there is room, to those in line who wait for it.

    First come, first served; who needs more room than there is now may be overtaken, but not for ever: else one large
    entry could wait until many small ones stop coming. Whoever holds a part already (it was corrected to more) is served
    even then: those before it may be waiting for that part.
    """
    passed: list[Reservation[K]] = []
    is_blocked = False
    for reservation in tuple(line):
        if reservation.promised == reservation.weight or (is_blocked and reservation.granted == NOTHING):
            continue
        if promise(reservation):
            for earlier in passed:
                earlier.overtaken += 1
        else:
            passed.append(reservation)
            is_blocked = is_blocked or reservation.overtaken >= MOST_OVERTAKEN
