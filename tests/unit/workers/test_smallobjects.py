from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from hotset.workers.heap import malloc_in_use
from hotset.workers.smallobjects import SmallObjects

MANY = """
import gc, json, sys, tracemalloc
from hotset.workers.heap import malloc_in_use
from hotset.workers.smallobjects import SmallObjects

if "trace" in sys.argv:
    tracemalloc.start()
small_objects = SmallObjects.of_process()


def made():
    return [(f"word {number}", float(number)) for number in range(20_000)]


def grown(make):
    before = malloc_in_use()
    kept = make()
    return malloc_in_use() - before, kept


def switched():
    small_objects.from_malloc()
    try:
        return made()
    finally:
        small_objects.from_python()


figures = {"switch": small_objects is not None}
if small_objects is not None:
    figures["python"], one = grown(made)
    figures["malloc"], two = grown(switched)
    figures["again"], three = grown(made)
    figures["same"] = one == two == three
    before = malloc_in_use()
    two.append(one.pop())  # of one allocator in a list of the other
    del two[:19_000], one[5_000:], three
    gc.collect()
    figures["freed"] = before - malloc_in_use()
print(json.dumps(figures))
"""
BLOCKS = 20_000 * (64 + 64 + 32)
"""Of malloc: a tuple of two with the collector's mark, a short text, a float."""


def figures_of_process(*arguments: str, **environment: str) -> dict[str, int]:
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONMALLOC"}
    done = subprocess.run(
        [sys.executable, "-c", MANY, *arguments],
        env=inherited | environment,
        capture_output=True,
        check=True,
        text=True,
    )
    figures: dict[str, int] = json.loads(done.stdout)
    return figures


@pytest.mark.skipif(not malloc_in_use(), reason="this system's malloc does not tell what is in use")
def test_small_objects_come_from_malloc_between_the_two_and_are_freed_wherever_they_came_from() -> None:
    figures = figures_of_process()
    assert figures["switch"]
    assert figures["same"]
    assert figures["python"] < BLOCKS / 5, "only the list itself"
    assert BLOCKS * 0.7 < figures["malloc"] < BLOCKS * 1.3
    assert figures["again"] < BLOCKS / 5
    assert figures["freed"] > BLOCKS * 0.6


def test_it_nests() -> None:
    small_objects = SmallObjects.of_process()
    if small_objects is None:
        pytest.skip("this interpreter's allocator is not Python's own")
    before = malloc_in_use()
    small_objects.from_malloc()
    small_objects.from_malloc()
    small_objects.from_python()
    kept = [(f"{number}", number * 1.5) for number in range(10_000)]
    small_objects.from_python()
    assert malloc_in_use() - before > 500_000
    assert len(kept) == 10_000


@pytest.mark.parametrize("setting", ["debug", "malloc", "malloc_debug", "pymalloc_debug"])
def test_another_allocator_is_left_alone(setting: str) -> None:
    assert not figures_of_process(PYTHONMALLOC=setting)["switch"]


def test_an_allocator_that_is_traced_is_left_alone() -> None:
    assert not figures_of_process("trace")["switch"]
