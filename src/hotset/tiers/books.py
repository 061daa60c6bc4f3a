"""The records of a tier's books: weights, capacities, entries and room that is spoken for.

The ledger keeps them; whoever uses a tier reads them, and changes nothing but ``holds``, through the tier.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Final, Generic, NamedTuple, TypeVar

from hotset.events import Cause

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_new: Final = tuple.__new__
"""A named tuple's own constructor is a function in Python: weights are added up a dozen times for each load."""


class Weight(NamedTuple):
    """What an entry takes: places, host (or disk) bytes, device bytes."""

    models: int = 1
    bytes: int = 0
    device_bytes: int = 0

    def plus(self, other: Weight) -> Weight:
        models, bytes_, device_bytes = self
        more_models, more_bytes, more_device_bytes = other
        return _new(Weight, (models + more_models, bytes_ + more_bytes, device_bytes + more_device_bytes))

    def minus(self, other: Weight) -> Weight:
        models, bytes_, device_bytes = self
        less_models, less_bytes, less_device_bytes = other
        return _new(Weight, (models - less_models, bytes_ - less_bytes, device_bytes - less_device_bytes))


NOTHING = Weight(0, 0, 0)


class Capacity(NamedTuple):
    """What a tier may hold; None is no limit in that part."""

    models: int | None = None
    bytes: int | None = None
    device_bytes: int | None = None

    def holds(self, weight: Weight) -> bool:
        """Whether ``weight`` is within every part."""
        most_models, most_bytes, most_device_bytes = self
        models, bytes_, device_bytes = weight
        return (
            (most_models is None or models <= most_models)
            and (most_bytes is None or bytes_ <= most_bytes)
            and (most_device_bytes is None or device_bytes <= most_device_bytes)
        )

    def is_eased(self, target: Weight, without: Weight) -> bool:
        """Whether taking ``without`` off ``target`` lowers a part that is over its limit."""
        for limit, total, part in zip(self, target, without, strict=True):
            if part > 0 and limit is not None and total > limit:
                return True
        return False


class Entry(Generic[K, V]):
    """Something in a tier. ``holds`` counts those who use it (leases, pins of the tier above): no victim while > 0.

    ``uses`` is how many leases it ever had. A ``pinned`` one is no victim of capacity. ``copies`` are the further entries that
    stand for the same key; each of them ``is_copy``. One that leaves may be ``followed_by`` one that has its room already, and
    comes in behind it.
    """

    __slots__ = (
        "cause",
        "copies",
        "followed_by",
        "handed_out",
        "holds",
        "is_copy",
        "key",
        "pinned",
        "uses",
        "value",
        "weight",
    )

    def __init__(self, key: K, value: V, weight: Weight) -> None:
        self.key = key
        self.value = value
        self.weight = weight
        self.holds = 0
        self.uses = 0
        self.pinned = False
        self.cause: Cause | None = None
        self.handed_out = False
        self.copies: tuple[Entry[K, V], ...] = ()
        self.is_copy = False
        self.followed_by: Reservation[K] | None = None

    @property
    def is_used(self) -> bool:
        """Whether anybody holds it or one of its copies."""
        return self.holds > 0 or any(copy.holds for copy in self.copies)

    def __repr__(self) -> str:
        return f"Entry({self.key!s}, {self.weight}, holds={self.holds}, cause={self.cause})"


class Reservation(Generic[K]):
    """Room spoken for. ``on_granted`` is called once, from ``advance``, when the room is there.

    ``behind`` are those who leave whose room it was granted before they have; ``leaving`` is what they still take of it.
    """

    __slots__ = ("behind", "granted", "key", "leaving", "on_granted", "overtaken", "promised", "weight")

    def __init__(self, key: K, weight: Weight, on_granted: Callable[[], None]) -> None:
        self.key = key
        self.weight = weight
        self.on_granted = on_granted
        self.overtaken = 0
        self.promised = NOTHING
        self.granted = NOTHING
        self.behind: tuple[Entry[K, Any], ...] = ()
        self.leaving = NOTHING

    @property
    def is_promised(self) -> bool:
        """Whether its room is there or being made; if not, all the rest is held."""
        return self.promised == self.weight

    @property
    def is_granted(self) -> bool:
        return self.granted == self.weight


def larger(one: Weight, other: Weight) -> Weight:
    """Return the larger of each part."""
    models, bytes_, device_bytes = one
    other_models, other_bytes, other_device_bytes = other
    return _new(
        Weight,
        (
            max(other_models, models),
            max(other_bytes, bytes_),
            max(other_device_bytes, device_bytes),
        ),
    )


def smaller(one: Weight, other: Weight) -> Weight:
    """Return the smaller of each part."""
    return Weight(*(min(a, b) for a, b in zip(one, other, strict=True)))
