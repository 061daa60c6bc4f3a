from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotset.workers.placement import WorkerLoad, place


def worker(number: int, *, used: int = 0, models: int = 0, queued: int = 0) -> WorkerLoad:
    return WorkerLoad(id=number, bytes=used, models=models, queued=queued)


def test_the_only_worker_gets_it() -> None:
    assert place([worker(3, used=10**12, queued=99)]) == 3


def test_most_room_wins() -> None:
    assert place([worker(0, used=100), worker(1, used=50), worker(2, used=70)]) == 1


def test_among_those_with_about_as_much_room_the_shortest_queue_wins() -> None:
    workers = [worker(0, used=100, queued=9), worker(1, used=110, queued=2), worker(2, used=500)]
    assert place(workers, need_bytes=20) == 1
    assert place(workers) == 0


def test_ties_go_to_fewest_bytes_then_fewest_models_then_the_first() -> None:
    assert place([worker(0, used=2), worker(1, used=1)], need_bytes=5) == 1
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
)


@given(st.lists(loads, min_size=1, max_size=6, unique_by=lambda one: one.id), st.integers(0, 50))
def test_the_choice_never_depends_on_the_order_and_never_overfills(
    candidates: list[WorkerLoad], need_bytes: int
) -> None:
    chosen = place(candidates, need_bytes=need_bytes)
    assert place(candidates[::-1], need_bytes=need_bytes) == chosen
    (one,) = (candidate for candidate in candidates if candidate.id == chosen)
    assert one.bytes <= min(candidate.bytes for candidate in candidates) + need_bytes
