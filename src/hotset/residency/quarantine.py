"""Which versions end the workers that are at them, and when that is too often: a pure book of deaths and blame.

The manager tells it of each death, and remembers what it names as a failure that is not tried for a while. Of several that were
being loaded or predicted at the moment, each has a share of the blame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hotset.keys import Fingerprint, ModelKey

MOST_BLAME: Final = 2.5
"""Three deaths to which nobody else was near, or five in company."""

QUIET_S: Final = 600.0
"""After so long without another death, those before do not count any more: they were not in a row."""


@dataclass(frozen=True, slots=True)
class Blame:
    """What a version is blamed for. ``alone``: one of the deaths can have had no other reason; ``times``: quarantined so often."""

    fingerprint: Fingerprint
    amount: float
    last_s: float
    alone: bool
    times: int = 0


class Quarantine:
    """Owned by the event loop. Holds versions of the catalog only: ``forget`` those that are gone, or whose files changed."""

    def __init__(self) -> None:
        self._blame: dict[ModelKey, Blame] = {}
        self._last: frozenset[ModelKey] = frozenset()

    def __len__(self) -> int:
        return len(self._blame)

    def note(self, suspects: Mapping[ModelKey, Fingerprint], now_s: float) -> ModelKey | None:
        """Take in a death; return the version that is to be left alone from now on, if that is one too many.

        One at a time: with it gone, it will be seen whether the others go on.
        """
        self._last = frozenset(suspects)
        for key, fingerprint in suspects.items():
            self._blame[key] = self._more(key, fingerprint, 1 / len(suspects), now_s)
        worst = max(suspects, key=lambda key: (self._blame[key].amount, self._blame[key].alone), default=None)
        if worst is None or self._blame[worst].amount < MOST_BLAME:
            return None
        self._quarantine(worst, now_s)
        # Who was never there alone was there because of it.
        self._blame = {key: blame for key, blame in self._blame.items() if blame.alone}
        return worst

    def times(self, key: ModelKey) -> int:
        """Return how often a version was found to be too much, one time after the other."""
        blame = self._blame.get(key)
        return blame.times if blame is not None else 0

    def is_blameless(self, key: ModelKey) -> bool:
        """Whether the last worker that died did so because of something else, as far as that can be known."""
        if not self._last:
            return False  # nobody knows what it was at
        blame = self._blame.get(key)
        return key not in self._last or blame is None or not blame.alone

    def forget(self, key: ModelKey) -> None:
        self._blame.pop(key, None)

    def _more(self, key: ModelKey, fingerprint: Fingerprint, share: float, now_s: float) -> Blame:
        before = self._blame.get(key)
        if before is None or before.fingerprint != fingerprint or now_s - before.last_s > QUIET_S:
            return Blame(fingerprint, share, now_s, alone=share == 1.0)
        return Blame(
            fingerprint, before.amount + share, now_s, alone=before.alone or share == 1.0, times=before.times
        )

    def _quarantine(self, key: ModelKey, now_s: float) -> None:
        """One death more, after it was tried again, will be enough."""
        blame = self._blame[key]
        self._blame[key] = Blame(blame.fingerprint, MOST_BLAME - 1, now_s, alone=True, times=blame.times + 1)
