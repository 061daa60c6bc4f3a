"""What a request leaves behind goes with its last reference.

What holds itself in a circle waits for the garbage collector: a thousand misses a second make a full collection of a tenth
of a second every second or two, in which nobody is answered. Each case is repeated with the collector off; then it is asked what
of hotset's own it finds.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pytest

from hotset.errors import HotsetError, LoadFailedError, StoreError, UnavailableError
from hotset.keys import ModelRef
from hotset.store import ObjectMeta
from hotset.testing import FakeStore
from residency_bench import Bench, bench

Ask: TypeAlias = Callable[[Bench, str], Awaitable[None]]
Case: TypeAlias = Callable[[Bench, Ask], Awaitable[None]]

NAMES = ("bern", "oslo", "paris", "rome", "turin", "york")
TIMES = 4


class SlowStore(FakeStore):
    """Nothing can be fetched while it ``is_away``."""

    is_away = False

    async def download(self, object_: ObjectMeta, target: Path) -> None:
        if self.is_away:
            raise StoreError("slow")
        await super().download(object_, target)


async def infer(it: Bench, name: str) -> None:
    """What an application does."""
    await it.infer(name)


async def start(it: Bench, name: str) -> None:
    """What a connection does, which has no task of its own."""
    done: asyncio.Future[tuple[type, str]] = asyncio.get_running_loop().create_future()
    it.replica.dataplane.start(
        ModelRef(name), protocol="test", codec="native", body=b"", done=partial(_told, done)
    )
    kind, said = await done
    if issubclass(kind, HotsetError):
        raise kind(said)


def _told(done: asyncio.Future[tuple[type, str]], outcome: object) -> None:
    """Keep nothing of it: who has an error has all frames that it came through."""
    done.set_result((type(outcome), str(outcome)))


async def hot(it: Bench, ask: Ask) -> None:
    await ask(it, "york")


async def usual_misses(it: Bench, ask: Ask) -> None:
    for name in NAMES:
        await ask(it, name)


async def light_misses(it: Bench, ask: Ask) -> None:
    await usual_misses(it, ask)
    assert it.script.swaps.total(), "they were swaps"


async def refused_swaps(it: Bench, ask: Ask) -> None:
    it.script.light = False
    await usual_misses(it, ask)
    it.script.light = True
    await usual_misses(it, ask)


async def unknown_models(it: Bench, ask: Ask) -> None:
    with pytest.raises(HotsetError, match="not found"):
        await ask(it, "atlantis")


async def failing_loads(it: Bench, ask: Ask) -> None:
    it.script.load_faults["bern"] = LoadFailedError("made to fail")
    with pytest.raises(LoadFailedError):
        await ask(it, "bern")
    it.clock.advance(1000.0)
    with pytest.raises(LoadFailedError):
        await ask(it, "bern")
    it.clock.advance(1000.0)


async def failing_stores(it: Bench, ask: Ask) -> None:
    assert isinstance(it.store, SlowStore)
    it.store.is_away = True
    with pytest.raises(StoreError):
        await ask(it, "bern")
    it.store.is_away = False
    it.clock.advance(1000.0)


async def failing_predictions(it: Bench, ask: Ask) -> None:
    it.script.short_of_memory["york"] = 2
    with pytest.raises(UnavailableError):
        await ask(it, "york")


BOTH = pytest.mark.parametrize("ask", [infer, start], ids=lambda it: it.__name__)


@BOTH
@pytest.mark.parametrize(
    "case",
    [hot, usual_misses, light_misses, refused_swaps, unknown_models, failing_loads, failing_predictions],
    ids=lambda it: it.__name__,
)
async def test_leaves_nothing_to_the_collector(tmp_path: Path, ask: Ask, case: Case) -> None:
    store = FakeStore()
    for name in NAMES:
        store.put(f"{name}/1/model.txt", name.encode())
    async with bench(tmp_path, store, model_cache_size=2) as it:
        it.script.light = case in (light_misses, refused_swaps)
        await leaves_nothing(it, ask, case)


@BOTH
@pytest.mark.parametrize("case", [usual_misses, failing_stores], ids=lambda it: it.__name__)
async def test_fetches_leave_nothing_to_the_collector(tmp_path: Path, ask: Ask, case: Case) -> None:
    store = SlowStore()
    for name in NAMES:
        store.put(f"{name}/1/model.txt", name.encode())
    async with bench(tmp_path, store, model_cache_size=2, disk_model_cache_size=2) as it:
        await leaves_nothing(it, ask, case)


async def leaves_nothing(it: Bench, ask: Ask, case: Case) -> None:
    await usual_misses(it, ask)
    await case(it, ask)
    await it.settled()
    gc.collect()
    gc.disable()
    try:
        for _ in range(TIMES):
            await case(it, ask)
            await it.settled()
        assert not found_by_the_collector()
    finally:
        gc.enable()


def found_by_the_collector() -> dict[str, int]:
    """Return the classes of hotset's own whose objects only the collector frees, and how many there are of each."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        kinds = (type(it) for it in gc.garbage)
        return Counter(
            f"{it.__module__}.{it.__qualname__}" for it in kinds if it.__module__.startswith("hotset")
        )
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
