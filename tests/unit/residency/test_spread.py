"""Which model gets a copy, moves or loses one: what follows from queues over time, bare."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from hotset.keys import ModelKey
from hotset.residency.spread import (
    CALM_S,
    Copy,
    Demand,
    Drop,
    Means,
    Moment,
    Move,
    Step,
    averaged,
    next_step,
)

A, B, C = (ModelKey(name, 1) for name in "abc")
TICK_S = 0.1


@dataclass
class Story:
    """Queues that stay as they are for a while, and what is decided meanwhile."""

    threads: int = 1
    most_copies: int = 1
    workers: int = 2
    gateway: float = 0.2
    now_s: float = 100.0
    means: Means | None = None
    used: dict[ModelKey, float] = field(default_factory=dict)
    barred: frozenset[ModelKey] = frozenset()

    def goes_on(
        self,
        seconds: float,
        models: dict[ModelKey, tuple[float, float, tuple[int, ...]]],
        *,
        others: dict[int, int] | None = None,
    ) -> Step | None:
        """Return the first step that follows; ``models`` are (queue, calls per second, workers)."""
        for _ in range(round(seconds / TICK_S)):
            self.now_s += TICK_S
            for key, (_, per_second, _) in models.items():
                self.used[key] = self.used.get(key, 0.0) + per_second * TICK_S
            queues = dict.fromkeys(range(1, self.workers + 1), 0.0)
            queues.update(others or {})
            for queue, _, places in models.values():
                for place in places:
                    queues[place] += queue / len(places)
            moment = Moment(
                now_s=self.now_s,
                gateway_s=self.now_s * self.gateway,
                workers={worker: round(queue) for worker, queue in queues.items()},
                models={
                    key: Demand(round(queue), round(self.used[key]), places)
                    for key, (queue, _, places) in models.items()
                },
            )
            self.means = averaged(self.means, moment, threads=self.threads)
            step = next_step(self.means, most_copies=self.most_copies, barred=self.barred)
            if step is not None:
                return step
        return None


def test_a_model_whose_queue_stays_long_gets_a_copy_where_it_is_quiet() -> None:
    assert Story().goes_on(10, {A: (8, 400, (1,))}) == Copy(A, 2)


def test_not_before_it_was_long_for_a_while() -> None:
    story = Story()
    assert story.goes_on(1.5, {A: (8, 400, (1,))}) is None
    assert story.goes_on(1, {A: (8, 400, (1,))}) == Copy(A, 2)


def test_a_burst_makes_no_copy() -> None:
    story = Story()
    for _ in range(5):
        assert story.goes_on(1.0, {A: (30, 400, (1,))}) is None
        assert story.goes_on(8.0, {A: (0, 0, (1,))}) is None


def test_one_call_at_a_time_has_no_use_for_a_copy() -> None:
    assert Story().goes_on(30, {A: (1, 5, (1,))}) is None


def test_two_calls_at_a_time_have() -> None:
    assert Story().goes_on(10, {A: (2, 100, (1,))}) == Copy(A, 2)


def test_as_many_calls_as_threads_are_no_queue() -> None:
    assert Story(threads=4).goes_on(30, {A: (4, 20, (1,))}) is None
    assert Story(threads=4).goes_on(30, {A: (8, 40, (1,))}) == Copy(A, 2)


def test_many_clients_of_a_fast_model_make_a_queue_and_no_copy() -> None:
    """One prediction for all that wait: 64 of them, and each is answered within 4 ms."""
    assert Story().goes_on(30, {A: (64, 16_000, (1,))}) is None


def test_no_copy_where_the_gateway_is_the_limit() -> None:
    assert Story(gateway=0.95).goes_on(30, {A: (64, 6_000, (1,))}) is None


def test_no_copy_where_the_other_worker_has_enough_to_do() -> None:
    assert Story().goes_on(30, {A: (8, 400, (1,)), B: (5, 300, (2,))}) is None


def test_no_copy_with_one_worker() -> None:
    assert Story(workers=1).goes_on(30, {A: (8, 400, (1,))}) is None


def test_no_more_copies_than_allowed() -> None:
    models = {A: (12, 400, (1, 2))}
    assert Story(workers=3).goes_on(30, models) is None
    assert Story(workers=3, most_copies=2).goes_on(30, models) == Copy(A, 3)


def test_of_two_that_share_a_worker_one_moves() -> None:
    """No memory is taken where a move is enough."""
    assert Story().goes_on(10, {A: (6, 300, (1,)), B: (4, 200, (1,))}) == Move(B, 2)
    assert Story().goes_on(10, {A: (5, 300, (1,)), B: (5, 200, (1,))}) == Move(A, 2)


def test_beside_a_hot_one_the_others_stay() -> None:
    models = {A: (10, 300, (1,)), B: (1, 40, (1,)), C: (1, 40, (1,))}
    assert Story().goes_on(10, models) == Copy(A, 2)


def test_of_many_the_one_with_the_longest_queue_moves() -> None:
    """As after a worker's death: all are in the one that was left."""
    many = {ModelKey(f"m{number}", 1): (1.0 + (number == 7), 20.0, (1,)) for number in range(10)}
    assert Story().goes_on(10, many) == Move(ModelKey("m7", 1), 2)


def test_nothing_goes_back_and_forth() -> None:
    story = Story()
    assert story.goes_on(10, {A: (6, 300, (1,)), B: (4, 200, (1,))}) == Move(B, 2)
    assert story.goes_on(60, {A: (6, 300, (1,)), B: (4, 200, (2,))}) is None


def test_after_a_step_it_is_seen_first_what_came_of_it() -> None:
    story = Story(workers=3, most_copies=2)
    assert story.goes_on(10, {A: (12, 400, (1,))}) == Copy(A, 2)
    assert story.goes_on(1.5, {A: (12, 400, (1, 2))}) is None
    assert story.goes_on(1, {A: (12, 400, (1, 2))}) == Copy(A, 3)


def test_what_is_barred_stays_and_keeps_nobody_else_from_moving() -> None:
    story = Story(barred=frozenset({A}))
    assert story.goes_on(30, {A: (12, 400, (1,))}) is None
    assert story.goes_on(30, {A: (6, 300, (1,)), B: (4, 200, (1,))}) == Move(B, 2)


def test_a_copy_goes_when_one_place_would_long_have_done() -> None:
    story = Story()
    assert story.goes_on(10, {A: (8, 400, (1, 2))}) is None
    assert story.goes_on(CALM_S - 1, {A: (0, 5, (1, 2))}) is None
    assert story.goes_on(10, {A: (0, 5, (1, 2))}) == Drop(A)


def test_a_copy_stays_through_a_lull() -> None:
    story = Story()
    for _ in range(5):
        assert story.goes_on(CALM_S / 2, {A: (8, 400, (1, 2))}) is None
        assert story.goes_on(CALM_S / 2, {A: (0, 5, (1, 2))}) is None


@pytest.mark.parametrize("queue", [1, 2])
def test_what_brings_no_copy_does_not_keep_flapping(queue: int) -> None:
    """Hysteresis: the queue that keeps a copy is half of the one that brings it."""
    with_copy, without = Story(), Story()
    keeps = with_copy.goes_on(60, {A: (queue, 50, (1, 2))})
    brings = without.goes_on(60, {A: (queue, 50, (1,))})
    assert not (isinstance(keeps, Drop) and isinstance(brings, Copy))


def test_copies_go_even_where_no_more_are_allowed() -> None:
    assert Story(most_copies=0).goes_on(30, {A: (0, 0, (1, 2))}) == Drop(A)


def test_a_dead_worker_is_no_place_to_go_to() -> None:
    story = Story()
    assert story.goes_on(1, {A: (8, 400, (1,))}) is None
    story.workers = 1
    assert story.goes_on(10, {A: (8, 400, (1,))}) is None


def test_a_moment_that_is_not_later_changes_nothing() -> None:
    moment = Moment(1.0, 0.0, {1: 5, 2: 0}, {A: Demand(5, 5, (1,))})
    means = averaged(None, moment, threads=1)
    assert averaged(means, moment, threads=1) is means
