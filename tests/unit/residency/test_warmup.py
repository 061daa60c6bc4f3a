"""The hot set of the last run: loaded again by recency, and not lost by an end in the middle of that."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hotset.residency.warmup import HotWord, read_hot_set, write_hot_set
from hotset.testing import FakeStore, versions
from residency_bench import Bench

OLDEST_FIRST = [HotWord("oslo", "latest", 30.0), HotWord("paris", 1, 20.0), HotWord("rome", "latest", 10.0)]


def cities(tmp_path: Path, **settings: object) -> Bench:
    store = FakeStore()
    versions(store, {"oslo": [1], "paris": [1, 2], "rome": [1]})
    (tmp_path / "disk").mkdir(exist_ok=True)
    return Bench(tmp_path / "disk", store, **settings)


def hot_names(tmp_path: Path) -> list[str]:
    return [word.name for word in read_hot_set(tmp_path / "disk" / "hot.json")]


async def started(bench: Bench) -> None:
    """Start as the server does, and return when what is loaded by itself is being loaded or done."""
    await bench.replica.start()
    await bench.replica.sync.first_pass.wait()


async def test_what_was_hot_is_loaded_most_recent_first(tmp_path):
    bench = cities(tmp_path, model_cache_size=2, parallel_fetches=1)
    write_hot_set(tmp_path / "disk" / "hot.json", OLDEST_FIRST)
    await started(bench)
    while not bench.replica._hot_set.is_loaded:
        await asyncio.sleep(0)
    assert list(bench.script.loads) == ["rome@1", "paris@1"]
    assert bench.in_memory() == {"rome@1", "paris@1"}
    await bench.stop()
    assert hot_names(tmp_path) == ["paris", "rome"]


async def test_an_end_during_the_warm_up_does_not_lose_the_hot_set(tmp_path):
    bench = cities(tmp_path, model_cache_size=3, parallel_loads=3)
    write_hot_set(tmp_path / "disk" / "hot.json", OLDEST_FIRST)
    held = [bench.script.gate(name) for name in ("oslo", "paris", "rome")]
    for gate in held:
        gate.close()
    await started(bench)
    await held[2].arrived()
    await bench.stop()
    assert hot_names(tmp_path) == ["oslo", "paris", "rome"]


async def test_an_end_before_the_store_was_ever_listed_does_not_lose_the_hot_set(tmp_path):
    bench = cities(tmp_path, model_cache_size=3)
    write_hot_set(tmp_path / "disk" / "hot.json", OLDEST_FIRST)
    bench.store.list_gate.close()
    await bench.replica.start()
    await bench.store.list_gate.arrived()
    await bench.stop()
    assert hot_names(tmp_path) == ["oslo", "paris", "rome"]
