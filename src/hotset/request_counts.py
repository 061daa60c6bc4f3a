"""What the hot path counts, as plain integers: one list increment a request instead of a library's locks.

The data plane holds one ``RequestCounts`` for each protocol, and the ``Tallies`` of all versions; ``metrics`` reads the
former when the page is asked for, doors show the latter. Nothing here knows Prometheus.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from itertools import accumulate
from typing import Final

from hotset.errors import ErrorKind
from hotset.instruments import REQUEST_BUCKETS
from hotset.keys import ModelKey
from hotset.status import VersionCounts

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


class Tally:
    """The predictions of one version, as ``VersionCounts``. Owned by the event loop."""

    __slots__ = ("answered", "answered_s", "failed", "failed_s", "seen", "waited_s")

    def __init__(self) -> None:
        self.answered = 0
        self.answered_s = 0.0
        self.waited_s = 0.0
        self.failed = 0
        self.failed_s = 0.0
        self.seen = 1  # its first use is no sign that there will be others


class Tallies(dict[ModelKey, Tally]):
    """Tallies by version, made when first asked for, of ``most`` versions at once. Owned by the event loop.

    Past that, one goes that was not used since it was last looked at, in turn: so what is asked for often keeps its
    counts, and the hot path does nothing for it.
    """

    def __init__(self, most: int = 10_000) -> None:
        super().__init__()
        self._most = most

    def __missing__(self, key: ModelKey) -> Tally:
        if len(self) >= self._most:
            self._drop_one()
        tally = self[key] = Tally()
        return tally

    def _drop_one(self) -> None:
        while True:
            key = next(iter(self))
            tally = self.pop(key)
            used = tally.answered + tally.failed
            if used == tally.seen:
                return
            tally.seen = used
            self[key] = tally

    def waited(self, key: ModelKey, seconds: float) -> None:
        """Of an answered request: so long it waited for its version to be in memory."""
        self[key].waited_s += seconds

    def of(self, key: ModelKey) -> VersionCounts:
        """Return the counts of a version, zeros where there are none."""
        tally = self.get(key)
        if tally is None:
            return VersionCounts()
        return VersionCounts(tally.answered, tally.answered_s, tally.waited_s, tally.failed, tally.failed_s)


class RequestCounts:
    """The requests of one protocol: the data plane's observer. Never raises. Owned by the event loop."""

    __slots__ = ("_models", "_tallies", "failed_seconds", "failures", "tiers")

    def __init__(self, tallies: Tallies, models: ModelCounts | None = None) -> None:
        self.tiers: Final = defaultdict[str, Distribution](Distribution)
        self.failures: Final = defaultdict[str, int](int)
        self.failed_seconds: Final = Distribution()
        self._tallies = tallies
        self._models = models

    def ok(self, seconds: float, tier: str, key: ModelKey) -> None:
        """Count a good answer of a version, which is one that the catalog has."""
        found = self.tiers[tier]  # as its ``observe``, without the call
        found.counts[bisect_left(found.bounds, seconds)] += 1
        found.sum += seconds
        tally = self._tallies[key]
        tally.answered += 1
        tally.answered_s += seconds
        if self._models is not None:
            self._models.add(key.name)

    def failed(self, kind: ErrorKind, seconds: float, key: ModelKey | None = None) -> None:
        """Count an error, of a version if it was known by then."""
        self.failures[kind.value] += 1
        self.failed_seconds.observe(seconds)
        if key is not None:
            tally = self._tallies[key]
            tally.failed += 1
            tally.failed_s += seconds
