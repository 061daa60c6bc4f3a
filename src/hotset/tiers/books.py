"""The records of a tier's books: weights, capacities, entries and room that is spoken for.

The ledger keeps them; whoever uses a tier reads them, and changes nothing but ``holds``, through the tier.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from operator import add, sub
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar

from hotset.events import Cause

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

DeviceBytes: TypeAlias = tuple[int, ...]
Takes: TypeAlias = "Callable[[Sequence[Entry[K, Any]]], bool]"
"""Whether what comes in can take the places of these, in one order with their leaving."""

_new: Final = tuple.__new__
"""A named tuple's own constructor is a function in Python: weights are added up a dozen times for each load."""


class Weight(NamedTuple):
    """What an entry takes: places, host (or disk) bytes, and bytes of each device, in the order in which the replica has them.

    ``device_bytes`` ends with a device that something is taken of: nothing of any is ``()``.
    """

    models: int = 1
    bytes: int = 0
    device_bytes: DeviceBytes = ()

    def plus(self, other: Weight) -> Weight:
        models, bytes_, devices = self
        more_models, more_bytes, more_devices = other
        if more_devices:
            devices = _each(add, devices, more_devices)
        return _new(Weight, (models + more_models, bytes_ + more_bytes, devices))

    def minus(self, other: Weight) -> Weight:
        models, bytes_, devices = self
        less_models, less_bytes, less_devices = other
        if less_devices:
            devices = _each(sub, devices, less_devices)
        return _new(Weight, (models - less_models, bytes_ - less_bytes, devices))


def on_device(device: int, bytes_: int) -> DeviceBytes:
    """Return what takes so many bytes of one device, and nothing of others."""
    return (*(0,) * device, bytes_) if bytes_ else ()


def _each(function: Callable[[int, int], int], one: DeviceBytes, other: DeviceBytes) -> DeviceBytes:
    """Apply it device by device."""
    parts = [function(a, b) for a, b in zip_longest(one, other, fillvalue=0)]
    while parts and not parts[-1]:
        parts.pop()
    return tuple(parts)


NOTHING = Weight(0, 0, ())


class Capacity(NamedTuple):
    """What a tier may hold; None is no limit in that part, and so is a device that ``device_bytes`` does not reach to."""

    models: int | None = None
    bytes: int | None = None
    device_bytes: tuple[int | None, ...] = ()

    def holds(self, weight: Weight) -> bool:
        """Whether ``weight`` is within every part."""
        most_models, most_bytes, limits = self
        models, bytes_, devices = weight
        return (
            (most_models is None or models <= most_models)
            and (most_bytes is None or bytes_ <= most_bytes)
            and (not devices or not _over(limits, devices))
        )

    def is_eased(self, target: Weight, without: Weight) -> bool:
        """Whether taking ``without`` off ``target`` lowers a part that is over its limit."""
        most_models, most_bytes, limits = self
        if most_models is not None and target.models > most_models and without.models > 0:
            return True
        if most_bytes is not None and target.bytes > most_bytes and without.bytes > 0:
            return True
        lowered = without.device_bytes
        return bool(lowered) and any(
            device < len(lowered) and lowered[device] > 0 for device in _over(limits, target.device_bytes)
        )

    def excess(self, weight: Weight) -> tuple[str, int, int] | None:
        """Return the first part of ``weight`` that is more than the whole capacity: its name, the need, the limit."""
        for part, need, limit in zip(("models", "bytes"), weight, self, strict=False):
            if isinstance(limit, int) and isinstance(need, int) and need > limit:
                return part, need, limit
        for device in _over(self.device_bytes, weight.device_bytes):
            return f"bytes of device {device}", weight.device_bytes[device], self.device_bytes[device] or 0
        return None


def _over(limits: tuple[int | None, ...], devices: DeviceBytes) -> list[int]:
    """Return the devices that more is taken of than there is."""
    both = zip(limits, devices, strict=False)  # what has no limit is behind the end of the shorter one
    return [index for index, (limit, bytes_) in enumerate(both) if limit is not None and bytes_ > limit]


class Entry(Generic[K, V]):
    """Something in a tier. ``holds`` counts those who use it (leases, pins of the tier above): no victim while > 0.

    ``uses`` is how many leases it ever had. A ``pinned`` one is no victim of capacity. ``copies`` are the further entries that
    stand for the same key; each of them ``is_copy``. One that leaves may be ``followed_by`` one that has its room already, and
    comes in behind it; one that is here before those have left ``follows`` them.
    """

    __slots__ = (
        "cause",
        "copies",
        "followed_by",
        "follows",
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
        self.follows: Reservation[K] | None = None

    @property
    def is_used(self) -> bool:
        """Whether anybody holds it or one of its copies."""
        return self.holds > 0 or any(copy.holds for copy in self.copies)

    def __repr__(self) -> str:
        return f"Entry({self.key!s}, {self.weight}, holds={self.holds}, cause={self.cause})"


class Reservation(Generic[K]):
    """Room spoken for. ``on_granted`` is called once, from ``advance``, when the room is there.

    ``behind`` are those who leave whose room it was granted before they have; ``leaving`` is what they still take of it.
    Where there is ``takes``, it says of idle entries whether what comes in can take their places, in one order with their
    leaving: then they are ``behind`` from the beginning.
    """

    __slots__ = (
        "behind",
        "granted",
        "key",
        "leaving",
        "on_granted",
        "overtaken",
        "promised",
        "takes",
        "weight",
    )

    def __init__(
        self, key: K, weight: Weight, on_granted: Callable[[], None], takes: Takes[K] | None = None
    ) -> None:
        self.key = key
        self.weight = weight
        self.on_granted = on_granted
        self.takes = takes
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


@dataclass(frozen=True, slots=True)
class LedgerStatistics:
    """A moment of a tier's books; ``entries`` are counted without their ``copies``."""

    capacity: Capacity
    usage: Weight
    entries: int
    copies: int
    draining: int
    reservations: int
    held: int


def larger(one: Weight, other: Weight) -> Weight:
    """Return the larger of each part."""
    models, bytes_, devices = one
    other_models, other_bytes, other_devices = other
    if devices or other_devices:
        devices = _each(max, devices, other_devices)
    return _new(Weight, (max(other_models, models), max(other_bytes, bytes_), devices))


def smaller(one: Weight, other: Weight) -> Weight:
    """Return the smaller of each part."""
    models, bytes_, devices = one
    other_models, other_bytes, other_devices = other
    if devices or other_devices:
        devices = _each(min, devices, other_devices)
    return _new(Weight, (min(other_models, models), min(other_bytes, bytes_), devices))
