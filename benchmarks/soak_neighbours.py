"""What the soak asks of models that nothing happens to: slow and broken ones do not delay them, nor do thousands of others.

Pure; ``soak.py`` measures. Rates and times are compared with those of the same minute, never with a figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

LEAST_PHASES: Final = 4
"""So many of each are compared; fewer say nothing."""

LEAST_RATE: Final = 0.5
"""Of the rate in peace. Who waits for a slow load or predict answers next to nothing in its time."""

MOST_COST: Final = 1.5
"""Times the cost with few models. To look at each of thousands costs more, in any language of ours."""

TENTH: Final = 10


@dataclass(slots=True)
class Neighbours:
    """How many answers a second calm models gave, in phases with a slow load or predict beside them, and without."""

    beside: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)

    def note(self, rate: float, *, is_beside: bool) -> None:
        (self.beside if is_beside else self.alone).append(rate)

    @property
    def ratio(self) -> float | None:
        """How much of their rate in peace they have beside slow models; None where too little was seen."""
        if min(len(self.beside), len(self.alone)) < LEAST_PHASES:
            return None
        return median(self.beside) / median(self.alone)

    def delayed(self) -> list[str]:
        if self.ratio is None or self.ratio >= LEAST_RATE:
            return []
        beside, alone = median(self.beside), median(self.alone)
        return [f"a slow model delays others: {beside:.0f} answers a second beside it, {alone:.0f} without"]


@dataclass(frozen=True, slots=True)
class Scale:
    """How long hot answers took, in seconds: with few models in the store before and after, and with many in between."""

    few: Sequence[Sequence[float]]
    many: Sequence[float]
    models: int

    @property
    def ratio(self) -> float:
        return _quick(self.many) / max(map(_quick, self.few))

    def dearer(self) -> list[str]:
        if self.ratio <= MOST_COST:
            return []
        return [f"with {self.models} models more, a hot request takes {self.ratio:.2f} times as long"]


def _quick(took_s: Sequence[float]) -> float:
    """What a tenth of them did not exceed: neither a pass over the store nor the machine's other work is in it."""
    return sorted(took_s)[len(took_s) // TENTH]
