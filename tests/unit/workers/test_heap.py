from __future__ import annotations

import gc
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import joblib
import numpy as np
import pytest

from hotset.runtimes.unpickling import unpickle
from hotset.workers.heap import HeapMeter, heap_in_use, trim_heap


@pytest.fixture
def nothing_is_freed() -> Iterator[None]:
    """What other tests have left to the collector is not freed while something is measured."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("nothing_is_freed")
def test_a_large_block_is_measured() -> None:
    meter = HeapMeter()
    mark = meter.begin()
    block = bytearray(64 << 20)
    grown = meter.end(mark).bytes
    assert len(block) <= grown < 80 << 20


@pytest.mark.usefixtures("nothing_is_freed")
def test_many_small_objects_are_measured_within_a_factor_of_two() -> None:
    meter = HeapMeter()
    mark = meter.begin()
    objects = [(number, float(number)) for number in range(200_000)]
    grown = meter.end(mark).bytes
    weight = 200_000 * (72 + 32 + 24 + 8)
    assert weight / 2 < grown < weight * 2
    assert len(objects) == 200_000


def test_growth_while_loads_overlap_is_shared_and_its_sum_is_right() -> None:
    readings = iter([100, 130, 150, 190, 190])
    meter = HeapMeter(lambda: next(readings))
    first = meter.begin(30)  # 100
    second = meter.begin(10)  # 130: 30 for the first
    assert meter.end(first) == (30 + 15, False)  # 150
    assert meter.end(second) == (5 + 40, False)  # 190
    assert meter.begin() == 2


def test_what_a_leaving_model_gives_back_is_no_loads() -> None:
    readings = iter([100, 150, 50, 70])
    meter = HeapMeter(lambda: next(readings))
    load = meter.begin()  # 100
    with meter.leaving():  # 150
        pass  # 50
    assert meter.end(load) == (50 + 20, False)  # 70


def test_a_load_that_begins_while_a_model_leaves_is_not_charged_for_it() -> None:
    readings = iter([100, 60, 90])
    meter = HeapMeter(lambda: next(readings))
    with meter.leaving():
        load = meter.begin()  # 100
    # 60
    assert meter.end(load) == (30, False)  # 90


def test_growth_between_loads_is_nobodys() -> None:
    readings = iter([100, 110, 500, 520])
    meter = HeapMeter(lambda: next(readings))
    assert meter.end(meter.begin()) == (10, True)
    assert meter.end(meter.begin()) == (20, True)


def test_a_shrinking_heap_is_a_negative_growth() -> None:
    readings = iter([100, 40])
    meter = HeapMeter(lambda: next(readings))
    assert meter.end(meter.begin()) == (-60, True)


def test_trim_leaves_what_is_in_use() -> None:
    block = bytearray(8 << 20)
    before = heap_in_use()
    trim_heap()
    assert abs(heap_in_use() - before) < 4 << 20
    assert len(block) == 8 << 20


def test_what_a_runtime_maps_of_a_file_counts_until_it_is_let_go(tmp_path: Path) -> None:
    path = tmp_path / "model.joblib"
    joblib.dump({"large": np.zeros(8 << 20, dtype=np.uint8)}, path)
    unpickle(path)  # what its code caches is there now
    meter = HeapMeter()
    mark = meter.begin()
    model = unpickle(path)
    assert 8 << 20 <= meter.end(mark).bytes < 9 << 20
    in_use = heap_in_use()
    assert model["large"][0] == 0
    del model
    assert 7 << 20 < in_use - heap_in_use() < 9 << 20


FAULTS_OF_A_SECOND_LOAD = """
import ctypes, resource, threading
from hotset.workers.heap import keep_freed_heap

MB = 1 << 20
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]


def load():
    began = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    blocks = [libc.malloc(MB) for _ in range(40)]
    for block in blocks:
        ctypes.memset(block, 1, MB)
    for block in blocks:
        libc.free(block)
    faults.append(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - began)


faults = []
kept = keep_freed_heap()
for _ in range(2):
    thread = threading.Thread(target=load)
    thread.start()
    thread.join()
print(kept, *faults)
"""


def faults_of_two_loads(**environment: str) -> tuple[str, int, int]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS_OF_A_SECOND_LOAD],
        env=clean | environment,
        capture_output=True,
        check=True,
        text=True,
    )
    kept, first, second = done.stdout.split()
    return kept, int(first), int(second)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's heap can be told")
def test_what_one_load_frees_the_next_one_in_another_thread_finds() -> None:
    kept, first, second = faults_of_two_loads()
    assert kept == "True"
    assert first > 40 * 16  # at least one for each 64 KiB, however large the pages are
    assert second < first / 10


def test_whoever_has_set_up_malloc_is_left_alone() -> None:
    kept, _, _ = faults_of_two_loads(MALLOC_ARENA_MAX="2")
    assert kept == "False"
