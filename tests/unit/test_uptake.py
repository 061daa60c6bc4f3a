"""Whether a client takes its answers, as a connection asks at each sweep."""

from __future__ import annotations

from hotset.uptake import LEAST_TAKEN_BYTES, Uptake

LIMIT_S = 75.0
MUCH = 10 * LEAST_TAKEN_BYTES


def test_one_that_takes_nothing_is_stuck_once_its_time_is_over() -> None:
    uptake = Uptake(0.0, limit_s=LIMIT_S)
    assert not uptake.is_stuck(MUCH, 1.0)
    assert not uptake.is_stuck(MUCH, 1.0 + LIMIT_S)
    assert uptake.is_stuck(MUCH, 1.1 + LIMIT_S)


def test_a_byte_now_and_then_is_not_enough() -> None:
    uptake = Uptake(0.0, limit_s=LIMIT_S)
    unsent = [uptake.is_stuck(MUCH - second, float(second)) for second in range(int(LIMIT_S) + 3)]
    assert unsent == [False] * (len(unsent) - 2) + [True] * 2


def test_who_takes_enough_has_its_time_anew() -> None:
    uptake = Uptake(0.0, limit_s=LIMIT_S)
    left = MUCH
    for turn in range(5):
        assert not uptake.is_stuck(left, turn * LIMIT_S)
        left -= LEAST_TAKEN_BYTES


def test_who_has_taken_all_is_never_stuck() -> None:
    uptake = Uptake(0.0, limit_s=LIMIT_S)
    assert not uptake.is_stuck(100, 1.0)
    assert not uptake.is_stuck(0, 2.0)
    assert not uptake.is_stuck(0, 3.0 + LIMIT_S)
    assert not uptake.is_stuck(100, 1000.0)
    assert not uptake.is_stuck(100, 1000.0 + LIMIT_S)
