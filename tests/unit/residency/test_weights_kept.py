"""What a version weighed is kept with its files, by fingerprint, across restarts."""

from __future__ import annotations

from pathlib import Path

from hotset.keys import ModelRef
from hotset.testing import FakeStore, versions
from residency_bench import Bench, bench


def expected_bytes(it: Bench, name: str) -> int:
    return it.manager.expected_weight(it.manager.catalog.resolve(ModelRef(name))).bytes


async def test_a_weight_outlives_the_server_and_the_worker_is_told(tmp_path: Path) -> None:
    store = FakeStore()
    versions(store, {"a": [1], "b": [1]})
    async with bench(tmp_path, store) as it:
        it.script.weights = {"a": 3 << 20, "b": 5 << 20}
        await it.ask("a")
        await it.ask("b")
    async with bench(tmp_path, store) as it:
        assert (expected_bytes(it, "a"), expected_bytes(it, "b")) == (3 << 20, 5 << 20)
        await it.ask("a")
        assert it.script.asked[-1].weight == 3 << 20


async def test_files_that_changed_are_weighed_anew(tmp_path: Path) -> None:
    store = FakeStore()
    versions(store, {"a": [1]})
    async with bench(tmp_path, store) as it:
        it.script.weights = {"a": 3 << 20}
        await it.ask("a")
    store.put("a/1/model.txt", b"others")
    async with bench(tmp_path, store) as it:
        it.script.weights = {"a": 7 << 20}
        await it.ask("a")
        assert it.script.asked[-1].weight is None
        assert expected_bytes(it, "a") == 7 << 20
