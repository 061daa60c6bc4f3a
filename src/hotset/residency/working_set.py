"""Which models a pass of ``on_demand`` looks at, and which it may forget. Pure; called in threads, as there may be many."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from hotset.catalog import Settling
from hotset.keys import ModelKey

COLD_PASSES: Final = 30
"""A model that is only on disk is looked at once in so many passes; and before it is loaded, if that was long ago."""


@dataclass(frozen=True, slots=True)
class WorkingSet:
    """The names in use. ``hot``: in memory, on the way there, or asked for; ``cold``: on disk, perhaps hot as well."""

    hot: Collection[str]
    cold: Collection[str]


@dataclass(frozen=True, slots=True)
class Seen:
    """When a model was looked at last, and what of it had not settled by then."""

    at_s: float
    settling: Settling


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """What nobody uses any more: of the catalog and of what was seen. ``unsettled``: versions of the others."""

    models: tuple[str, ...]
    seen: tuple[str, ...]
    unsettled: tuple[ModelKey, ...]


def due(working: WorkingSet, seen: Mapping[str, Seen], known: Collection[str]) -> list[str]:
    """Return the names to look at in a pass, in this order: all that are hot, the new ones, the cold ones in turn."""
    hot = set(working.hot)
    cold = [name for name in working.cold if name not in hot]
    new = [name for name in cold if name not in known]
    unknown = set(new)
    rest = sorted((name for name in cold if name not in unknown), key=lambda name: last_s(seen, name))
    return [*sorted(hot), *new, *rest[: -(-len(rest) // COLD_PASSES)]]


def last_s(seen: Mapping[str, Seen], name: str) -> float:
    """Return when a model was looked at last."""
    found = seen.get(name)
    return found.at_s if found is not None else float("-inf")


def left_behind(
    working: WorkingSet, seen: Mapping[str, Seen], known: Collection[str], *, oldest_s: float
) -> LeftBehind:
    """Return what may be forgotten. What has not settled of a model in no tier is remembered since ``oldest_s``."""
    wanted = {*working.hot, *working.cold}
    others = [(name, it) for name, it in seen.items() if name not in wanted]
    unsettled = (key for name, it in seen.items() if name in wanted for key in it.settling.sightings)
    return LeftBehind(
        models=tuple(name for name in known if name not in wanted),
        seen=tuple(name for name, it in others if not it.settling.sightings or it.at_s < oldest_s),
        unsettled=tuple(sorted(unsettled)),
    )
