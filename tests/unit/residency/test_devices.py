"""A whole replica on fakes with two devices: where versions are loaded, what counts of which device, who has to leave."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from hotset.errors import CapacityError, ErrorKind, LoadFailedError
from hotset.residency.devices import roomiest
from hotset.testing import FakeDriver, FakeStore, versions
from hotset.tiers.ledger import Capacity, Weight
from residency_bench import Bench, bench


def store_of(**devices: str | None) -> FakeStore:
    """Name → what its ``model.yaml`` says of the device; None: it has no such file."""
    store = FakeStore()
    versions(store, {name: [1] for name in devices})
    for name, device in devices.items():
        if device is not None:
            store.put(f"{name}/1/model.yaml", f"device: {device}\n".encode())
    return store


def two_devices(path: Path, store: FakeStore, **settings: Any) -> AbstractAsyncContextManager[Bench]:
    given = {
        "model_cache_size": "{models: 100, device_bytes: 1000}",
        "processes_per_replica": 2,
        "isolation": "shared",
        **settings,
    }
    return bench(path, store, driver=FakeDriver(10**9, 10**9), **given)


def weight(it: Bench, name: str) -> tuple[int, ...]:
    [entry] = it.memory.entries_of(name)
    return entry.weight.device_bytes


def worker(it: Bench, name: str) -> int:
    [entry] = it.memory.entries_of(name)
    return entry.value.resident.worker.id


async def test_models_spread_over_the_devices_by_room(tmp_path: Path):
    names = [f"m{number}" for number in range(4)]
    async with two_devices(tmp_path, store_of(**dict.fromkeys(names, "cuda"))) as it:
        it.script.device_weights.update(dict.fromkeys(names, 400))
        for name in names:
            assert await it.ask(name)
        assert it.memory.usage.device_bytes == (800, 800)
        for name in names:
            assert sum(weight(it, name)) == 400
            assert weight(it, name)[-1] == 400
            assert len(weight(it, name)) == worker(
                it, name
            )  # worker 1 has the first device, worker 2 the second


async def test_a_device_that_is_named_is_where_it_is_loaded_and_who_leaves_it_makes_room(tmp_path: Path):
    store = store_of(old="cuda:1", young="cuda:1", other="cuda:0", host=None, new="cuda:1")
    async with two_devices(tmp_path, store) as it:
        it.script.device_weights.update(old=600, young=300, other=900, new=500)
        for name in ("other", "host", "old", "young"):
            await it.ask(name)
        assert it.memory.usage.device_bytes == (900, 900)
        await it.ask("new")
        assert it.in_memory() == {"other@1", "host@1", "young@1", "new@1"}
        assert weight(it, "new") == (0, 500)
        assert worker(it, "new") == 2


async def test_what_a_version_takes_is_known_the_next_time_also_after_a_restart(tmp_path: Path):
    store = store_of(big="cuda")
    async with two_devices(tmp_path, store) as it:
        it.script.device_weights["big"] = 700
        await it.ask("big")
        [record] = it.disk.records()
        assert record.device_bytes == 700
        version = it.memory.entries_of("big")[0].value.version
        assert it.manager.expected_weight(version).device_bytes == (0, 700)  # there is most room
        await it.disk.save()
    async with two_devices(tmp_path, store) as it:
        [record] = it.disk.records()
        assert record.device_bytes == 700


async def test_what_is_larger_than_a_device_is_refused_with_both_figures(tmp_path: Path):
    async with two_devices(tmp_path, store_of(huge="cuda:1")) as it:
        it.script.device_weights["huge"] = 1001
        with pytest.raises(CapacityError, match="needs 1001 bytes of device 1, the whole capacity is 1000"):
            await it.ask("huge")
        assert it.memory.usage == (0, 0, ())
        assert not it.script.live


async def test_a_device_that_the_server_does_not_use_is_the_versions_fault(tmp_path: Path):
    async with two_devices(tmp_path, store_of(far="cuda:7")) as it:
        with pytest.raises(
            LoadFailedError, match=r"found cuda:7, expected one that this server uses: cuda:0, cuda:1"
        ):
            await it.ask("far")


async def test_what_takes_device_memory_without_having_said_so_counts_where_it_is(tmp_path: Path):
    async with two_devices(tmp_path, store_of(sly=None, sly2=None)) as it:
        it.script.device_weights.update(sly=300, sly2=300)
        await it.ask("sly")
        await it.ask("sly2")
        taken = it.memory.usage.device_bytes
        assert sum(taken) == 600
        for name in ("sly", "sly2"):
            assert len(weight(it, name)) == worker(it, name)


async def test_models_of_the_processor_go_where_they_always_went(tmp_path: Path):
    names = [f"m{number}" for number in range(4)]
    async with two_devices(tmp_path, store_of(**dict.fromkeys(names))) as it:
        for name in names:
            await it.ask(name)
        assert {worker(it, name) for name in names} == {1, 2}
        assert it.memory.usage.device_bytes == ()


async def test_many_at_once_never_exceed_a_device(tmp_path: Path):
    names = [f"m{number}" for number in range(12)]
    async with two_devices(tmp_path, store_of(**dict.fromkeys(names, "cuda"))) as it:
        it.script.device_weights.update({name: 150 + 50 * (number % 5) for number, name in enumerate(names)})
        most = [0, 0]

        def look() -> None:
            for place in (0, 1):
                live = [
                    it.script.device_weights[spec.name]
                    for handle, spec in it.script.live.items()
                    if (it.script.places[handle] - 1) % 2 == place
                ]
                most[place] = max(most[place], sum(live))

        for _ in range(3):
            answers = [asyncio.create_task(it.ask(name, timeout_s=60)) for name in names]
            while not all(answer.done() for answer in answers):
                look()
                await asyncio.sleep(0)
            assert all(answer.result().startswith(name) for name, answer in zip(names, answers, strict=True))
            it.memory.check_invariants()
        assert 0 < max(it.memory.usage.device_bytes) <= 1000
        assert min(most) > 0
    # A first load is reserved by an estimate and weighed in place, as host memory is: after that nothing is beyond.


async def test_memory_that_runs_out_in_a_prediction_is_made_up_for_on_that_device(tmp_path: Path):
    store = store_of(asked="cuda:0", beside="cuda:0", far="cuda:1", host=None)
    async with two_devices(tmp_path, store) as it:
        it.script.device_weights.update(asked=100, beside=100, far=100)
        for name in ("beside", "far", "asked"):
            await it.ask(name)
        it.script.short_of_memory["asked"] = 1
        assert (await it.infer("asked")).startswith("asked@1")
        assert it.in_memory() == {"asked@1", "far@1"}


async def test_memory_that_runs_out_twice_is_503(tmp_path: Path):
    async with two_devices(tmp_path, store_of(asked="cuda:0")) as it:
        await it.ask("asked")
        it.script.short_of_memory["asked"] = 2
        with pytest.raises(Exception, match="no memory left") as caught:
            await it.infer("asked")
        assert getattr(caught.value, "kind", None) is ErrorKind.OUT_OF_MEMORY


@pytest.mark.parametrize(
    ("limits", "taken", "place"),
    [
        ((100, 100), (), 0),
        ((100, 100), (10,), 1),
        ((100, 100), (10, 20), 0),
        ((50, 100), (), 1),
        ((50, None), (), 1),
        ((), (50,), 0),
    ],
)
def test_the_device_with_most_room_is_chosen(limits: tuple[int, ...], taken: tuple[int, ...], place: int):
    assert roomiest(Capacity(device_bytes=limits), [Weight(0, 0, taken), Weight(0, 0)], 2) == place
