"""Who goes when a tier is short of room: a pure choice, made for the ledger. It evicts nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from hotset.tiers.books import Capacity, Entry, Weight

E = TypeVar("E", bound=Entry)  # type: ignore[type-arg]  # any entry


def choose(
    capacity: Capacity, target: Weight, *, copies: Sequence[E], entries: Iterable[E]
) -> tuple[list[E], bool]:
    """Return who goes, in order, until ``target`` fits or nobody is left; and whether it fits then.

    Copies go first. One that is in use goes too, rather than an entry alone, but its room is counted on only where
    nothing else is left: another entry's load would wait for predictions of this one to end. ``entries`` are those
    that nobody uses, the first to go first.
    """
    if capacity.holds(target):
        return [], True
    if not copies:
        victims, _, fits = _take(capacity, target, entries)
        return victims, fits
    idle, left, fits = _take(capacity, target, (copy for copy in copies if not copy.holds))
    if fits:
        return idle, True
    used, less, is_enough = _take(capacity, left, (copy for copy in copies if copy.holds))
    candidates = list(entries) if used else entries
    others, _, fits = _take(capacity, left, candidates)
    if used and not fits:
        others, fits = [], is_enough
        if not is_enough:
            others, _, fits = _take(capacity, less, candidates)
    return [*idle, *used, *others], fits


def _take(capacity: Capacity, target: Weight, candidates: Iterable[E]) -> tuple[list[E], Weight, bool]:
    """Candidates until ``target``, which does not fit, does; what is left of it, and whether that fits.

    Whoever takes nothing of what is short is passed over: device memory is not made by evicting what is in host
    memory alone.
    """
    victims: list[E] = []
    for entry in candidates:
        if capacity.is_eased(target, entry.weight):
            victims.append(entry)
            target = target.minus(entry.weight)
            if capacity.holds(target):
                return victims, target, True
    return victims, target, False
