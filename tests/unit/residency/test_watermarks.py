from __future__ import annotations

import pytest

from hotset.residency.watermarks import Level, MemoryReading, Verdict, Watermarks, judge

MARKS = Watermarks(low=0.8, high=0.9, critical=0.95, stall=0.3)


def judged(
    taken: int, *, stall: float | None = None, was_evicting: bool = False, stalls_count: bool = True
) -> Verdict:
    """Of a limit of 1,000."""
    reading = MemoryReading(taken, 1000, stall)
    return judge(reading, MARKS, was_evicting=was_evicting, models_bytes=400, stalls_count=stalls_count)


@pytest.mark.parametrize(
    ("taken", "level", "excess"),
    [
        (0, Level.NORMAL, 0),
        (850, Level.NORMAL, 0),
        (900, Level.NORMAL, 0),
        (901, Level.HIGH, 101),
        (950, Level.HIGH, 150),
        (951, Level.CRITICAL, 151),
        (1200, Level.CRITICAL, 400),
    ],
)
def test_above_high_all_above_low_has_to_come_back(taken: int, level: Level, excess: int) -> None:
    assert judged(taken) == Verdict(level, excess)


@pytest.mark.parametrize(
    ("taken", "level", "excess"), [(850, Level.HIGH, 50), (801, Level.HIGH, 1), (800, Level.NORMAL, 0)]
)
def test_who_evicts_goes_on_until_low(taken: int, level: Level, excess: int) -> None:
    assert judged(taken, was_evicting=True) == Verdict(level, excess)


def test_a_stall_takes_an_eighth_of_the_models() -> None:
    assert judged(600, stall=0.31) == Verdict(Level.HIGH, 50, is_stalled=True)


@pytest.mark.parametrize("stall", [None, 0.0, 0.3])
def test_no_or_a_short_stall_is_nothing(stall: float | None) -> None:
    assert judged(600, stall=stall) == Verdict(Level.NORMAL)


def test_a_stall_is_anothers_while_little_is_taken_by_us() -> None:
    assert judged(500, stall=0.9) == Verdict(Level.NORMAL)


def test_a_stall_is_old_for_a_while_after_an_eviction() -> None:
    assert judged(600, stall=0.9, stalls_count=False) == Verdict(Level.NORMAL)


def test_stalls_can_be_turned_off() -> None:
    reading = MemoryReading(600, 1000, 0.9)
    marks = Watermarks(0.8, 0.9, 0.95)
    assert judge(reading, marks, was_evicting=False, models_bytes=400, stalls_count=True) == Verdict(
        Level.NORMAL
    )
