"""What came of the requests: counts, seconds by the tier that held the model, and every answer checked. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from hotset.demo.connection import Answer
from hotset.demo.fares import FareStore
from hotset.demo.traffic import Ask

MOST_REASONS: Final = 5
TOLERANCE: Final = 1e-9
NO_FETCH: Final = "fetch;dur=0.0,"


class Tier(StrEnum):
    """Where the model of an answered request was when it was asked for."""

    MEMORY = "memory"
    DISK = "disk"
    STORE = "store"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One answer, judged: who answered, from where and how fast, and what is wrong with it (empty: nothing)."""

    city: str
    version: int
    tier: Tier
    seconds: float
    price: float
    wrong: str = ""


def judge(ask: Ask, answer: Answer, fares: FareStore) -> Verdict:
    """Return the verdict on a good answer: it must come from the version asked for, and be what that one says."""
    version = int(answer.headers["x-model-version"])
    price = float(answer.json()["predictions"][0])
    expected = fares.price(ask.city, version, ask.ride)
    wrong = ""
    if ask.version not in {None, version}:
        wrong = f"{ask.city}@{ask.version} was answered by version {version}"
    elif expected is None:
        wrong = f"{ask.city} has no version {version}"
    elif not math.isclose(price, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
        wrong = f"{ask.city}@{version} answered {price}, expected {expected}"
    return Verdict(ask.city, version, _tier_of(answer), answer.seconds, price, wrong)


def _tier_of(answer: Answer) -> Tier:
    """Tell by what the server had to do first: a miss says how long it fetched and loaded."""
    timing = answer.headers.get("server-timing")
    if timing is None:
        return Tier.MEMORY
    return Tier.DISK if NO_FETCH in timing else Tier.STORE


@dataclass(slots=True)
class Tally:
    """The counts of a run. Owned by the event loop."""

    failures: int = 0
    wrong: int = 0
    seconds: dict[Tier, list[float]] = field(default_factory=lambda: {tier: [] for tier in Tier})
    reasons: list[str] = field(default_factory=list)
    newest: dict[Tier, Verdict] = field(default_factory=dict)

    @property
    def answered(self) -> int:
        return sum(map(len, self.seconds.values()))

    @property
    def done(self) -> int:
        return self.answered + self.failures

    def share(self, tier: Tier) -> float:
        """Return the part of the good answers whose model this tier held."""
        return len(self.seconds[tier]) / self.answered if self.answered else 0.0

    def note(self, verdict: Verdict) -> None:
        self.seconds[verdict.tier].append(verdict.seconds)
        self.newest[verdict.tier] = verdict
        if verdict.wrong:
            self.wrong += 1
            self._keep(verdict.wrong)

    def note_failure(self, reason: str) -> None:
        self.failures += 1
        self._keep(reason)

    def _keep(self, reason: str) -> None:
        if len(self.reasons) < MOST_REASONS:
            self.reasons.append(reason)


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the value that ``share`` of ``values`` do not exceed, or None if there are none."""
    if not values:
        return None
    return sorted(values)[min(len(values) - 1, math.ceil(share * len(values)) - 1)]
