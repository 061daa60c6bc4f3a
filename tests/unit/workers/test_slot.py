"""The books of one worker's place."""

from __future__ import annotations

import pytest

from hotset.keys import ModelKey
from hotset.status import WorkerStatus
from hotset.testing import FakeWorker, WorkerScript
from hotset.workers.placement import WorkerLoad
from hotset.workers.slot import STEADY_S, Slot

A, B = (ModelKey(name, 1) for name in "ab")


def worker(number: int = 1) -> FakeWorker:
    return FakeWorker(number, lambda _reason: None, WorkerScript())


@pytest.fixture(name="here")
def _here() -> FakeWorker:
    return worker()


@pytest.fixture(name="slot")
def _slot(here: FakeWorker) -> Slot:
    slot = Slot(1)
    slot.come_up(here, 0.0)
    return slot


def test_what_is_expected_counts_until_it_is_weighed(slot: Slot, here: FakeWorker) -> None:
    slot.begin_load(7, A, 1000)
    assert slot.load(here, 0.0) == WorkerLoad(1, 1000, 1, 0, loading=1)
    slot.finish_load(here, 1000, 40)
    assert slot.load(here, 0.0) == WorkerLoad(1, 40, 1, 0)
    slot.take_off(here, 40)
    assert slot.load(here, 0.0) == WorkerLoad(1, 0, 0, 0)


def test_a_load_that_fails_leaves_nothing(slot: Slot, here: FakeWorker) -> None:
    slot.begin_load(7, A, 1000)
    slot.fail_load(here, 1000)
    assert slot.load(here, 0.0) == WorkerLoad(1, 0, 0, 0)


def test_a_swap_is_in_at_once(slot: Slot, here: FakeWorker) -> None:
    slot.swap_in(40)
    assert slot.load(here, 0.0) == WorkerLoad(1, 40, 1, 0)


@pytest.mark.parametrize("ends", ["finish_load", "fail_load", "take_off"])
def test_what_ends_after_its_worker_changes_nothing_for_the_next_one(
    slot: Slot, here: FakeWorker, ends: str
) -> None:
    slot.begin_load(7, A, 1000)
    slot.die(1.0)
    after = worker()
    slot.come_up(after, 2.0)
    slot.begin_load(8, B, 10)
    getattr(slot, ends)(here, 1000, *([40] if ends == "finish_load" else []))
    assert slot.load(after, 2.0) == WorkerLoad(1, 10, 1, 0, loading=1)


def test_the_first_call_after_a_load_is_no_traffic(slot: Slot, here: FakeWorker) -> None:
    slot.load(here, 0.0)
    slot.begin_load(7, A, 10)
    slot.finish_load(here, 10, 10)
    here.calls = 1
    assert slot.load(here, 1.0).calls_per_s == 0
    here.calls = 2
    assert slot.load(here, 2.0).calls_per_s > 0


def test_what_was_in_a_dead_worker_is_known_until_the_next_one_comes(slot: Slot) -> None:
    handler = 0
    for handle, key in ((7, B), (8, A), (9, A)):
        slot.begin_load(handle, key, 10)
    slot.die(1.0)
    assert slot.versions([handler, 9, 8, 7]) == [A, B]
    slot.come_up(worker(), 2.0)
    assert slot.versions([7, 8, 9]) == []


def test_deaths_in_a_row_are_those_of_workers_that_died_young(slot: Slot) -> None:
    slot.die(STEADY_S - 1)
    assert (slot.deaths_in_a_row, slot.restarts) == (1, 1)
    slot.come_up(worker(), 100.0)
    slot.die(100.0 + STEADY_S - 1)
    assert (slot.deaths_in_a_row, slot.restarts) == (2, 2)
    slot.come_up(worker(), 200.0)
    slot.die(200.0 + STEADY_S)
    assert (slot.deaths_in_a_row, slot.restarts) == (0, 3)


def test_the_status_of_a_place_and_of_the_worker_in_it(slot: Slot, here: FakeWorker) -> None:
    here.queued, here.stuck = 3, 1
    slot.swap_in(40)
    assert slot.status() == WorkerStatus(id=1, alive=True, pid=None, models=1, queued=3, restarts=0, stuck=1)
    slot.die(1.0)
    assert slot.status() == WorkerStatus(id=1, alive=False, pid=None, models=0, queued=0, restarts=1, stuck=0)
