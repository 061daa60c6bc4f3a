"""The states of a version, which of them may follow which, and how the state is told from the facts.

A state is derived from what the tiers, the flights and the failures say at a moment; it is stored nowhere, so it
cannot drift. The table of transitions is what tests hold the manager against.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where a version is in its life."""

    ON_STORE = "on_store"
    FETCHING = "fetching"
    ON_DISK = "on_disk"
    LOADING = "loading"
    LOADED = "loaded"
    UNLOADING = "unloading"
    FAILED = "failed"


# A version whose files were changed in place counts as LOADED while the old files serve, and as UNLOADING while those
# leave. So a fetch or a load that fails may end in UNLOADING, and FAILED may follow that.
TRANSITIONS: Final[Mapping[State, frozenset[State]]] = {
    State.ON_STORE: frozenset({State.FETCHING}),
    State.FETCHING: frozenset({State.LOADING, State.ON_DISK, State.ON_STORE, State.FAILED, State.UNLOADING}),
    State.ON_DISK: frozenset({State.LOADING, State.ON_STORE}),
    State.LOADING: frozenset({State.LOADED, State.ON_DISK, State.FAILED, State.FETCHING, State.UNLOADING}),
    State.LOADED: frozenset({State.UNLOADING}),
    State.UNLOADING: frozenset({State.ON_DISK, State.ON_STORE, State.LOADING, State.FETCHING, State.FAILED}),
    State.FAILED: frozenset({State.FETCHING, State.LOADING, State.ON_DISK, State.ON_STORE}),
}


class Phase(StrEnum):
    """How far a flight is."""

    FETCHING = "fetching"
    WAITING_FOR_ROOM = "waiting for room"
    LOADING = "loading"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one version at a moment."""

    in_memory: bool = False
    leaving_memory: bool = False
    on_disk: bool = False
    phase: Phase | None = None
    failed: bool = False


def state_of(facts: Facts) -> State:
    """Return the state that the facts add up to. What serves counts before what happens beside it."""
    if facts.in_memory:
        return State.LOADED
    if facts.phase is Phase.FETCHING:
        return State.FETCHING
    if facts.phase is not None:
        return State.LOADING
    if facts.leaving_memory:
        return State.UNLOADING
    if facts.failed:
        return State.FAILED
    return State.ON_DISK if facts.on_disk else State.ON_STORE
