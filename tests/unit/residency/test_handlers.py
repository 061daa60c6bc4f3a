"""Requests to handlers that ask for models in the middle of them: what they hold, who gives way, and what is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from handler_bench import HandlerBench
from hotset.errors import CapacityError, ErrorKind, NotFoundError, OverloadedError, UnavailableError
from hotset.residency.handlers import Candidate, best_worker
from hotset.testing import FakeStore, versions


@asynccontextmanager
async def bench(path: Path, **settings: Any) -> AsyncIterator[HandlerBench]:
    store = FakeStore()
    versions(store, {name: [1, 2] for name in "abcd"})
    it = HandlerBench(path / "disk", store, **{"pause_s": 0, **settings})
    await it.start()
    try:
        yield it
        await it.settled()
        it.check()
    finally:
        await it.stop()


async def test_a_handler_holds_several_models_and_gives_them_back(tmp_path: Path) -> None:
    async with bench(tmp_path, model_cache_size=3) as it:
        it.between.close()
        asking = asyncio.create_task(it.handle("a", "b@1", "a@2"))
        await it.between.arrived()
        assert it.memory.statistics().leases == 1
        it.between.open()
        assert await asking == ["a-2", "b-1", "a-2"]
        assert it.memory.statistics().leases == 0
        assert it.in_memory() == {"a@2", "b@1"}


async def test_what_the_query_names_is_leased_before_the_handler_is_called(tmp_path: Path) -> None:
    async with bench(tmp_path, model_cache_size=2) as it:
        it.script.gate("a").close()
        asking = asyncio.create_task(it.handle("a", hint="a"))
        await it.script.gate("a").arrived()
        assert not it.calls
        it.script.gate("a").open()
        assert await asking == ["a-2"]


async def test_a_hint_that_is_no_model_changes_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        assert await it.handle("a", hint="nowhere") == ["a-2"]
        assert await it.handle("a", hint="../") == ["a-2"]
        assert await it.handle() == []


async def test_what_there_is_not_is_told_to_the_handler(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        with pytest.raises(NotFoundError, match="nowhere"):
            await it.handle("a", "nowhere")
        assert it.memory.statistics().leases == 0


async def test_two_that_lack_what_the_other_holds_both_end(tmp_path: Path) -> None:
    async with bench(tmp_path, model_cache_size=2, threads=2) as it:
        it.between.close()
        one = asyncio.create_task(it.handle("a", "b"))
        other = asyncio.create_task(it.handle("c", "d"))
        for _ in range(2):
            await it.between.arrived()
        it.between.open()
        assert await one == ["a-2", "b-2"]
        assert await other == ["c-2", "d-2"]
        assert sorted(it.calls.values()) in ([1, 2], [2, 2])


async def test_who_would_have_to_begin_again_may_be_answered_503_instead(tmp_path: Path) -> None:
    async with bench(tmp_path, model_cache_size=2, threads=2, begin_again=False) as it:
        it.between.close()
        one = asyncio.create_task(it.handle("a", "b"))
        other = asyncio.create_task(it.handle("c", "d"))
        for _ in range(2):
            await it.between.arrived()
        it.between.open()
        outcomes = await asyncio.gather(one, other, return_exceptions=True)
        refused = [outcome for outcome in outcomes if isinstance(outcome, OverloadedError)]
        assert refused
        assert refused[0].kind is ErrorKind.NO_ROOM
        assert max(it.calls.values()) == 1


async def test_a_request_whose_own_models_do_not_fit_is_told_what_it_needs(tmp_path: Path) -> None:
    async with bench(tmp_path, model_cache_size=2, threads=2) as it:
        with pytest.raises(
            CapacityError, match=r"c@latest: the request holds a@2 .*, b@2 .*2 models"
        ) as error:
            await it.handle("a", "b", "c")
        assert error.value.kind is ErrorKind.TOO_LARGE
        assert await it.handle("c", "d") == ["c-2", "d-2"]


async def test_pinned_models_take_room_from_requests(tmp_path: Path) -> None:
    async with bench(tmp_path, model_cache_size=2) as it:
        assert await it.handle("a") == ["a-2"]
        (entry,) = it.memory.entries()
        it.manager.pin(entry.key, pinned=True)
        with pytest.raises(CapacityError, match="beside 1 that are pinned"):
            await it.handle("b", "c")


async def test_models_that_are_in_another_worker_are_loaded_where_the_handler_runs(tmp_path: Path) -> None:
    async with bench(tmp_path, model_cache_size=4, processes_per_replica=2) as it:
        one, other = it.workers
        other.queued = 9
        assert await it.handle("a") == ["a-2"]
        one.queued, other.queued = 9, 0
        assert await it.handle("b") == ["b-2"]
        one.queued = other.queued = 0
        assert await it.handle("a", "b", hint="a") == ["a-2", "b-2"]
        assert it.memory.statistics().ledger.copies == 1
        assert it.script.loads == {"a@2": 1, "b@2": 2}


async def test_room_for_a_copy_is_made_and_its_idle_twin_goes_first(tmp_path: Path) -> None:
    async with bench(tmp_path, model_cache_size=2, processes_per_replica=2) as it:
        one, other = it.workers
        other.queued = 9
        assert await it.handle("a") == ["a-2"]
        one.queued, other.queued = 9, 0
        assert await it.handle("b") == ["b-2"]
        one.queued = other.queued = 0
        assert await it.handle("a", "b", hint="a") == ["a-2", "b-2"]
        assert await it.handle("b", "a", hint="b") == ["b-2", "a-2"]


async def test_new_files_of_a_model_that_a_handler_holds_change_nothing_for_it(tmp_path: Path) -> None:
    async with bench(tmp_path, model_cache_size=2) as it:
        it.between.close()
        asking = asyncio.create_task(it.handle("a@2", "b"))
        await it.between.arrived()
        it.store.put("a/2/model.txt", b"a-2-new")
        await it.sync()
        await it.settled_flights()
        it.between.open()
        assert await asking == ["a-2", "b-2"]
        await it.handle("a@2")  # at the latest this has the new files loaded, where there was no room before
        await it.settled_flights()
        assert await it.handle("a@2") == ["a-2-new"]


async def test_a_worker_that_dies_in_the_middle_of_a_request_is_replaced_and_asked_once_more(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path, model_cache_size=2) as it:
        it.between.close()
        asking = asyncio.create_task(it.handle("a", "b"))
        await it.between.arrived()
        it.workers[0].die()
        it.between.open()
        assert await asking == ["a-2", "b-2"]
        assert it.memory.statistics().leases == 0


async def test_a_request_that_waits_for_room_in_a_worker_that_dies_begins_in_the_next_one(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path, model_cache_size=1, threads=2) as it:
        it.between.close()
        holding = asyncio.create_task(it.handle("a"))
        await it.between.arrived()
        waiting = asyncio.create_task(it.handle("b"))
        handlers = it.replica.handlers
        assert handlers is not None
        while not handlers.seniority.is_short:
            await asyncio.sleep(0)
        it.workers[0].die()
        it.between.open()
        assert await holding == ["a-2"]
        assert await waiting == ["b-2"]


async def test_a_client_that_goes_away_leaves_nothing_held(tmp_path: Path) -> None:
    async with bench(tmp_path, model_cache_size=2) as it:
        it.between.close()
        asking = asyncio.create_task(it.handle("a", "b"))
        await it.between.arrived()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        it.between.open()
        assert await it.handle("c", "d") == ["c-2", "d-2"]
        assert it.memory.statistics().leases == 0


async def test_a_want_of_a_request_that_has_ended_is_refused(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        with pytest.raises(UnavailableError, match="has ended"):
            await it.want(17, "a")


@pytest.mark.parametrize(
    ("candidates", "chosen"),
    [
        ([Candidate(1, 0, 0), Candidate(2, 0, 1)], 2),
        ([Candidate(1, 0, 0), Candidate(2, 2, 5)], 1),
        ([Candidate(1, 3, 0), Candidate(2, 2, 0)], 2),
        ([Candidate(2, 0, 0), Candidate(1, 0, 0)], 1),
    ],
)
def test_a_request_goes_where_its_models_are_if_a_thread_is_free(
    candidates: list[Candidate], chosen: int
) -> None:
    assert best_worker(candidates, threads=2) == chosen
