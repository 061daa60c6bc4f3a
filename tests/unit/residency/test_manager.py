"""The residency manager on fakes: each sentence of a request's and of a version's life."""

from __future__ import annotations

import asyncio

import pytest

from hotset.errors import (
    CapacityError,
    ErrorKind,
    InvalidInputError,
    LoadFailedError,
    LoadingError,
    NotFoundError,
    OverloadedError,
    StoreError,
)
from hotset.events import Cause, Evicted, LatestMoved, LoadFailed
from hotset.keys import ModelKey, ModelRef
from hotset.testing import FakeStore, versions
from residency_bench import bench


async def test_a_request_fetches_loads_and_answers(tmp_path):
    store = FakeStore()
    versions(store, {"paris": [1, 2]})
    async with bench(tmp_path, store, model_cache_size=10) as it:
        assert await it.ask("paris") == "paris@2|paris-2"
        assert await it.ask("paris", "1") == "paris@1|paris-1"
        assert await it.ask("paris", "v2") == "paris@2|paris-2"
        assert it.script.loads == {"paris@1": 1, "paris@2": 1}


async def test_the_tier_of_an_answer_is_told(tmp_path):
    store = FakeStore()
    versions(store, {"paris": [1]})
    async with bench(tmp_path, store, model_cache_size=10) as it:
        for tier in ("store", "memory"):
            lease = await it.lease("paris")
            assert lease.tier == tier
            lease.release()
        await it.manager.unload([ModelKey("paris", 1)], Cause.EXPLICIT, deadline_s=it.clock.now_s + 5)
        lease = await it.lease("paris")
        assert lease.tier == "disk"
        lease.release()


async def test_the_least_recently_used_goes_and_comes_back_from_disk(tmp_path):
    store = FakeStore()
    versions(store, {name: [1] for name in "abc"})
    async with bench(tmp_path, store, model_cache_size=2, disk_model_cache_size=3) as it:
        for name in "abab":
            await it.ask(name)
        await it.ask("c")
        assert it.in_memory() == {"b@1", "c@1"}
        assert await it.ask("a") == "a@1|a-1"
        assert store.downloads["a/1/model.txt"] == 1
        evicted = [event.key.name for event in it.seen if isinstance(event, Evicted)]
        assert evicted == ["a", "b"]


async def test_disk_holds_its_own_number_and_spares_what_is_in_memory(tmp_path):
    store = FakeStore()
    versions(store, {f"m{number}": [1] for number in range(10)})
    async with bench(tmp_path, store, model_cache_size=2, disk_model_cache_size=4) as it:
        for number in range(10):
            await it.ask(f"m{number}")
            await it.settled()
            assert it.disk.usage.models <= 4
        assert it.on_disk() == {"m6@1", "m7@1", "m8@1", "m9@1"}


async def test_two_hundred_callers_one_fetch_one_load(tmp_path):
    store = FakeStore()
    versions(store, {"paris": [1]})
    async with bench(tmp_path, store, model_cache_size=1) as it:
        answers = await asyncio.gather(*(it.ask("paris") for _ in range(200)))
        assert set(answers) == {"paris@1|paris-1"}
        assert it.script.loads == {"paris@1": 1}
        assert store.counts["download"] == 1


async def test_unknown_names_and_versions(tmp_path):
    store = FakeStore()
    versions(store, {"paris": [1]})
    async with bench(tmp_path, store, on_missing="error") as it:
        with pytest.raises(NotFoundError) as model:
            await it.ask("rome")
        assert model.value.kind is ErrorKind.MODEL_NOT_FOUND
        with pytest.raises(NotFoundError) as version:
            await it.ask("paris", "9")
        assert version.value.kind is ErrorKind.VERSION_NOT_FOUND


async def test_a_flood_of_an_unknown_name_lists_the_store_once(tmp_path):
    async with bench(tmp_path, FakeStore()) as it:
        before = it.store.counts["list"]
        for _ in range(3):
            errors = await asyncio.gather(*(it.ask("rome") for _ in range(50)), return_exceptions=True)
            assert all(isinstance(error, NotFoundError) for error in errors)
        assert it.store.counts["list"] == before + 1
        it.clock.advance(31.0)
        with pytest.raises(NotFoundError):
            await it.ask("rome")
        assert it.store.counts["list"] == before + 2


async def test_a_name_that_is_new_in_the_store_is_found_between_two_passes(tmp_path):
    async with bench(tmp_path, FakeStore()) as it:
        versions(it.store, {"rome": [1]})
        assert await it.ask("rome") == "rome@1|rome-1"
        versions(it.store, {"rome": [1, 2]})
        it.clock.advance(1.0)
        assert await it.ask("rome", "2") == "rome@2|rome-2"


async def test_a_static_model_has_no_versions(tmp_path):
    store = FakeStore()
    store.put("paris/model.txt", b"static")
    async with bench(tmp_path, store, models={"paris": "./unused"}) as it:
        assert await it.ask("paris") == "paris@1|static"
        for version in ("1", "2"):
            with pytest.raises(InvalidInputError) as error:
                await it.ask("paris", version)
            assert error.value.kind is ErrorKind.VERSION_NOT_ALLOWED


async def test_a_failed_load_is_remembered_with_backoff_and_retried(tmp_path):
    store = FakeStore()
    versions(store, {"paris": [1], "rome": [1]})
    async with bench(tmp_path, store, load_failure_backoff="5s", load_failure_backoff_max="8s") as it:
        it.script.load_faults["paris"] = LoadFailedError("corrupt")
        for expected_loads, wait_s in ((1, 5.0), (2, 8.0), (3, 8.0)):
            for _ in range(3):
                with pytest.raises(LoadFailedError, match="corrupt"):
                    await it.ask("paris")
            assert it.script.loads["paris@1"] == expected_loads
            failed = [event for event in it.seen if isinstance(event, LoadFailed)]
            assert failed[-1].retry_in_s == pytest.approx(wait_s)
            assert await it.ask("rome") == "rome@1|rome-1"
            it.clock.advance(wait_s)
        del it.script.load_faults["paris"]
        assert await it.ask("paris") == "paris@1|paris-1"
        assert len(it.manager.failures) == 0


async def test_who_waited_for_a_failed_load_was_not_told_when_to_ask_again(tmp_path):
    store = FakeStore()
    versions(store, {"paris": [1]})
    async with bench(tmp_path, store, load_failure_backoff="5s") as it:
        it.script.load_faults["paris"] = LoadFailedError("corrupt")
        for _ in ("the one that waited", "the next one"):
            with pytest.raises(LoadFailedError) as error:
                await it.ask("paris")
            assert error.value.retry_after_s == pytest.approx(5.0, abs=0.01)


async def test_new_files_are_tried_at_once_after_a_failure(tmp_path):
    store = FakeStore()
    versions(store, {"paris": [1]})
    async with bench(tmp_path, store) as it:
        it.script.load_faults["paris"] = LoadFailedError("corrupt")
        with pytest.raises(LoadFailedError):
            await it.ask("paris")
        del it.script.load_faults["paris"]
        store.put("paris/1/model.txt", b"mended")
        await it.sync()
        assert await it.ask("paris") == "paris@1|mended"


async def test_larger_than_the_capacity_is_refused_with_both_figures(tmp_path):
    store = FakeStore()
    versions(store, {"paris": [1], "rome": [1]})
    async with bench(tmp_path, store, model_cache_size="1MiB") as it:
        it.script.weights["paris"] = 2 << 20
        for _ in range(2):
            with pytest.raises(CapacityError, match=r"2097152 .*1048576") as error:
                await it.ask("paris")
            assert error.value.kind is ErrorKind.TOO_LARGE
        assert it.script.loads["paris@1"] == 1
        assert not it.script.live
        assert await it.ask("rome") == "rome@1|rome-1"


async def test_a_measured_weight_above_the_estimate_makes_its_own_room(tmp_path):
    store = FakeStore()
    versions(store, {name: [1] for name in "abcd"})
    async with bench(tmp_path, store, model_cache_size="1MiB") as it:
        it.script.weights.update(dict.fromkeys("abcd", 400 << 10))
        for name in "abcd":
            await it.ask(name)
            assert it.memory.usage.bytes <= 1 << 20
        assert it.in_memory() == {"c@1", "d@1"}


async def test_no_room_because_all_is_leased_and_then_there_is(tmp_path):
    store = FakeStore()
    versions(store, {name: [1] for name in "ab"})
    async with bench(tmp_path, store, model_cache_size=1) as it:
        await it.ask("b")  # so that it is on disk: of the short time below nothing goes into a fetch
        lease = await it.lease("a")
        with pytest.raises(OverloadedError) as error:
            await it.ask("b", timeout_s=0.05)
        assert error.value.kind is ErrorKind.NO_ROOM
        waiting = asyncio.create_task(it.ask("b"))
        await asyncio.sleep(0)
        lease.release()
        assert await waiting == "b@1|b-1"


async def test_a_load_longer_than_the_deadline_goes_on_and_the_retry_hits(tmp_path):
    store = FakeStore()
    versions(store, {"paris": [1]})
    async with bench(tmp_path, store) as it:
        gate = it.script.gate("paris")
        gate.close()
        with pytest.raises(LoadingError) as error:
            await it.ask("paris", timeout_s=0.05)
        assert error.value.key == ("paris", 1)
        gate.open()
        await it.settled()
        lease = it.manager.lease_now(ModelRef("paris"))
        assert lease is not None
        lease.release()
        assert it.script.loads == {"paris@1": 1}


async def test_a_slow_load_does_not_delay_another(tmp_path):
    store = FakeStore()
    versions(store, {"slow": [1], "quick": [1]})
    async with bench(tmp_path, store) as it:
        it.script.gate("slow").close()
        slow = asyncio.create_task(it.ask("slow"))
        await it.script.gate("slow").arrived()
        assert await it.ask("quick") == "quick@1|quick-1"
        it.script.gate("slow").open()
        assert await slow == "slow@1|slow-1"


async def test_latest_moves_in_one_step_and_the_old_one_serves_until_then(tmp_path):
    store = FakeStore()
    versions(store, {"paris": [1]})
    async with bench(tmp_path, store) as it:
        await it.ask("paris")
        versions(store, {"paris": [2]})
        gate = it.script.gate("paris")
        gate.close()
        await it.sync()
        await gate.arrived()
        assert await it.ask("paris") == "paris@1|paris-1"
        gate.open()
        await it.settled()
        assert await it.ask("paris") == "paris@2|paris-2"
        assert it.in_memory() == {"paris@2"}, "nobody asked for 1 by its number"
        assert [event for event in it.seen if isinstance(event, LatestMoved)] == [LatestMoved("paris", 2, 1)]


async def test_an_old_version_keeps_what_was_asked_of_it_by_number(tmp_path):
    store = FakeStore()
    versions(store, {"paris": [1]})
    async with bench(tmp_path, store) as it:
        await it.ask("paris")
        await it.ask("paris", "1")
        versions(store, {"paris": [2]})
        await it.sync()
        await it.settled()
        assert it.in_memory() == {"paris@1", "paris@2"}


async def test_a_newer_latest_is_not_loaded_ahead_for_the_coldest_of_a_full_memory(tmp_path):
    store = FakeStore()
    versions(store, {"cold": [1], "warm": [1]})
    async with bench(tmp_path, store, model_cache_size=2) as it:
        await it.ask("cold")
        await it.ask("warm")
        versions(store, {"cold": [2], "warm": [2]})
        await it.sync()
        await it.settled()
        assert (
            it.in_memory() == {"warm@2", "warm@1"}
            or it.in_memory() == {"warm@2"}
            or "warm@2" in it.in_memory()
        )
        assert it.script.loads["cold@2"] == 0


async def test_a_request_for_latest_that_finds_the_older_one_starts_the_newer(tmp_path):
    store = FakeStore()
    versions(store, {"cold": [1], "warm": [1]})
    async with bench(tmp_path, store, model_cache_size=2) as it:
        await it.ask("cold")
        await it.ask("warm")
        versions(store, {"cold": [2]})
        await it.sync()
        await it.settled()
        assert it.script.loads["cold@2"] == 0
        assert await it.ask("cold") == "cold@1|cold-1"
        await it.settled()
        assert await it.ask("cold") == "cold@2|cold-2"


async def test_files_changed_in_place_are_a_new_version_with_an_old_name(tmp_path):
    store = FakeStore()
    versions(store, {"paris": [1]})
    async with bench(tmp_path, store) as it:
        await it.ask("paris")
        store.put("paris/1/model.txt", b"changed")
        await it.sync()
        await it.settled()
        assert await it.ask("paris") == "paris@1|changed"
        assert it.on_disk() == {"paris@1"}
        assert it.disk.usage.models == 1


async def test_files_changed_in_place_reach_a_memory_of_one_place(tmp_path):
    store = FakeStore()
    versions(store, {"paris": [1]})
    async with bench(tmp_path, store, model_cache_size=1) as it:
        await it.ask("paris")
        store.put("paris/1/model.txt", b"changed")
        await it.sync()
        await it.ask("paris")
        await it.settled()
        assert await it.ask("paris") == "paris@1|changed"


async def test_a_new_version_that_cannot_be_loaded_leaves_the_old_one_serving(tmp_path):
    store = FakeStore()
    versions(store, {"paris": [1]})
    async with bench(tmp_path, store, load_failure_backoff="5s") as it:
        await it.ask("paris")
        it.script.load_faults["paris"] = LoadFailedError("bad version")
        versions(store, {"paris": [2]})
        await it.sync()
        await it.settled()
        for _ in range(5):
            assert await it.ask("paris") == "paris@1|paris-1"
        assert it.script.loads["paris@2"] == 1
        del it.script.load_faults["paris"]
        it.clock.advance(5.0)
        await it.ask("paris")
        await it.settled()
        assert await it.ask("paris") == "paris@2|paris-2"


async def test_a_bad_newest_version_that_was_never_in_memory_falls_back_to_the_one_before(tmp_path):
    store = FakeStore()
    versions(store, {"paris": [1, 2]})
    async with bench(tmp_path, store) as it:
        real = it.workers[0].load

        async def only_one(spec):
            if spec.version == 2:
                raise LoadFailedError("bad version")
            return await real(spec)

        it.workers[0].load = only_one
        assert await it.ask("paris") == "paris@1|paris-1"
        with pytest.raises(LoadFailedError):
            await it.ask("paris", "2")


async def test_what_is_gone_from_the_store_is_unloaded_and_deleted_after_its_leases(tmp_path):
    store = FakeStore()
    versions(store, {"paris": [1], "rome": [1]})
    async with bench(tmp_path, store) as it:
        lease = await it.lease("paris")
        await it.ask("rome")
        store.delete("paris/")
        await it.sync()
        assert it.in_memory() == {"rome@1"}
        assert it.script.live.keys() & {1, 2}, "still loaded under its lease"
        answer = await lease.predict(
            codec="", body=b"", content_type="", query_string="", headers=(), deadline_s=float("inf")
        )
        assert answer.body == b"paris@1|paris-1"
        lease.release()
        await it.settled()
        assert it.on_disk() == {"rome@1"}
        with pytest.raises(NotFoundError):
            await it.ask("paris")


async def test_deleting_the_latest_version_brings_the_one_before_back(tmp_path):
    store = FakeStore()
    versions(store, {"paris": [1, 2]})
    async with bench(tmp_path, store) as it:
        assert await it.ask("paris") == "paris@2|paris-2"
        store.delete("paris/2/")
        await it.sync()
        assert await it.ask("paris") == "paris@1|paris-1"


async def test_a_version_deleted_while_it_loads_answers_its_waiters_and_goes(tmp_path):
    store = FakeStore()
    versions(store, {"paris": [1], "rome": [1]})
    async with bench(tmp_path, store) as it:
        gate, asked = await it.held_up("paris")
        store.delete("paris/")
        await it.sync()
        gate.open()
        assert await asked == "paris@1|paris-1"
        await it.settled()
        assert it.in_memory() == set()
        assert it.on_disk() == set()


async def test_two_models_with_the_same_files_share_them_and_one_survives_the_other(tmp_path):
    store = FakeStore()
    for name in ("paris", "rome"):
        store.put(f"{name}/1/model.txt", b"same")
        store.objects[f"{name}/1/model.txt"].etag = "the-same"
    async with bench(tmp_path, store) as it:
        assert await it.ask("paris") == "paris@1|same"
        assert await it.ask("rome") == "rome@1|same"
        assert store.counts["download"] == 1
        store.delete("paris/")
        await it.sync()
        await it.settled()
        await it.manager.unload([ModelKey("rome", 1)], Cause.EXPLICIT, deadline_s=it.clock.now_s + 5)
        assert await it.ask("rome") == "rome@1|same"
        assert store.counts["download"] == 1


async def test_a_warm_replica_answers_through_a_store_outage(tmp_path):
    store = FakeStore()
    versions(store, {name: [1] for name in "abc"})
    async with bench(tmp_path, store, model_cache_size=1, disk_model_cache_size=2) as it:
        await it.ask("a")
        await it.ask("b")
        store.list_fault = store.download_fault = StoreError("away")
        for _ in range(3):
            await it.sync()
            assert await it.ask("a") == "a@1|a-1"
            assert await it.ask("b") == "b@1|b-1"
        with pytest.raises(StoreError):
            await it.ask("c")
        assert it.replica.sync.status().degraded


async def test_a_restart_while_the_store_is_away_serves_all_that_is_on_disk(tmp_path):
    store = FakeStore()
    versions(store, {name: [1] for name in "abc"})
    async with bench(tmp_path, store, model_cache_size=2) as it:
        for name in "abc":
            await it.ask(name)
    store.list_fault = store.download_fault = StoreError("away")
    async with bench(tmp_path, store, sync=False, model_cache_size=2) as it:
        await it.replica.sync.restore()
        for name in "abc":
            assert await it.ask(name) == f"{name}@1|{name}-1"
        assert store.counts["download"] == 3


async def test_a_dead_worker_is_replaced_and_its_models_come_back_by_recency(tmp_path):
    store = FakeStore()
    versions(store, {name: [1] for name in "abc"})
    async with bench(tmp_path, store, model_cache_size=3) as it:
        for name in "abc":
            await it.ask(name)
        it.workers[0].die()
        await it.settled()
        assert it.in_memory() == {"a@1", "b@1", "c@1"}
        assert len(it.workers) == 2
        versions(store, {"d": [1]})
        await it.sync()
        await it.ask("d")
        assert it.in_memory() == {"b@1", "c@1", "d@1"}, "recency survived the worker"


async def test_a_version_that_kills_two_workers_in_a_row_is_a_failed_load(tmp_path):
    store = FakeStore()
    versions(store, {"deadly": [1], "good": [1]})
    async with bench(tmp_path, store) as it:
        await it.ask("good")
        it.script.gate("deadly").close()
        asked = asyncio.create_task(it.ask("deadly"))
        for worker in range(2):
            await it.script.gate("deadly").arrived()
            it.workers[worker].die("killed by signal 11")
        with pytest.raises(LoadFailedError, match="signal 11"):
            await asked
        it.script.gate("deadly").open()
        assert await it.ask("good") == "good@1|good-1"
        with pytest.raises(LoadFailedError):
            await it.ask("deadly")


async def test_a_load_whose_worker_was_killed_by_another_is_tried_again(tmp_path):
    store = FakeStore()
    versions(store, {"innocent": [1]})
    async with bench(tmp_path, store) as it:
        it.script.gate("innocent").close()
        asked = asyncio.create_task(it.ask("innocent"))
        await it.script.gate("innocent").arrived()
        it.workers[0].die("killed by the operator")
        await it.script.gate("innocent").arrived()
        it.script.gate("innocent").open()
        assert await asked == "innocent@1|innocent-1"
        assert len(it.manager.failures) == 0


async def test_latest_does_not_go_back_behind_what_was_answered_while_the_store_is_away(tmp_path):
    store = FakeStore()
    versions(store, {"paris": [1]})
    async with bench(tmp_path, store) as it:
        await it.ask("paris", "1")
        versions(store, {"paris": [2]})
        await it.sync()
        await it.ask("paris")
        await it.settled()
        assert await it.ask("paris") == "paris@2|paris-2"
        for number in (1, 2):
            await it.manager.unload(
                [ModelKey("paris", number)], Cause.EXPLICIT, deadline_s=it.clock.now_s + 5
            )
        newest = it.manager.catalog.version(ModelKey("paris", 2))
        it.disk.evict(newest.fingerprint, Cause.EXPLICIT)
        await it.settled()
        store.download_fault = StoreError("away")
        with pytest.raises(StoreError):
            await it.ask("paris")


async def test_nothing_that_clients_send_makes_state_grow(tmp_path):
    store = FakeStore()
    versions(store, {"paris": [1]})
    async with bench(tmp_path, store) as it:
        for number in range(300):
            with pytest.raises(NotFoundError):
                await it.ask(f"unknown-{number}")
            with pytest.raises(NotFoundError):
                await it.ask("paris", str(number + 2))
        assert list(it.manager.catalog.snapshot.models) == ["paris"]
        assert len(it.manager.failures) == 0
        assert it.memory.by_recency() == []


async def test_a_pinned_version_is_no_victim(tmp_path):
    store = FakeStore()
    versions(store, {name: [1] for name in "abc"})
    async with bench(tmp_path, store, model_cache_size=2) as it:
        await it.ask("a")
        it.memory.pin(ModelKey("a", 1), pinned=True)
        await it.ask("b")
        await it.ask("c")
        assert it.in_memory() == {"a@1", "c@1"}


async def test_a_version_that_was_overtaken_while_it_loaded_answers_latest_until_the_newer_is_there(tmp_path):
    store = FakeStore()
    versions(store, {"paris": [1]})
    async with bench(tmp_path, store) as it:
        gate, asked = await it.held_up("paris")
        versions(store, {"paris": [1, 2]})
        store.objects["paris/1/model.txt"].etag = "etag-1"
        await it.sync()
        gate.open()
        assert await asked == "paris@1|paris-1"
        gate.close()
        assert await it.ask("paris") == "paris@1|paris-1", "nobody waits for version 2"
        await gate.arrived()
        gate.open()
        await it.settled()
        assert await it.ask("paris") == "paris@2|paris-2"
        assert [event for event in it.seen if isinstance(event, LatestMoved)] == [LatestMoved("paris", 2, 1)]


async def test_a_flood_of_unknown_versions_lists_the_store_once_a_second(tmp_path):
    store = FakeStore()
    versions(store, {"paris": [1]})
    async with bench(tmp_path, store) as it:
        before = store.counts["list"]
        for number in range(2, 200):
            with pytest.raises(NotFoundError):
                await it.ask("paris", str(number))
        assert store.counts["list"] == before + 1


async def test_latest_falls_back_to_the_version_on_disk_while_the_store_is_away(tmp_path):
    store = FakeStore()
    versions(store, {"paris": [1]})
    async with bench(tmp_path, store) as it:
        await it.ask("paris")
        await it.manager.unload([ModelKey("paris", 1)], Cause.EXPLICIT, deadline_s=it.clock.now_s + 5)
        versions(store, {"paris": [2]})
        await it.sync()
        store.download_fault = StoreError("away")
        assert await it.ask("paris") == "paris@1|paris-1"
        with pytest.raises(StoreError):
            await it.ask("paris", "2")


async def test_latest_falls_back_from_a_version_that_is_larger_than_memory(tmp_path):
    store = FakeStore()
    versions(store, {"paris": [1]})
    async with bench(tmp_path, store, model_cache_size="1MiB") as it:
        await it.ask("paris")
        await it.manager.unload([ModelKey("paris", 1)], Cause.EXPLICIT, deadline_s=it.clock.now_s + 5)
        store.put("paris/2/model.txt", b"x" * (2 << 20))
        await it.sync()
        assert await it.ask("paris") == "paris@1|paris-1"


async def test_a_load_that_hangs_costs_its_worker_and_not_the_others(tmp_path):
    store = FakeStore()
    versions(store, {"hangs": [1], "good": [1]})
    async with bench(tmp_path, store, load_timeout="50ms") as it:
        await it.ask("good")
        it.script.gate("hangs").close()
        with pytest.raises(LoadFailedError, match="was not loaded within"):
            await it.ask("hangs")
        assert await it.ask("good") == "good@1|good-1"
        assert len(it.workers) == 2
        it.script.gate("hangs").open()
