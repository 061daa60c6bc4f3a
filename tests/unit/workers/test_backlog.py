from __future__ import annotations

import pytest

from hotset.workers.backlog import QUANTUM_S, Backlog, Job, unit_size
from hotset.workers.base import PredictCall


def job(number: int, handle: int) -> Job:
    return Job(number, PredictCall(handle, "native", b""))


def numbers(unit: list[Job]) -> list[int]:
    return [one.number for one in unit]


@pytest.mark.parametrize(
    ("waiting", "threads", "pace_s", "size"),
    [
        (1, 1, 0.0, 1),
        (32, 1, 0.0, 1),  # of unknown pace: one, to learn it
        (32, 1, 1e-6, 32),
        (32, 4, 1e-6, 8),
        (33, 4, 1e-6, 9),
        (2, 8, 1e-6, 1),
        (32, 1, QUANTUM_S / 4, 4),
        (32, 1, 10.0, 1),
    ],
)
def test_unit_size(waiting: int, threads: int, pace_s: float, size: int) -> None:
    assert unit_size(waiting, threads=threads, pace_s=pace_s) == size


def test_all_waiting_calls_of_one_model_are_taken_together_and_in_order() -> None:
    backlog = Backlog(threads=1, pace_s=lambda _: 1e-6)
    backlog.add([job(1, 7), job(2, 8), job(3, 7), job(4, 8)])
    assert numbers(backlog.take()) == [1, 3]
    assert numbers(backlog.take()) == [2, 4]
    assert not backlog


def test_a_slow_model_goes_to_the_end_after_each_call() -> None:
    backlog = Backlog(threads=1, pace_s=lambda handle: 1.0 if handle == 7 else 1e-6)
    backlog.add([job(1, 7), job(2, 7), job(3, 7), job(4, 8)])
    order = []
    while backlog:
        unit = backlog.take()
        order.append(numbers(unit))
        backlog.done(unit[0].call.handle)
    assert order == [[1], [4], [2], [3]]


def test_the_model_on_fewest_threads_comes_first() -> None:
    backlog = Backlog(threads=3, pace_s=lambda _: 1.0)
    backlog.add([job(1, 7), job(2, 7), job(3, 7)])
    assert numbers(backlog.take()) == [1]
    assert numbers(backlog.take()) == [2]  # nobody else wants the thread
    backlog.add([job(4, 8)])
    assert numbers(backlog.take()) == [4]
    backlog.done(7)
    backlog.done(7)
    assert numbers(backlog.take()) == [3]


def test_nothing_is_remembered_of_models_that_are_done() -> None:
    backlog = Backlog(threads=2, pace_s=lambda _: 1.0)
    for handle in range(100):
        backlog.add([job(1, handle)])
        backlog.take()
        backlog.done(handle)
    assert not backlog
    assert not backlog._running
    assert not backlog._waiting
