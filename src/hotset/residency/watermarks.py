"""What real memory says about what to do: nothing, evict, or load nothing more. Pure; the guard acts on it.

Weights are what models took when they were loaded. What predictions allocate, what a framework keeps and what others on the
machine take is in no weight, so what is really taken is looked at, against three marks of the limit:

* above ``high``, the least recently used leave until it is below ``low``: two marks, so that one load more or less is not
  one eviction more or less;
* above ``critical``, nothing is loaded.

Where the system tells how long things waited for memory (pressure stall information), it counts as high when that is too
long: memory may be short although much of it looks free. But only while a good part of the limit is taken by us: else the
shortage is another's, and models that leave end it for nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

STALL_STEP: Final = 8
"""Where stalls alone say that memory is short, nobody knows how much is missing: an eighth of what models take goes at a time."""
OURS: Final = 0.5
"""Stalls count while so much of the limit is taken."""


class Level(StrEnum):
    """How short memory is."""

    NORMAL = "normal"
    HIGH = "high"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Watermarks:
    """Shares of the limit, ascending. ``stall`` is a share of time; None where stalls do not count."""

    low: float
    high: float
    critical: float
    stall: float | None = None


@dataclass(frozen=True, slots=True)
class MemoryReading:
    """A moment of real memory. ``stall`` is the share of the last seconds in which something waited for it, None if unknown."""

    taken_bytes: int
    limit_bytes: int
    stall: float | None = None

    @property
    def share(self) -> float:
        return self.taken_bytes / self.limit_bytes


@dataclass(frozen=True, slots=True)
class Verdict:
    """``excess_bytes`` is what has to come back; ``is_stalled`` that it is because of stalls alone."""

    level: Level
    excess_bytes: int = 0
    is_stalled: bool = False


def judge(
    reading: MemoryReading, marks: Watermarks, *, was_evicting: bool, models_bytes: int, stalls_count: bool
) -> Verdict:
    """Return what follows from a reading.

    Who was evicting goes on until ``low``. ``stalls_count`` is False for a while after an eviction: the mean that the system
    tells is still that of before.
    """
    level = _level(reading, marks)
    excess_bytes = reading.taken_bytes - int(reading.limit_bytes * marks.low)
    if excess_bytes > 0 and (level is not Level.NORMAL or was_evicting):
        return Verdict(level if level is not Level.NORMAL else Level.HIGH, excess_bytes)
    if stalls_count and _is_stalled(reading, marks):
        return Verdict(Level.HIGH, max(1, models_bytes // STALL_STEP), is_stalled=True)
    return Verdict(level)


def _level(reading: MemoryReading, marks: Watermarks) -> Level:
    if reading.share > marks.critical:
        return Level.CRITICAL
    return Level.HIGH if reading.share > marks.high else Level.NORMAL


def _is_stalled(reading: MemoryReading, marks: Watermarks) -> bool:
    return (
        marks.stall is not None
        and reading.stall is not None
        and reading.stall > marks.stall
        and reading.share > OURS
    )
