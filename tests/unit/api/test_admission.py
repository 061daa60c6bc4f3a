"""Who is refused while a replica is busy, and until when: bare values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotset.api.admission import (
    FORGOTTEN_S,
    MOST_PACES,
    MOST_RETRY_S,
    SHARE,
    Admission,
    Bound,
    Bounds,
    Pace,
    exceeded,
    retry_after_s,
)
from hotset.errors import ErrorKind, OverloadedError
from hotset.keys import ModelRef
from hotset.status import Demand
from unit.api.scripted import ManualTime

QUEUE = Bounds(100)


@pytest.mark.parametrize(
    ("bounds", "inside", "demand", "expected"),
    [
        (QUEUE, 99, Demand(0), None),
        (QUEUE, 100, Demand(0), Bound.QUEUE),
        (QUEUE, 79, Demand(79), None),
        (QUEUE, 80, Demand(80), Bound.MODEL),
        (QUEUE, 80, Demand(79), None),
        (QUEUE, 99, Demand(3), None),
        (QUEUE, 99, Demand(4), Bound.MODEL),
        (QUEUE, 49, Demand(49, leased=0), None),
        (QUEUE, 50, Demand(50, leased=0), Bound.MODEL),
        (QUEUE, 50, Demand(0, leased=0), None),
        (QUEUE, 80, Demand(0, leased=0), Bound.LOADING),
        (QUEUE, 80, Demand(0, leased=1), None),
        (QUEUE, 80, Demand(0, leased=80), None),
        (Bounds(100, 8), 50, Demand(7), None),
        (Bounds(100, 8), 50, Demand(8), Bound.MODEL),
        (Bounds(100, 1000), 99, Demand(99), None),
        (Bounds(100, 1000), 100, Demand(100), Bound.QUEUE),
        (Bounds(2), 1, Demand(1), None),
        (Bounds(1), 0, Demand(0), None),
    ],
)
def test_the_bound_that_one_request_more_goes_past(
    bounds: Bounds, inside: int, demand: Demand, expected: Bound | None
) -> None:
    assert exceeded(bounds, inside, demand) is expected


@given(
    queue=st.integers(1, 2000),
    model=st.none() | st.integers(1, 2000),
    inside=st.integers(0, 2000),
    demand=st.tuples(st.integers(0, 2000), st.none() | st.integers(0, 2000)),
)
def test_nobody_is_refused_before_it_is_crowded(
    queue: int, model: int | None, inside: int, demand: tuple[int, int | None]
) -> None:
    """So below that the data plane need not ask."""
    bounds = Bounds(queue, model)
    of_model = min(demand[0], inside)
    leased = None if demand[1] is None else min(demand[1], inside)
    if exceeded(bounds, inside, Demand(of_model, leased=leased)) is not None:
        assert inside >= bounds.crowded_from


@given(queue=st.integers(SHARE + 1, 3000), flooded=st.integers(1, 20))
def test_however_many_models_are_flooded_there_is_a_place_for_another(queue: int, flooded: int) -> None:
    """Requests for the flooded models come in until all of them are refused; then one for a quiet model comes in."""
    bounds = Bounds(queue)
    inside = [0] * flooded
    while True:
        admitted = [
            number
            for number in range(flooded)
            if exceeded(bounds, sum(inside), Demand(inside[number])) is None
        ]
        if not admitted:
            break
        inside[min(admitted, key=lambda number: inside[number])] += 1
    assert max(inside) - min(inside) <= 1, "they get the same"
    if queue > SHARE * flooded:
        assert exceeded(bounds, sum(inside), Demand(0)) is None
        assert queue - sum(inside) >= queue // (1 + SHARE * flooded)


@pytest.mark.parametrize(
    ("queued", "per_s", "expected_s"),
    [
        (100, None, 1.0),
        (100, 1000.0, 1.0),
        (100, 10.0, 10.0),
        (100, 1.0, 30.0),
        (100, 0.0, 30.0),
        (0, 5.0, 1.0),
    ],
)
def test_it_is_worth_asking_again_once_the_queue_has_drained(
    queued: int, per_s: float | None, expected_s: float
) -> None:
    assert retry_after_s(queued, per_s, 0) == pytest.approx(expected_s)


def test_those_who_are_refused_together_come_back_one_by_one() -> None:
    told = [retry_after_s(100, 10.0, number) for number in range(1, 101)]
    assert all(10.0 <= at <= 15.0 for at in told)
    by_tenth = [sum(10 + tenth / 2 <= at < 10.5 + tenth / 2 for at in told) for tenth in range(10)]
    assert min(by_tenth) >= 8, by_tenth
    assert max(retry_after_s(10_000, 1.0, number) for number in range(100)) == MOST_RETRY_S


def test_a_pace_is_what_has_left_in_the_last_seconds() -> None:
    pace = Pace()
    assert pace.seen(10.0, 500) is None, "the first one says nothing"
    assert pace.seen(10.1, 500) is None, "nor does a moment"
    assert pace.seen(10.5, 550) == pytest.approx(100.0)
    assert pace.seen(11.0, 600) == pytest.approx(100.0)
    assert pace.seen(11.5, 600) == pytest.approx(100.0 / 1.5)
    assert pace.seen(12.0, 600) == pytest.approx(50.0), "from the mark before the last"
    assert pace.seen(12.9, 600) == pytest.approx(0.0), "what was before that does not count"


def test_a_pace_that_is_old_or_of_another_queue_is_none() -> None:
    pace = Pace()
    pace.seen(10.0, 500)
    assert pace.seen(10.0 + FORGOTTEN_S + 0.1, 900) is None
    assert pace.seen(21.0, 10) is None, "what had been counted has left memory meanwhile"
    assert pace.seen(22.0, 60) == pytest.approx(50.0)


def test_a_refusal_names_the_bound_and_computes_the_time() -> None:
    clock = ManualTime()
    demands = {"flooded": Demand(80, left=0), "cold": Demand(0, leased=0)}
    admission = Admission(QUEUE, demand=lambda ref: demands.get(ref.name, Demand(0)), clock=clock)

    def refused(name: str, inside: int, *, left: int = 0, loaded: int = 0) -> OverloadedError:
        with pytest.raises(OverloadedError) as error:
            admission.check(ModelRef(name), inside=inside, left=left, loaded=loaded)
        assert error.value.kind is ErrorKind.OVERLOADED
        return error.value

    assert "'flooded'" in str(refused("flooded", 80))
    clock.now_s += 1.0
    demands["flooded"] = Demand(80, left=8)
    assert 10.0 <= (refused("flooded", 80).retry_after_s or 0.0) <= 15.0

    assert "being loaded" in str(refused("cold", 80))
    clock.now_s += 1.0
    assert 20.0 <= (refused("cold", 80, loaded=4).retry_after_s or 0.0) <= 30.0

    assert "at most 100" in str(refused("other", 100, left=0))
    clock.now_s += 1.0
    assert 5.0 <= (refused("other", 100, left=20).retry_after_s or 0.0) <= 7.5
    assert admission.refusals == {"queue": 2, "model": 2, "loading": 2}
    admission.check(ModelRef("other"), inside=99, left=0, loaded=0)


def test_what_is_known_of_refused_models_is_bounded() -> None:
    admission = Admission(Bounds(10, 1), demand=lambda _: Demand(1), clock=ManualTime())
    for number in range(2 * MOST_PACES + 1):
        with pytest.raises(OverloadedError):
            admission.check(ModelRef(f"m{number}"), inside=5, left=0, loaded=0)
    assert len(admission._models) <= MOST_PACES
