"""Which member of a cache goes first. Used by both tiers and by the planner; knows no sizes and evicts nothing.

A member is anything hashable whose uses are worth remembering: a version that was asked for by its number, the
word ``latest`` of a model, a directory on disk.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Generic, Protocol, TypeVar

K = TypeVar("K", bound=Hashable)


class Eviction(Protocol[K]):
    """The order in which members go. Owned by the event loop."""

    def admit(self, member: K, used_s: float) -> None:
        """Add a member that was last used at ``used_s``, or move it to the place of that time."""
        ...

    def touch(self, member: K, now_s: float) -> None:
        """Note a use, now. An unknown member is admitted."""
        ...

    def remove(self, member: K) -> None:
        """Forget a member. An unknown one is fine."""
        ...

    def last_used_s(self, member: K) -> float | None:
        """Return when the member was last used, or None if it never was or is unknown."""
        ...

    def victims(self) -> Iterator[K]:
        """Yield the members, the one to go first first. The cache must not be changed meanwhile."""
        ...


class LRU(Generic[K]):
    """Least recently used first. ``touch`` and ``remove`` are O(1).

    ``admit`` with a time older than the newest one is O(members that are younger); it happens at a restart only,
    where members are admitted oldest first.
    """

    def __init__(self) -> None:
        self._times: OrderedDict[K, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._times)

    def __contains__(self, member: K) -> bool:
        return member in self._times

    def admit(self, member: K, used_s: float) -> None:
        self._times.pop(member, None)
        younger: list[K] = []
        for other in reversed(self._times):
            if self._times[other] <= used_s:
                break
            younger.append(other)
        self._times[member] = used_s
        for other in reversed(younger):
            self._times.move_to_end(other)

    def touch(self, member: K, now_s: float) -> None:
        self._times[member] = now_s
        self._times.move_to_end(member)

    def remove(self, member: K) -> None:
        self._times.pop(member, None)

    def last_used_s(self, member: K) -> float | None:
        return self._times.get(member)

    def victims(self) -> Iterator[K]:
        return iter(self._times)
