"""All connections of a server at once: how many there may be, who makes way for a new one, and the rounds in which they are looked at.

``server`` and each ``connection`` ask here. What a connection is, it need not know; it reads and writes nothing.
"""

from __future__ import annotations

import heapq
import logging
import math
import resource
from collections.abc import Collection, Iterable
from typing import Final, Generic, Protocol, Self, TypeVar

WANTED_FILES: Final = 1 << 16
"""Open files that a server asks the system for: each connection is one."""

RESERVED: Final = 8
"""One in so many open files is for all else: models, the store, the children. At least ``LEAST_RESERVED``."""
LEAST_RESERVED: Final = 128

MAKES_WAY: Final = 64
"""One in so many connections makes way at once, so that looking for them costs each new one little."""

_logger: Final = logging.getLogger(__name__)


class Member(Protocol):
    """A connection, as the crowd sees it."""

    @property
    def idle_since_s(self) -> float | None:
        """Since when nothing was asked of it, on the loop's clock; None while something is on its way."""
        ...

    def make_way(self) -> None:
        """Close, as another wants the place. Called only while it is idle."""
        ...


M = TypeVar("M", bound=Member)
T = TypeVar("T")


def raise_files_limit(wanted: int = WANTED_FILES) -> int:
    """Have the system allow as many open files as it will, up to ``wanted``; return how many that are, and log if they are few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted if soft == resource.RLIM_INFINITY else soft
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if allowed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        _logger.info(
            "the system allows %d open files, so at most %d connections at once; for more raise the hard limit (ulimit -Hn)",
            allowed,
            most_connections(allowed),
        )
    return allowed


def most_connections(files: int) -> int:
    """Return how many connections leave enough open files for all else."""
    return max(1, files - max(LEAST_RESERVED, files // RESERVED))


def longest_idle(members: Iterable[M], count: int) -> list[M]:
    """Return those that were idle for longest, ``count`` of them at most."""
    idle = ((since_s, member) for member in members if (since_s := member.idle_since_s) is not None)
    return [member for _, member in heapq.nsmallest(count, idle, key=lambda pair: pair[0])]


def make_way(members: Collection[M], most: int, *, newcomer: M) -> bool:
    """Have some of the idle ones go where there are more than ``most``; False if there are too many and none is idle.

    The ``newcomer`` is one of them, and does not go.
    """
    if len(members) <= most:
        return True
    going = longest_idle([it for it in members if it is not newcomer], max(1, most // MAKES_WAY))
    for member in going:
        member.make_way()
    return bool(going)


class Rounds(Generic[T]):
    """Goes round all of a set that changes meanwhile, a part in each turn. Owned by the event loop."""

    def __init__(self, everyone: Collection[T], *, turns: int) -> None:
        """``turns`` are how many make a round."""
        self._everyone = everyone
        self._turns = turns
        self._left: list[T] = []
        self._step = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> list[T]:
        """Return the next part; what has left the set meanwhile is in it all the same."""
        if not self._left:
            self._left = list(self._everyone)
            self._step = math.ceil(len(self._left) / self._turns)
        part, self._left = self._left[: self._step], self._left[self._step :]
        return part
