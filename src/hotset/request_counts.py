"""What the hot path counts, as plain integers: one list increment a request instead of a library's locks.

The data plane holds one ``RequestCounts`` for each protocol; ``metrics`` reads them when the page is asked for.
Nothing here knows Prometheus.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from itertools import accumulate
from typing import Final

from hotset.errors import ErrorKind
from hotset.instruments import REQUEST_BUCKETS

OTHER_MODELS: Final = "_other"
"""Label of the models past the limit. No model has this name, as none starts with an underscore."""


class Distribution:
    """A histogram of seconds; ``bounds`` are the buckets' upper ones, ascending. Owned by the event loop."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...] = REQUEST_BUCKETS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds

    @property
    def total(self) -> int:
        return sum(self.counts)

    def buckets(self) -> list[tuple[str, float]]:
        """Return the counts by upper bound, each with all that is below it."""
        bounds = (*map(repr, self.bounds), "+Inf")
        return list(zip(bounds, accumulate(self.counts), strict=True))


class ModelCounts:
    """Good answers by model, for the first ``limit`` names; the rest are one. Owned by the event loop."""

    __slots__ = ("counts", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.counts: dict[str, int] = {}

    def add(self, name: str) -> None:
        if name not in self.counts and len(self.counts) >= self.limit:
            name = OTHER_MODELS
        self.counts[name] = self.counts.get(name, 0) + 1


class RequestCounts:
    """The requests of one protocol: the data plane's observer. Never raises. Owned by the event loop."""

    __slots__ = ("_models", "failed_seconds", "failures", "tiers")

    def __init__(self, models: ModelCounts | None = None) -> None:
        self.tiers: Final = defaultdict[str, Distribution](Distribution)
        self.failures: Final = defaultdict[str, int](int)
        self.failed_seconds: Final = Distribution()
        self._models = models

    def ok(self, seconds: float, tier: str, model: str | None = None) -> None:
        """Count a good answer; ``model`` is a resolved name, so one that the catalog has."""
        self.tiers[tier].observe(seconds)
        if self._models is not None and model is not None:
            self._models.add(model)

    def failed(self, kind: ErrorKind, seconds: float) -> None:
        """Count an error."""
        self.failures[kind.value] += 1
        self.failed_seconds.observe(seconds)
