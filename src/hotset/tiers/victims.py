"""Who goes when a tier is short of room: a pure choice, made for the ledger. It evicts nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from hotset.tiers.books import Capacity, Entry, Weight

E = TypeVar("E", bound=Entry)  # type: ignore[type-arg]  # any entry


def choose(
    capacity: Capacity, target: Weight, *, copies: Sequence[E], entries: Iterable[E]
) -> tuple[list[E], Weight]:
    """Return who goes, in order, until ``target`` fits or nobody is left; and what is left of it.

    Copies go first. One that is in use goes too, rather than an entry alone, but its room is counted on only where
    nothing else is left: another entry's load would wait for predictions of this one to end. ``entries`` are those
    that nobody uses, the first to go first.
    """
    if capacity.holds(target):
        return [], target
    if not copies:
        return _take(capacity, target, entries)
    idle, left = _take(capacity, target, (copy for copy in copies if not copy.holds))
    if capacity.holds(left):
        return idle, left
    used, less = _take(capacity, left, (copy for copy in copies if copy.holds))
    candidates = list(entries) if used else entries
    others, left = _take(capacity, left, candidates)
    if used and not capacity.holds(left):
        others, left = _take(capacity, less, candidates)
    return [*idle, *used, *others], left


def _take(capacity: Capacity, target: Weight, candidates: Iterable[E]) -> tuple[list[E], Weight]:
    """Candidates until ``target`` fits; what is left of it.

    Whoever takes nothing of what is short is passed over: device memory is not made by evicting what is in host
    memory alone.
    """
    victims: list[E] = []
    if capacity.holds(target):
        return victims, target
    for entry in candidates:
        if capacity.is_eased(target, entry.weight):
            victims.append(entry)
            target = target.minus(entry.weight)
            if capacity.holds(target):
                break
    return victims, target
