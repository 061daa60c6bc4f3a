"""Where a model goes: a pure choice between workers. Called by the pool before a load; it never acts.

A load keeps the interpreter of its worker busy, and whatever predicts there waits for it, so it goes where the fewest
predictions would wait. Followed over time, that sorts the models: the worker with most of the traffic gets no new ones
and keeps those that are asked for, and newcomers come and go in the others.

Before that it is settled whether the model is to share a worker at all, or gets a child process of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

MEMORY_S: Final = 2.0
"""The rate of calls forgets what is a few times older than this."""
AS_CALM: Final = 2.0
"""A worker with at most this many times the calls of the calmest is as good a place: the rates are never quite equal."""
NEXT_TO_NONE: Final = 1.0
"""Calls per second that do not count."""


class Home(Enum):
    """Where a model lives: with others, or in a child of its own; with FULL it needs one, and there may be no more of them."""

    SHARED = "shared"
    OWN = "own"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class OwnRule:
    """Which models get a child of their own: ``everyone``, or those of more than ``above_bytes`` (None: of no size), and in
    either case those that keep memory until their process ends. ``most``: there may be so many such children.
    """

    everyone: bool = False
    above_bytes: int | None = None
    most: int = 64

    @property
    def least_bytes(self) -> float:
        """What weighs more gets a child of its own, if there may be one more."""
        if self.everyone:
            return -math.inf
        return math.inf if self.above_bytes is None else self.above_bytes


def home(rule: OwnRule, *, expected_bytes: int, keeps_memory: bool, running: int) -> Home:
    """Return where a model goes, while so many children of models of their own are ``running``.

    What is merely large is as right in a shared worker; what must not share waits for its turn.
    """
    must = rule.everyone or keeps_memory
    if not must and expected_bytes <= rule.least_bytes:
        return Home.SHARED
    if running < rule.most:
        return Home.OWN
    return Home.FULL if must else Home.SHARED


class WorkerLoad(NamedTuple):
    """One worker as the choice sees it: ``bytes`` held or reserved, ``models`` held, calls ``queued``, loads that run.

    ``calls_per_s`` are predictions of late that did not need a load first.
    """

    id: int
    bytes: int
    models: int
    queued: int
    loading: int = 0
    calls_per_s: float = 0.0


class CallRate:
    """The calls of one worker per second, of late. Told the sum of all so far, at any moments."""

    def __init__(self) -> None:
        self._per_s = 0.0
        self._calls = 0
        self._at_s: float | None = None

    def at(self, now_s: float, calls: int) -> float:
        """Return the rate, with the calls since it was last asked for."""
        if self._at_s is None:
            self._at_s, self._calls = now_s, calls
        passed_s = now_s - self._at_s
        if passed_s > 0:
            weight = 1.0 - math.exp(-passed_s / MEMORY_S)
            self._per_s += weight * (max(0, calls - self._calls) / passed_s - self._per_s)
            self._at_s, self._calls = now_s, calls
        return self._per_s


def suits(candidates: Sequence[WorkerLoad], worker: int) -> bool:
    """Whether a load disturbs not much more there than in the best place, and starts not much later: it is as calm as
    the calmest, and has at most one load more under way than the calm one with the fewest.

    Not if it is no candidate.
    """
    calm = _calm(candidates)
    loading = [it.loading for it in calm if it.id == worker]
    return bool(loading) and loading[0] <= min([it.loading for it in calm]) + 1


def place(candidates: Sequence[WorkerLoad]) -> int:
    """Return the id of a worker whose predictions a load disturbs least: of those as calm as the calmest, the one
    with the fewest loads under way, then the shortest queue, then most room.

    Raises:
        ValueError: there is no candidate.
    """
    if not candidates:
        raise ValueError("no worker to place a model on")
    if len(candidates) == 1:
        return candidates[0].id
    return min(
        [
            (worker.loading, worker.queued, worker.bytes, worker.models, worker.id)
            for worker in _calm(candidates)
        ]
    )[-1]


def _calm(candidates: Sequence[WorkerLoad]) -> list[WorkerLoad]:
    """Those of at least one that are as calm as the calmest."""
    limit = AS_CALM * min([worker.calls_per_s for worker in candidates]) + NEXT_TO_NONE
    return [worker for worker in candidates if worker.calls_per_s <= limit]
