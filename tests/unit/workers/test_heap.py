from __future__ import annotations

from pathlib import Path

import joblib
import numpy as np

from hotset.runtimes.unpickling import unpickle
from hotset.workers.heap import HeapMeter, heap_in_use, trim_heap


def test_a_large_block_is_measured() -> None:
    meter = HeapMeter()
    mark = meter.begin()
    block = bytearray(64 << 20)
    grown = meter.end(mark)
    assert len(block) <= grown < 80 << 20


def test_many_small_objects_are_measured_within_a_factor_of_two() -> None:
    meter = HeapMeter()
    mark = meter.begin()
    objects = [(number, float(number)) for number in range(200_000)]
    grown = meter.end(mark)
    weight = 200_000 * (72 + 32 + 24 + 8)
    assert weight / 2 < grown < weight * 2
    assert len(objects) == 200_000


def test_growth_while_loads_overlap_is_shared_and_its_sum_is_right() -> None:
    readings = iter([100, 130, 150, 190, 190])
    meter = HeapMeter(lambda: next(readings))
    first = meter.begin()  # 100
    second = meter.begin()  # 130: 30 for the first
    assert meter.end(first) == 30 + 10  # 150
    assert meter.end(second) == 10 + 40  # 190
    assert meter.begin() == 2


def test_growth_between_loads_is_nobodys() -> None:
    readings = iter([100, 110, 500, 520])
    meter = HeapMeter(lambda: next(readings))
    assert meter.end(meter.begin()) == 10
    assert meter.end(meter.begin()) == 20


def test_a_shrinking_heap_is_a_negative_growth() -> None:
    readings = iter([100, 40])
    meter = HeapMeter(lambda: next(readings))
    assert meter.end(meter.begin()) == -60


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
    assert 8 << 20 <= meter.end(mark) < 9 << 20
    in_use = heap_in_use()
    assert model["large"][0] == 0
    del model
    assert 7 << 20 < in_use - heap_in_use() < 9 << 20
