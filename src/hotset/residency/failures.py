"""Versions that could not be loaded: remembered with the reason until a retry is due, forgotten when files change.

Held by the residency manager. Only versions of the catalog get in, so it is bounded by what the store holds.
"""

from __future__ import annotations

from dataclasses import dataclass

from hotset.errors import CapacityError, ErrorKind, HotsetError, LoadFailedError
from hotset.keys import Fingerprint, ModelKey


@dataclass(frozen=True, slots=True)
class Failure:
    """The last failure of a version; ``count`` of them came one after the other.

    Not the error itself: that holds the frames it went through, and with them the bodies of requests.
    """

    fingerprint: Fingerprint
    kind: ErrorKind
    reason: str
    is_capacity: bool
    count: int
    retry_at_s: float

    def stands_before(self, error: HotsetError, now_s: float) -> bool:
        """Whether this is a quarantine that is not over, and ``error`` is none."""
        is_quarantine = self.kind is ErrorKind.QUARANTINED
        return is_quarantine and error.kind is not ErrorKind.QUARANTINED and self.retry_at_s > now_s


def backoff_s(count: int, *, first_s: float, most_s: float) -> float:
    """Return how long to wait after the ``count``-th failure in a row: doubled each time, up to ``most_s``."""
    return min(most_s, first_s * 2.0 ** min(count - 1, 30))


class Failures:
    """Owned by the event loop."""

    def __init__(self, *, first_s: float, most_s: float) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._failures: dict[ModelKey, Failure] = {}

    def __len__(self) -> int:
        return len(self._failures)

    def get(self, key: ModelKey, fingerprint: Fingerprint) -> Failure | None:
        """Return the failure of these very files, or None."""
        failure = self._failures.get(key)
        return failure if failure is not None and failure.fingerprint == fingerprint else None

    def note(
        self, key: ModelKey, fingerprint: Fingerprint, error: HotsetError, now_s: float, *, least: int = 1
    ) -> Failure:
        """Remember a failure, as the ``least``-th in a row at least: loads that went well may have come in between.

        What is quarantined stays so: the load that was one too many fails, too, and says less.
        """
        previous = self.get(key, fingerprint)
        if previous is not None and previous.stands_before(error, now_s):
            return previous
        count = max(least, previous.count + 1 if previous else 1)
        wait_s = backoff_s(count, first_s=self._first_s, most_s=self._most_s)
        failure = Failure(
            fingerprint, error.kind, str(error), isinstance(error, CapacityError), count, now_s + wait_s
        )
        self._failures[key] = failure
        return failure

    def keys(self, now_s: float) -> frozenset[ModelKey]:
        """Return what may not be tried yet."""
        return frozenset(key for key, failure in self._failures.items() if failure.retry_at_s > now_s)

    def forget(self, key: ModelKey) -> None:
        self._failures.pop(key, None)

    def forget_all(self) -> None:
        self._failures.clear()

    def refuse(self, key: ModelKey, fingerprint: Fingerprint, now_s: float) -> None:
        """Return if a load may be tried.

        Raises:
            LoadFailedError, CapacityError: the remembered failure, with the time that is left until the retry.
        """
        failure = self.get(key, fingerprint)
        if failure is None or failure.retry_at_s <= now_s:
            return
        kept: type[HotsetError] = CapacityError if failure.is_capacity else LoadFailedError
        raise kept(failure.reason, kind=failure.kind, retry_after_s=failure.retry_at_s - now_s)
