from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from hotset.workers.reclaim import (
    LITTLE_BYTES,
    MANY_MODELS,
    MUCH_BYTES,
    MUCH_FREE_BYTES,
    Collector,
    Reclaimer,
    collect_all,
    collect_new,
    set_aside,
)


class Counted:
    def __init__(self) -> None:
        self.done: list[str] = []
        self.reclaimer = Reclaimer(
            collect=lambda: self.done.append("collect"),
            collect_new=lambda: self.done.append("collect new"),
            trim=lambda: self.done.append("trim"),
        )


def test_small_models_that_came_back_cost_nothing_until_it_is_quiet() -> None:
    it = Counted()
    for _ in range(10):
        it.reclaimer.released(LITTLE_BYTES // 2, came_back=LITTLE_BYTES // 2)
        it.reclaimer.reclaim(quiet=False)
    assert it.done == []
    assert it.reclaimer.owes
    it.reclaimer.reclaim(quiet=True)
    assert it.done == ["trim"]
    assert not it.reclaimer.owes


def test_all_is_done_where_memory_is_short() -> None:
    it = Counted()
    it.reclaimer.trim()  # predictions leave free heap too
    assert it.done == ["trim"]
    it.reclaimer.released(1000, came_back=1000)
    it.reclaimer.trim()
    assert it.done == ["trim", "collect", "trim"]
    assert not it.reclaimer.owes


def test_much_freed_is_trimmed_at_once() -> None:
    it = Counted()
    it.reclaimer.released(MUCH_FREE_BYTES, came_back=MUCH_FREE_BYTES)
    it.reclaimer.reclaim(quiet=False)
    assert it.done == ["trim"]


def test_what_was_freed_is_kept_for_the_next_load_until_it_is_quiet() -> None:
    it = Counted()
    it.reclaimer.released(MUCH_FREE_BYTES - 1, came_back=MUCH_FREE_BYTES)
    it.reclaimer.reclaim(quiet=False)
    assert it.done == []
    it.reclaimer.reclaim(quiet=True)
    assert it.done == ["trim"]


def test_a_large_model_that_did_not_come_back_is_collected_at_once() -> None:
    it = Counted()
    it.reclaimer.released(MUCH_BYTES, came_back=0)
    it.reclaimer.reclaim(quiet=False)
    assert it.done == ["collect"]


def test_many_small_models_are_collected_but_not_what_was_imported() -> None:
    it = Counted()
    for _ in range(2 * MANY_MODELS):
        it.reclaimer.released(100, came_back=None)
        it.reclaimer.reclaim(quiet=False)
    assert it.done == ["collect new", "collect new"]
    it.reclaimer.reclaim(quiet=True)
    assert it.done[2:] == []
    it.reclaimer.trim()
    assert it.done[2:] == ["collect", "trim"]


def test_growth_beside_a_release_is_no_debt_below_zero() -> None:
    it = Counted()
    it.reclaimer.released(MUCH_BYTES // 2, came_back=10 * MUCH_BYTES)
    it.reclaimer.released(MUCH_BYTES // 2 - 1, came_back=-5)
    it.reclaimer.reclaim(quiet=False)
    assert "collect" not in it.done


class Node:
    pass


@pytest.fixture
def as_before() -> Iterator[None]:
    """Afterwards what was there before all tests is out of the collector's sight again."""
    yield
    gc.unfreeze()
    gc.collect()
    gc.freeze()


@pytest.mark.usefixtures("as_before")
def test_a_cycle_that_was_set_aside_is_collected_all_the_same() -> None:
    node, other = Node(), Node()
    node.other, other.other = other, node  # type: ignore[attr-defined]
    watch = weakref.ref(node)
    set_aside()
    del node, other
    collect_new()
    assert watch() is not None, "set aside: not looked at"
    collect_all()
    assert watch() is None


@pytest.mark.usefixtures("as_before")
def test_what_was_set_aside_before_any_model_is_not_looked_at() -> None:
    node, other = Node(), Node()
    node.other, other.other = other, node  # type: ignore[attr-defined]
    watch = weakref.ref(node)
    gc.freeze()
    del node, other
    Collector().collect_all()
    assert watch() is not None


@pytest.mark.usefixtures("as_before")
def test_a_cycle_of_a_new_model_is_collected_beside_what_was_set_aside() -> None:
    set_aside()
    node, other = Node(), Node()
    node.other, other.other = other, node  # type: ignore[attr-defined]
    watch = weakref.ref(node)
    del node, other
    collect_new()
    assert watch() is None
