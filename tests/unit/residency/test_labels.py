"""Labels on a whole replica of fakes: when they move, what answers meanwhile, and what they get when nothing does."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hotset.errors import ErrorKind, InvalidInputError, LoadFailedError, NotFoundError, StoreError
from hotset.events import Cause, LabelMoved, LabelsRefused
from hotset.keys import ModelKey, ModelRef
from hotset.status import LabelStatus
from hotset.testing import FakeStore, versions
from residency_bench import Bench, bench

STABLE = ModelRef("paris", "stable")


def put_labels(store: FakeStore, text: str, name: str = "paris") -> None:
    store.put(f"{name}/labels.yaml", text.encode())


def cities(labels: str = "stable: 1", *numbers: int) -> FakeStore:
    store = FakeStore()
    versions(store, {"paris": numbers or (1, 2, 3)})
    put_labels(store, labels)
    return store


def moves(it: Bench) -> list[tuple[str, int, int]]:
    return [(e.label, e.version, e.previous) for e in it.seen if isinstance(e, LabelMoved)]


async def label(it: Bench, name: str = "stable") -> LabelStatus:
    model = await it.replica.dataplane.residency.model("paris", deadline_s=it.clock.now_s + 5)
    return next(found for found in model.labels if found.label == name)


async def moved_on(it: Bench) -> None:
    await it.sync()
    await it.settled()


async def test_a_label_is_answered_by_its_version(tmp_path: Path) -> None:
    async with bench(tmp_path, cities("stable: 1\ncanary: 3")) as it:
        assert await it.ask("paris", "stable") == "paris@1|paris-1"
        assert await it.ask("paris", "canary") == "paris@3|paris-3"
        assert await it.ask("paris") == "paris@3|paris-3"
        assert it.script.loads == {"paris@1": 1, "paris@3": 1}
        lease = it.manager.lease_now(STABLE)
        assert lease is not None, "hot from now on"
        lease.release()


async def test_a_label_moves_in_one_step_and_the_old_one_serves_until_then(tmp_path: Path) -> None:
    store = cities("stable: 1")
    async with bench(tmp_path, store) as it:
        await it.ask("paris", "stable")
        put_labels(store, "stable: 2")
        gate = it.script.gate("paris")
        gate.close()
        await it.sync()
        await gate.arrived()
        assert await it.ask("paris", "stable") == "paris@1|paris-1"
        now = await label(it)
        assert (now.version, now.means, now.serving) == (2, 1, 1)
        assert now.reason == "paris@2 is not in memory yet"
        gate.open()
        await it.settled()
        assert await it.ask("paris", "stable") == "paris@2|paris-2"
        assert moves(it) == [("stable", 2, 1)]
        assert it.in_memory() == {"paris@2"}, "nobody asked for 1 by its number"
        now = await label(it)
        assert (now.version, now.means, now.serving, now.reason) == (2, 2, 2, "")


async def test_a_label_whose_old_version_is_not_in_memory_moves_at_once(tmp_path: Path) -> None:
    store = cities("stable: 1")
    async with bench(tmp_path, store) as it:
        await it.ask("paris", "stable")
        await it.manager.unload([ModelKey("paris", 1)], Cause.CAPACITY, deadline_s=it.clock.now_s + 5)
        put_labels(store, "stable: 2")
        await moved_on(it)
        assert await it.ask("paris", "stable") == "paris@2|paris-2"
        assert it.script.loads["paris@1"] == 1


async def test_where_there_is_no_room_the_next_request_starts_the_load(tmp_path: Path) -> None:
    store = cities("stable: 1")
    versions(store, {"rome": [1]})
    async with bench(tmp_path, store, model_cache_size=2) as it:
        await it.ask("paris", "stable")
        await it.ask("rome")
        put_labels(store, "stable: 2")
        await moved_on(it)
        assert it.script.loads["paris@2"] == 0
        assert await it.ask("paris", "stable") == "paris@1|paris-1"
        await it.settled()
        assert await it.ask("paris", "stable") == "paris@2|paris-2"


async def test_a_version_that_others_loaded_is_taken_at_once(tmp_path: Path) -> None:
    store = cities("stable: 1")
    async with bench(tmp_path, store) as it:
        await it.ask("paris", "stable")
        await it.ask("paris", "2")
        put_labels(store, "stable: 2")
        await it.sync()
        assert it.manager.memory.serving(STABLE) == ("paris", 2)
        assert moves(it) == [("stable", 2, 1)]


async def test_who_holds_the_old_version_keeps_it_while_its_label_moves(tmp_path: Path) -> None:
    store = cities("stable: 1")
    async with bench(tmp_path, store) as it:
        held = await it.lease("paris", "stable")
        put_labels(store, "stable: 2")
        await it.sync()
        while it.manager.memory.serving(STABLE) != ("paris", 2):
            await asyncio.sleep(0)
        assert it.in_memory() == {"paris@2"}, "no new lease on the old one"
        answer = await held.predict(
            codec="", body=b"", content_type="", query_string="", headers=(), deadline_s=float("inf")
        )
        assert answer.body == b"paris@1|paris-1"
        held.release()
        await it.settled()
        assert it.memory.usage.models == 1


async def test_requests_that_wait_for_the_old_version_get_it_although_the_label_moved(tmp_path: Path) -> None:
    store = cities("stable: 1")
    async with bench(tmp_path, store) as it:
        gate = it.script.gate("paris")
        gate.close()
        first = asyncio.create_task(it.ask("paris", "stable"))
        await gate.arrived()
        put_labels(store, "stable: 2")
        await it.sync()
        gate.open()
        assert await first == "paris@1|paris-1"
        assert await it.ask("paris", "stable") == "paris@1|paris-1", "nobody waits: this one starts the load"
        await it.settled()
        assert await it.ask("paris", "stable") == "paris@2|paris-2"


async def test_fifty_requests_for_a_cold_label_load_once(tmp_path: Path) -> None:
    async with bench(tmp_path, cities("stable: 1\nsame: 1")) as it:
        words = ["stable", "same", "1", "v1"] * 12
        answers = await asyncio.gather(*(it.ask("paris", word) for word in words))
        assert set(answers) == {"paris@1|paris-1"}
        assert it.script.loads == {"paris@1": 1}


async def test_two_labels_change_places_in_one_step(tmp_path: Path) -> None:
    store = cities("a: 1\nb: 2")
    async with bench(tmp_path, store) as it:
        await it.ask("paris", "a")
        await it.ask("paris", "b")
        put_labels(store, "a: 2\nb: 1")
        await moved_on(it)
        assert await it.ask("paris", "a") == "paris@2|paris-2"
        assert await it.ask("paris", "b") == "paris@1|paris-1"
        assert sum(it.script.loads.values()) == 2


async def test_a_version_that_cannot_be_loaded_leaves_the_label_where_it_is(tmp_path: Path) -> None:
    store = cities("stable: 1")
    async with bench(tmp_path, store) as it:
        await it.ask("paris", "stable")
        it.script.load_faults["paris@2"] = LoadFailedError("bad file")
        put_labels(store, "stable: 2")
        await moved_on(it)
        assert await it.ask("paris", "stable") == "paris@1|paris-1"
        assert "bad file" in (await label(it)).reason
        await it.manager.unload([ModelKey("paris", 1)], Cause.CAPACITY, deadline_s=it.clock.now_s + 5)
        assert await it.ask("paris", "stable") == "paris@1|paris-1", "also if it has to be loaded again"
        with pytest.raises(LoadFailedError):
            await it.ask("paris", "2")
        del it.script.load_faults["paris@2"]
        it.clock.advance(3600)
        assert await it.ask("paris", "stable") == "paris@1|paris-1"
        await it.settled()
        assert await it.ask("paris", "stable") == "paris@2|paris-2"


async def test_a_request_that_waits_for_the_version_that_fails_is_answered_by_the_one_before(
    tmp_path: Path,
) -> None:
    store = cities("stable: 1")
    async with bench(tmp_path, store) as it:
        await it.ask("paris", "stable")
        await it.manager.unload([ModelKey("paris", 1)], Cause.CAPACITY, deadline_s=it.clock.now_s + 5)
        it.script.load_faults["paris@2"] = LoadFailedError("bad file")
        put_labels(store, "stable: 2")
        await moved_on(it)
        assert await it.ask("paris", "stable") == "paris@1|paris-1"
        assert it.script.loads["paris@2"] == 1


async def test_a_label_that_never_meant_anything_else_gets_the_failure(tmp_path: Path) -> None:
    async with bench(tmp_path, cities("stable: 2")) as it:
        it.script.load_faults["paris@2"] = LoadFailedError("bad file")
        for _ in range(2):
            with pytest.raises(LoadFailedError, match="bad file"):
                await it.ask("paris", "stable")
        assert not it.words()
        assert await it.ask("paris") == "paris@3|paris-3"


async def test_there_is_no_way_back_once_a_label_has_moved(tmp_path: Path) -> None:
    store = cities("stable: 2")
    async with bench(tmp_path, store) as it:
        await it.ask("paris", "stable")
        put_labels(store, "stable: 1")
        await moved_on(it)
        assert await it.ask("paris", "stable") == "paris@1|paris-1"
        store.delete("paris/1/")
        await moved_on(it)
        with pytest.raises(NotFoundError, match=r"says 'stable: 1', and there is no such version"):
            await it.ask("paris", "stable")


async def test_a_label_that_is_ahead_of_its_version_waits_for_it(tmp_path: Path) -> None:
    store = cities("stable: 1", 1, 3)
    async with bench(tmp_path, store) as it:
        await it.ask("paris", "stable")
        put_labels(store, "stable: 2")
        await moved_on(it)
        assert await it.ask("paris", "stable") == "paris@1|paris-1"
        assert "the store has no version 2" in (await label(it)).reason
        await it.manager.unload([ModelKey("paris", 1)], Cause.CAPACITY, deadline_s=it.clock.now_s + 5)
        assert await it.ask("paris", "stable") == "paris@1|paris-1", "also if it has to be loaded again"
        versions(store, {"paris": [2]})
        await moved_on(it)
        assert await it.ask("paris", "stable") == "paris@2|paris-2"


async def test_a_label_without_a_version_is_refused_with_what_there_is(tmp_path: Path) -> None:
    async with bench(tmp_path, cities("stable: 9")) as it:
        with pytest.raises(NotFoundError) as caught:
            await it.ask("paris", "stable")
        assert caught.value.kind is ErrorKind.VERSION_NOT_FOUND
        assert "paris/labels.yaml says 'stable: 9', and there is no such version" in str(caught.value)
        assert "Versions offered: 3, 2, 1." in str(caught.value)
        now = await label(it)
        assert (now.version, now.means, now.serving) == (9, None, None)


async def test_a_label_that_is_taken_out_is_not_found_any_more(tmp_path: Path) -> None:
    store = cities("stable: 1\ncanary: 2")
    async with bench(tmp_path, store) as it:
        await it.ask("paris", "stable")
        await it.ask("paris", "canary")
        put_labels(store, "stable: 1")
        await moved_on(it)
        with pytest.raises(NotFoundError, match="stable: 1"):
            await it.ask("paris", "canary")
        store.delete("paris/labels.yaml")
        await moved_on(it)
        with pytest.raises(NotFoundError):
            await it.ask("paris", "stable")
        assert not {word for word in it.words() if isinstance(word.version, str)}
        assert it.manager.rollover.labels.last_meant(STABLE) is None
        put_labels(store, "stable: 9")
        await moved_on(it)
        with pytest.raises(NotFoundError):
            await it.ask("paris", "stable")


async def test_a_label_of_a_deleted_version_moves_with_the_file(tmp_path: Path) -> None:
    store = cities("stable: 1")
    async with bench(tmp_path, store) as it:
        await it.ask("paris", "stable")
        store.delete("paris/1/")
        put_labels(store, "stable: 2")
        await moved_on(it)
        assert await it.ask("paris", "stable") == "paris@2|paris-2"


@pytest.mark.parametrize("bad", ["", "stable: two", "stable: 2\nlatest: 1", "- no", "x" * 20_000])
async def test_a_file_that_cannot_be_used_changes_nothing_and_is_reported_once(
    tmp_path: Path, bad: str
) -> None:
    store = cities("stable: 1")
    async with bench(tmp_path, store) as it:
        await it.ask("paris", "stable")
        put_labels(store, bad)
        for _ in range(3):
            await moved_on(it)
            assert await it.ask("paris", "stable") == "paris@1|paris-1"
        refused = [event for event in it.seen if isinstance(event, LabelsRefused)]
        assert [event.name for event in refused] == ["paris"]
        model = await it.replica.dataplane.residency.model("paris", deadline_s=it.clock.now_s + 5)
        assert model.labels_problem == refused[0].reason
        assert [it.path for it in it.manager.catalog.snapshot.rejects] == ["paris/labels.yaml"]
        put_labels(store, "stable: 2")
        await moved_on(it)
        assert await it.ask("paris", "stable") == "paris@2|paris-2"
        assert not it.manager.catalog.snapshot.rejects


async def test_the_file_is_read_when_it_is_new_and_never_else(tmp_path: Path) -> None:
    store = cities("stable: 1")
    versions(store, {"rome": [1]})
    async with bench(tmp_path, store) as it:
        assert store.counts["read"] == 1
        for _ in range(3):
            await it.sync()
        assert store.counts["read"] == 1
        put_labels(store, "stable: 2")
        await it.sync()
        await it.sync()
        assert store.counts["read"] == 2


async def test_a_file_that_the_store_does_not_send_is_asked_for_again(tmp_path: Path) -> None:
    store = cities("stable: 1")
    async with bench(tmp_path, store) as it:
        put_labels(store, "stable: 2")
        store.read_fault = StoreError("away")
        await moved_on(it)
        assert await it.ask("paris", "stable") == "paris@1|paris-1"
        assert [event.reason for event in it.seen if isinstance(event, LabelsRefused)] == [
            "it could not be read: away"
        ]
        store.read_fault = None
        await moved_on(it)
        assert await it.ask("paris", "stable") == "paris@2|paris-2"
        assert not it.replica.sync.is_degraded


async def test_a_label_has_a_time_of_its_own(tmp_path: Path) -> None:
    store = cities("stable: 1")
    versions(store, {"rome": [1], "oslo": [1]})
    async with bench(tmp_path, store, model_cache_size=2) as it:
        await it.ask("paris", "stable")
        await it.ask("rome")
        await it.ask("paris", "stable")
        await it.ask("oslo")
        await it.settled()
        assert it.in_memory() == {"paris@1", "oslo@1"}
        await it.ask("oslo", "1")
        await it.ask("rome")
        await it.settled()
        assert it.in_memory() == {"rome@1", "oslo@1"}
        assert STABLE not in it.words()


async def test_labels_come_back_after_a_restart_while_the_store_is_away(tmp_path: Path) -> None:
    store = cities("stable: 1")
    (tmp_path / "disk").mkdir()
    it = Bench(tmp_path / "disk", store)
    await it.replica.start()
    await it.replica.sync.first_pass.wait()
    assert await it.ask("paris", "stable") == "paris@1|paris-1"
    it.script.load_faults["paris@2"] = LoadFailedError("bad file")
    put_labels(store, "stable: 2")
    await it.sync()
    await it.settled()
    await it.stop()
    store.list_fault = StoreError("away")
    again = Bench(tmp_path / "disk", store)
    again.script.load_faults["paris@2"] = LoadFailedError("bad file")
    await again.replica.start()
    while not again.replica._hot_set.is_loaded:
        await asyncio.sleep(0)
    assert await again.ask("paris", "stable") == "paris@1|paris-1"
    await again.stop()


async def test_a_worker_that_dies_takes_no_label_along(tmp_path: Path) -> None:
    store = cities("stable: 1")
    async with bench(tmp_path, store) as it:
        await it.ask("paris", "stable")
        it.workers[0].die()
        await it.settled()
        assert it.in_memory() == {"paris@1"}
        assert it.manager.memory.serving(STABLE) == ("paris", 1)
        assert it.script.loads["paris@1"] == 2


async def test_labels_of_models_that_are_looked_up(tmp_path: Path) -> None:
    store = cities("stable: 1")
    async with bench(tmp_path, store, discovery="on_demand", sync_interval=10) as it:
        assert await it.ask("paris", "stable") == "paris@1|paris-1"
        assert store.counts["read"] == 1
        await it.sync()
        assert store.counts["read"] == 1
        put_labels(store, "stable: 2\nnew: 3")
        await moved_on(it)
        assert await it.ask("paris", "stable") == "paris@2|paris-2"
        put_labels(store, "stable: 2\nnewer: 3")
        it.clock.advance(2)
        assert await it.ask("paris", "newer") == "paris@3|paris-3", "an unknown label is looked for at once"


async def test_a_new_label_is_found_before_the_next_pass(tmp_path: Path) -> None:
    store = cities("stable: 1")
    async with bench(tmp_path, store) as it:
        put_labels(store, "stable: 1\ncanary: 2")
        assert await it.ask("paris", "canary") == "paris@2|paris-2"


async def test_the_verbs_of_the_admin_take_labels(tmp_path: Path) -> None:
    async with bench(tmp_path, cities("stable: 1\ncanary: 2")) as it:
        front, deadline_s = it.replica.dataplane.residency, it.clock.now_s + 5
        await front.load(STABLE, deadline_s=deadline_s)
        assert it.in_memory() == {"paris@1"}
        await front.pin(ModelRef("paris", "canary"), deadline_s=deadline_s)
        assert it.in_memory() == {"paris@1", "paris@2"}
        assert (await front.ready(STABLE, resident=True, deadline_s=deadline_s)).ready
        metadata = await front.metadata(ModelRef("paris", "canary"), deadline_s=deadline_s)
        assert metadata.version == 2
        await front.unload(STABLE, deadline_s=deadline_s)
        assert it.in_memory() == {"paris@2"}
        await front.unpin(ModelRef("paris", "canary"), deadline_s=deadline_s)
        assert not any(entry.pinned for entry in it.memory.entries())


async def test_models_of_a_static_list_have_no_labels(tmp_path: Path) -> None:
    store = FakeStore()
    store.put("paris/model.txt", b"paris")
    store.put("paris/labels.yaml", b"stable: 1")
    async with bench(tmp_path, store, models={"paris": "unused"}) as it:
        with pytest.raises(InvalidInputError, match="static list"):
            await it.ask("paris", "stable")
