"""The churn guard: what is in memory stays for a while, however many models are asked for."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import pytest

from hotset.errors import ErrorKind, OverloadedError
from hotset.events import Evicted
from hotset.residency.churn import MOST_HELD, churn_wait_s
from hotset.testing import FakeStore, versions
from residency_bench import Bench, bench
from waiting import until


def stored(count: int) -> FakeStore:
    store = FakeStore()
    versions(store, {f"m{number}": [1] for number in range(count)})
    return store


@pytest.mark.parametrize(
    ("ages_s", "ahead", "expected_s"),
    [
        ([60.0, 5.0], 0, 0.0),
        ([10.0], 0, 0.0),
        ([4.0, 1.0], 0, 6.0),
        ([4.0, 1.0], 1, 9.0),
        ([4.0, 1.0], 2, None),
        ([math.inf, 1.0], 0, 0.0),
        ([], 0, 0.0),
        ([], 3, 0.0),
    ],
)
def test_a_load_waits_until_its_victim_is_old_enough(
    ages_s: list[float], ahead: int, expected_s: float | None
) -> None:
    assert churn_wait_s(ages_s, ahead, 10.0) == expected_s


def evicted(it: Bench) -> list[str]:
    return [str(event.key) for event in it.seen if isinstance(event, Evicted)]


async def test_what_was_used_a_moment_ago_does_not_leave_for_a_load(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(4), model_cache_size=2, min_churn_age="10s") as it:
        for name in ("m0", "m1"):
            await it.ask(name)
            it.clock.advance(3.0)
        waiting = asyncio.create_task(it.ask("m2", timeout_s=1000.0))
        await until(lambda: it.replica.churn.held == 1)
        assert evicted(it) == []
        it.clock.advance(3.0)
        assert it.replica.churn.held == 1
        it.clock.advance(2.0)
        assert await waiting == "m2@1|m2-1"
        assert evicted(it) == ["m0@1"], "which was used 11 s ago"
        assert it.replica.churn.held == 0


async def test_what_leads_nowhere_soon_is_refused_and_says_when(tmp_path: Path) -> None:
    async with bench(
        tmp_path, stored(4), model_cache_size=2, min_churn_age="100s", request_timeout="20s"
    ) as it:
        await it.ask("m0")
        it.clock.advance(30.0)
        await it.ask("m1")
        with pytest.raises(OverloadedError, match="min_churn_age") as refused:
            await it.ask("m2")
        assert refused.value.kind is ErrorKind.NO_ROOM
        assert refused.value.retry_after_s == pytest.approx(70.0, abs=0.1)
        assert await it.ask("m0") == "m0@1|m0-1", "what is in memory is not hurt"
        it.clock.advance(100.0)
        assert await it.ask("m2") == "m2@1|m2-1", "and the refusal is not remembered"


async def test_what_is_in_use_is_not_taken_in_the_moment_in_which_it_is_idle(tmp_path: Path) -> None:
    """Regression: with all of it in use, a load waited for room in the place of age, and took it from what was used last."""
    async with bench(
        tmp_path, stored(4), model_cache_size=2, min_churn_age="100s", request_timeout="20s"
    ) as it:
        leases = [await it.lease(name) for name in ("m0", "m1")]
        with pytest.raises(OverloadedError, match="min_churn_age"):
            await it.ask("m2")
        for lease in leases:
            lease.release()
        await it.settled()
        assert evicted(it) == []


async def test_with_room_nothing_waits(tmp_path: Path) -> None:
    async with bench(tmp_path, stored(3), model_cache_size=3, min_churn_age="100s") as it:
        for number in range(3):
            await it.ask(f"m{number}")
        assert evicted(it) == []


async def test_loads_that_wait_each_have_a_victim_of_their_own(tmp_path: Path) -> None:
    """Two come in as two are old enough, and not both behind the first."""
    async with bench(tmp_path, stored(6), model_cache_size=3, min_churn_age="10s") as it:
        for name in ("m0", "m1", "m2"):
            await it.ask(name)
            it.clock.advance(4.0)
        waiting = [asyncio.create_task(it.ask(name, timeout_s=1000.0)) for name in ("m3", "m4")]
        await until(lambda: len(evicted(it)) == 1)
        assert evicted(it) == ["m0@1"]
        await until(lambda: it.replica.churn.held == 1)
        it.clock.advance(3.0)
        assert len(await asyncio.gather(*waiting)) == 2
        assert evicted(it) == ["m0@1", "m1@1"]


async def test_in_a_thrashing_replica_no_victim_is_young_and_few_wait(tmp_path: Path) -> None:
    names = [f"m{number}" for number in range(200)]
    async with bench(
        tmp_path, stored(200), model_cache_size=20, min_churn_age="5s", request_timeout="60s"
    ) as it:
        for name in names[:20]:
            await it.ask(name)
        asked = [asyncio.create_task(it.ask(name, timeout_s=1000.0)) for name in names[20:]]
        await until(lambda: sum(task.done() for task in asked) + it.replica.churn.held == len(asked))
        held = it.replica.churn.held
        assert 0 < held <= min(20, MOST_HELD)
        assert all(isinstance(task.exception(), OverloadedError) for task in asked if task.done())
        assert evicted(it) == []
        it.clock.advance(5.0)
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert sum(isinstance(outcome, str) for outcome in outcomes) == held == len(evicted(it))
