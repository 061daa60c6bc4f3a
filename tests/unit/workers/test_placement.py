from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotset.workers.placement import MEMORY_S, CallRate, Home, OwnRule, WorkerLoad, home, place, suits


def worker(
    number: int, *, used: int = 0, models: int = 0, queued: int = 0, loading: int = 0, calls: float = 0.0
) -> WorkerLoad:
    return WorkerLoad(id=number, bytes=used, models=models, queued=queued, loading=loading, calls_per_s=calls)


def test_the_only_worker_gets_it() -> None:
    assert place([worker(3, used=10**12, queued=99, calls=1e5)]) == 3


def test_a_load_goes_where_the_fewest_predictions_wait_for_it() -> None:
    assert place([worker(0, calls=200), worker(1, calls=20, loading=3, queued=9, used=10**9)]) == 1
    assert place([worker(0, calls=5), worker(1, calls=0, loading=4)]) == 1


def test_workers_about_as_calm_share_the_loads() -> None:
    assert place([worker(0, calls=900, loading=2), worker(1, calls=1100, loading=1)]) == 1
    assert place([worker(0, loading=1), worker(1, calls=0.9)]) == 1


def test_ties_go_to_the_shortest_queue_then_fewest_bytes_then_fewest_models_then_the_first() -> None:
    assert place([worker(0, queued=2), worker(1, queued=1, used=99)]) == 1
    assert place([worker(0, used=2), worker(1, used=1, models=9)]) == 1
    assert place([worker(0, models=2), worker(1, models=1)]) == 1
    assert place([worker(1), worker(0)]) == 0


def test_no_candidate_is_the_callers_fault() -> None:
    with pytest.raises(ValueError, match="no worker"):
        place([])


loads = st.builds(
    WorkerLoad,
    id=st.integers(0, 9),
    bytes=st.integers(0, 99),
    models=st.integers(0, 9),
    queued=st.integers(0, 9),
    loading=st.integers(0, 3),
    calls_per_s=st.floats(0, 1e6),
)


@given(st.lists(loads, min_size=1, max_size=6, unique_by=lambda one: one.id))
def test_the_choice_never_depends_on_the_order_and_is_never_far_from_the_calmest(
    candidates: list[WorkerLoad],
) -> None:
    chosen = place(candidates)
    assert place(candidates[::-1]) == chosen
    (one,) = (candidate for candidate in candidates if candidate.id == chosen)
    assert one.calls_per_s <= 2 * min(candidate.calls_per_s for candidate in candidates) + 1


def test_a_steady_rate_is_found_however_often_it_is_looked_at() -> None:
    often, seldom = CallRate(), CallRate()
    for step in range(1001):
        now_s = step * 0.01
        often.at(now_s, step * 2)
        if step % 250 == 0:
            seldom.at(now_s, step * 2)
    assert often.at(10.0, 2000) == pytest.approx(200, rel=0.01)
    assert seldom.at(10.0, 2000) == pytest.approx(200, rel=0.01)


def test_what_is_past_is_forgotten() -> None:
    rate = CallRate()
    rate.at(0.0, 0)
    assert rate.at(10 * MEMORY_S, 20_000) > 900
    assert rate.at(20 * MEMORY_S, 20_000) < 1


def test_a_rate_is_never_negative_and_needs_no_time_between_looks() -> None:
    rate = CallRate()
    assert rate.at(1.0, 5) == 0
    assert rate.at(1.0, 7) == 0
    assert rate.at(2.0, 3) == 0


def test_a_worker_about_as_good_as_the_best_suits() -> None:
    both = [worker(0, calls=900, loading=1), worker(1, calls=1100, loading=2, queued=9, used=10**9)]
    assert suits(both, 0)
    assert suits(both, 1)


def test_a_busy_worker_or_one_with_loads_enough_does_not_suit() -> None:
    assert not suits([worker(0, calls=200), worker(1, calls=20)], 0)
    assert not suits([worker(0, loading=2), worker(1)], 0)
    assert suits([worker(0, loading=2), worker(1, calls=99)], 0), "the calm one has no fewer"


def test_a_worker_that_is_not_there_does_not_suit() -> None:
    assert not suits([worker(0)], 7)


LARGE_ALONE = OwnRule(above_bytes=100, most=2)
ALL_ALONE = OwnRule(everyone=True, most=2)


@pytest.mark.parametrize(
    ("rule", "expected_bytes", "keeps_memory", "running", "expected"),
    [
        (LARGE_ALONE, 100, False, 0, Home.SHARED),
        (LARGE_ALONE, 101, False, 1, Home.OWN),
        (LARGE_ALONE, 101, False, 2, Home.SHARED),
        (LARGE_ALONE, 0, True, 1, Home.OWN),
        (LARGE_ALONE, 0, True, 2, Home.FULL),
        (LARGE_ALONE, 101, True, 2, Home.FULL),
        (ALL_ALONE, 0, False, 1, Home.OWN),
        (ALL_ALONE, 10**12, False, 2, Home.FULL),
        (OwnRule(), 10**15, False, 0, Home.SHARED),
        (OwnRule(), 0, True, 0, Home.OWN),
    ],
)
def test_who_lives_alone(
    rule: OwnRule, expected_bytes: int, keeps_memory: bool, running: int, expected: Home
) -> None:
    found = home(rule, expected_bytes=expected_bytes, keeps_memory=keeps_memory, running=running)
    assert found is expected
