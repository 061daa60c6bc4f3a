"""The sync loop, against a scripted store, a manual clock and a sleep that the test ends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hotset.catalog import Catalog, Layout, ListingReader, ModelEntry, Snapshot, load, settle
from hotset.errors import StoreError
from hotset.events import Event, EventBus, Synced, SyncFailed
from hotset.keys import ModelKey, ModelRef
from hotset.residency.discovery import Source
from hotset.residency.snapshot_file import SnapshotFile
from hotset.residency.sync import SyncLoop, SyncStatus, retry_delay_s
from hotset.residency.whole import WholeStore
from hotset.store import ObjectMeta

LIMIT_S = 20.0
INTERVAL_S = 10.0
Page = Sequence[ObjectMeta]


class TestClock:
    __test__ = False

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return self.now_s


class ScriptedStore:
    """Each listing follows the next step: pages to yield, errors to raise, events to wait for, calls to make."""

    url = "memory://models"

    def __init__(self) -> None:
        self.objects: list[ObjectMeta] = []
        self.steps: list[list[object]] = []
        self.listings = 0
        self.open = 0

    def put(self, *paths: str, etag: str = "e", modified_s: float = 0.0) -> None:
        self.objects += [ObjectMeta(path, 5, etag, modified_s) for path in paths]

    async def list(self, prefix: str = "") -> AsyncIterator[Page]:
        assert not prefix
        self.listings += 1
        self.open += 1
        try:
            for step in self.steps.pop(0) if self.steps else [list(self.objects)]:
                match step:
                    case Exception():
                        raise step
                    case asyncio.Event():
                        await step.wait()
                    case list():
                        yield step
                    case _:
                        assert callable(step)
                        step()
        finally:
            self.open -= 1

    async def read(self, path: str, *, limit_bytes: int = 1 << 20) -> bytes | None:
        raise AssertionError("the sync loop reads no objects")

    async def download(self, object_: ObjectMeta, target: Path) -> None:
        raise AssertionError("the sync loop downloads nothing")


class Target:
    def __init__(self) -> None:
        self.catalog = Catalog()
        self.applied: list[Snapshot] = []
        self.faults: list[Exception] = []
        self.arrived = asyncio.Event()

    @property
    def snapshot(self) -> Snapshot:
        return self.catalog.snapshot

    async def apply(self, snapshot: Snapshot) -> None:
        if self.faults:
            raise self.faults.pop(0)
        self.catalog.apply(snapshot)
        self.applied.append(snapshot)
        self.arrived.set()


class Naps:
    """The sleep seam: the test sees each nap begin, and ends it."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[tuple[float, asyncio.Event]] = asyncio.Queue()
        self.open = 0

    async def __call__(self, seconds: float) -> None:
        end = asyncio.Event()
        self.begun.put_nowait((seconds, end))
        self.open += 1
        try:
            await end.wait()
        finally:
            self.open -= 1


@dataclass
class Rig:
    store: ScriptedStore = field(default_factory=ScriptedStore)
    target: Target = field(default_factory=Target)
    clock: TestClock = field(default_factory=TestClock)
    naps: Naps = field(default_factory=Naps)
    events: list[Event] = field(default_factory=list)
    random: float = 0.5

    def loop(self, *, interval_s: float = INTERVAL_S, **options: Any) -> SyncLoop:
        bus = EventBus()
        bus.subscribe(self.events.append)
        layout, path = options.pop("layout", Layout()), options.pop("state_path", None)
        arguments = {"layout": layout, "settle_time_s": 0.0, **options}
        self.whole = WholeStore(store=self.store, target=self.target, clock=self.clock, **arguments)
        origin = f"{self.store.url} with {layout.expected}"
        return SyncLoop(
            discovery=self.whole,
            target=self.target,
            url=self.store.url,
            clock=self.clock,
            events=bus,
            interval_s=interval_s,
            state=SnapshotFile(path, origin=origin) if path is not None else None,
            sleep=self.naps,
            random=lambda: self.random,
        )

    async def next_nap(self) -> tuple[float, asyncio.Event]:
        async with asyncio.timeout(LIMIT_S):
            return await self.naps.begun.get()

    @property
    def names(self) -> set[str]:
        return set(self.target.snapshot.models)


@pytest.fixture
async def rig():
    """Checks that a test leaves no task, no nap and no open listing."""
    rig = Rig()
    yield rig
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert (rig.naps.open, rig.store.open) == (0, 0)


async def end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# One pass


async def test_a_pass_puts_in_force_what_the_store_lists(rig):
    rig.store.steps = [
        [
            [ObjectMeta("a/1/m", 5, "e", 0.0)],
            [],
            [ObjectMeta("a/2/m", 5, "e", 0.0), ObjectMeta("x", 1, "e", 0.0)],
        ]
    ]
    sync = rig.loop()
    assert not sync.first_pass.is_set()
    await sync.pass_once()
    assert rig.target.snapshot.resolve(ModelRef("a")).key == ModelKey("a", 2)
    assert sync.first_pass.is_set()
    assert rig.events == [
        Synced(models=1, versions=2, rejects=1, unsettled=0, added=2, removed=0, changed=0, seconds=0.0)
    ]


async def test_a_page_of_any_size_is_read_whole(rig):
    rig.store.put(*(f"m{number}/1/m" for number in range(2500)))
    await rig.loop().pass_once()
    assert len(rig.target.snapshot.models) == 2500


async def test_what_is_gone_is_gone(rig):
    rig.store.put("a/1/m", "b/1/m")
    sync = rig.loop()
    await sync.pass_once()
    del rig.store.objects[0]
    await sync.pass_once()
    assert rig.names == {"b"}
    assert isinstance(rig.events[-1], Synced)
    assert rig.events[-1].removed == 1


async def test_a_deleted_model_does_not_stop_the_sync(rig):
    rig.store.put("a/1/m")
    sync = rig.loop()
    await sync.pass_once()
    rig.store.objects.clear()
    for _ in range(2):
        await sync.pass_once()
    assert rig.names == set()
    rig.store.put("b/1/m")
    await sync.pass_once()
    assert rig.names == {"b"}


async def test_an_upload_is_offered_once_it_has_settled(rig):
    rig.store.put("a/1/m", modified_s=1000.0)
    sync = rig.loop(settle_time_s=10.0)
    await sync.pass_once()
    assert rig.target.snapshot.unsettled == (ModelKey("a", 1),)
    rig.store.put("a/1/n", modified_s=1005.0)
    for now_s, names in ((1005.0, set()), (1014.9, set()), (1015.0, {"a"})):
        rig.clock.now_s = now_s
        await sync.pass_once()
        assert rig.names == names
    assert rig.target.snapshot.resolve(ModelRef("a")).objects == 2


async def test_the_time_of_a_pass_is_that_of_its_begin(rig):
    def pass_time() -> None:
        rig.clock.now_s += 30.0

    objects = [ObjectMeta("a/1/m", 5, "e", 1000.0)]
    rig.store.steps = [[objects, pass_time]]
    await rig.loop(settle_time_s=10.0).pass_once()
    assert rig.names == set()


# Failures


@pytest.mark.parametrize("pages", [0, 1])
async def test_a_listing_that_fails_leaves_what_is_in_force(rig, pages):
    rig.store.put("a/1/m")
    sync = rig.loop()
    await sync.pass_once()
    before = rig.target.snapshot
    rig.clock.now_s += 7.0
    rig.store.steps = [[[ObjectMeta("b/1/m", 5, "e", 0.0)]] * pages + [StoreError("the store is away")]]
    await sync.pass_once()
    assert rig.target.snapshot is before
    assert rig.events[-1] == SyncFailed(reason="the store is away", consecutive=1, retry_in_s=INTERVAL_S)
    status = sync.status()
    assert status == SyncStatus("memory://models", 2, 1, "the store is away", 7.0, Source.LISTING)
    assert status.degraded
    await sync.pass_once()
    assert sync.status() == SyncStatus("memory://models", 3, 0, None, 0.0, Source.LISTING)
    assert not sync.status().degraded


async def test_a_listing_that_hangs_fails_the_pass(rig):
    rig.store.steps = [[asyncio.Event()]]
    sync = rig.loop(page_timeout_s=0.001)
    await sync.pass_once()
    assert sync.status().last_error == "the store sent no page of its listing within 0.001 s"
    assert not sync.first_pass.is_set()


async def test_an_empty_listing_is_doubted_once(rig):
    rig.store.put("a/1/m")
    sync = rig.loop()
    await sync.pass_once()
    rig.store.steps = [[], [StoreError("away")], []]
    await sync.pass_once()
    assert rig.names == {"a"}
    assert "lists no models where there were 1" in str(sync.status().last_error)
    await sync.pass_once()
    assert rig.names == {"a"}
    await sync.pass_once()
    assert rig.names == set()
    assert not sync.status().degraded


async def test_an_empty_listing_is_doubted_anew_after_a_full_one(rig):
    rig.store.put("a/1/m")
    sync = rig.loop()
    rig.store.steps = [[list(rig.store.objects)], [], [list(rig.store.objects)], []]
    for _ in range(4):
        await sync.pass_once()
        assert rig.names == {"a"}


async def test_an_empty_store_is_believed_at_once_where_there_was_nothing(rig):
    sync = rig.loop()
    await sync.pass_once()
    assert sync.first_pass.is_set()


async def test_a_target_that_raises_is_a_failed_pass_and_is_logged(rig, caplog):
    rig.store.put("a/1/m")
    rig.target.faults = [ValueError("no such worker")]
    sync = rig.loop()
    await sync.pass_once()
    assert sync.status().last_error == "ValueError: no such worker"
    assert "a pass over the store failed: memory://models" in caplog.text
    await sync.pass_once()
    assert rig.names == {"a"}


async def test_a_version_that_settled_in_a_pass_that_failed_is_still_settled(rig, caplog):
    rig.store.put("a/1/m", modified_s=9999.0)
    sync = rig.loop(settle_time_s=10.0)
    await sync.pass_once()
    rig.clock.now_s += 10.0
    rig.target.faults = [ValueError("no such worker")]
    await sync.pass_once()
    await sync.pass_once()
    assert rig.names == {"a"}


# Lookups and passes


def added(rig: Rig, name: str) -> ModelEntry:
    (entry,) = rig.target.snapshot.models["a"].versions
    model = ModelEntry(name, (entry.__class__(ModelKey(name, 1), entry.fingerprint, f"{name}/", 5, 1, 0.0),))
    rig.target.catalog.add(model)
    return model


async def test_a_model_that_a_lookup_found_while_the_listing_ran_is_kept(rig):
    rig.store.put("a/1/m")
    sync = rig.loop()
    await sync.pass_once()
    rig.store.steps = [[list(rig.store.objects), lambda: added(rig, "late")]]
    await sync.pass_once()
    assert rig.names == {"a", "late"}
    assert isinstance(rig.events[-1], Synced)
    assert rig.events[-1].removed == 0
    await sync.pass_once()
    assert rig.names == {"a"}


async def test_a_lookup_settles_by_what_the_last_pass_knows(rig):
    sync = rig.loop(settle_time_s=10.0)
    await sync.pass_once()
    reader = ListingReader(Layout())
    reader.feed([ObjectMeta("a/1/m", 5, "e", 1.0)])  # an old time, but it was not there a moment ago
    snapshot, _ = settle(
        reader.finish(), rig.whole.settling, Snapshot(), now_s=1001.0, wall_s=1001.0, settle_time_s=10.0
    )
    assert snapshot.unsettled == (ModelKey("a", 1),)


# The loop


async def test_the_loop_rests_for_the_interval_with_jitter(rig):
    sync = rig.loop()
    task = asyncio.create_task(sync.run())
    for number, random, expected in ((1, 0.0, 9.0), (2, 0.5, 10.0), (3, 1.0, 11.0)):
        rig.random = random
        seconds, nap = await rig.next_nap()
        assert rig.store.listings == number
        assert seconds == pytest.approx(expected)
        nap.set()
    await end(task)


async def test_a_trigger_ends_the_rest(rig):
    sync = rig.loop()
    task = asyncio.create_task(sync.run())
    await rig.next_nap()
    rig.store.put("a/1/m")
    sync.trigger()
    await rig.next_nap()
    assert rig.names == {"a"}
    await end(task)


async def test_a_trigger_during_a_pass_asks_for_another(rig):
    sync = rig.loop()
    rig.store.steps = [[sync.trigger]]
    task = asyncio.create_task(sync.run())
    await rig.next_nap()
    assert rig.store.listings == 2
    await end(task)


async def test_without_an_interval_only_a_trigger_starts_the_next_pass(rig):
    sync = rig.loop(interval_s=0.0)
    rig.store.steps = [[StoreError("away")]]
    task = asyncio.create_task(sync.run())
    seconds, nap = await rig.next_nap()
    assert (seconds, sync.first_pass.is_set()) == (1.0, False)
    rig.store.put("a/1/m")
    nap.set()
    async with asyncio.timeout(LIMIT_S):
        await sync.first_pass.wait()
    rig.store.put("b/1/m")
    rig.target.arrived.clear()
    sync.trigger()
    async with asyncio.timeout(LIMIT_S):
        await rig.target.arrived.wait()
    assert rig.names == {"a", "b"}
    assert rig.naps.begun.empty()
    await end(task)


async def test_failures_back_off_and_a_success_ends_that(rig):
    sync = rig.loop()
    rig.store.steps = [
        [StoreError("away")],
        [StoreError("away")],
        [[]],
        [StoreError("away")],
        [StoreError("away")],
    ]
    task = asyncio.create_task(sync.run())
    rests = []
    for _ in range(6):
        seconds, nap = await rig.next_nap()
        rests.append(seconds)
        nap.set()
    assert rests == pytest.approx([1.0, 2.0, 10.0, 10.0, 20.0, 10.0])
    await end(task)


@pytest.mark.parametrize(
    ("failures", "interval_s", "served", "expected"),
    [
        (1, 10.0, False, 1.0),
        (4, 10.0, False, 8.0),
        (100_000, 10.0, False, 60.0),
        (1, 10.0, True, 10.0),
        (3, 10.0, True, 40.0),
        (4, 10.0, True, 60.0),
        (1, 0.0, True, 1.0),
        (9, 300.0, True, 300.0),
    ],
)
def test_the_delay_before_a_retry(failures, interval_s, served, expected):
    assert retry_delay_s(failures=failures, interval_s=interval_s, served=served) == expected


async def test_passes_never_overlap(rig):
    gate, sync = asyncio.Event(), rig.loop()
    rig.store.steps = [[gate, lambda: seen.append(rig.store.open)], [lambda: seen.append(rig.store.open)]]
    seen: list[int] = []
    async with asyncio.TaskGroup() as group:
        group.create_task(sync.pass_once())
        group.create_task(sync.pass_once())
        while not rig.store.open:
            await asyncio.sleep(0)
        gate.set()
    assert seen == [1, 1]


async def test_a_cancel_in_the_middle_of_a_listing_leaves_nothing_behind(rig):
    sync, reached = rig.loop(), asyncio.Event()
    rig.store.steps = [[reached.set, asyncio.Event()]]
    task = asyncio.create_task(sync.run())
    async with asyncio.timeout(LIMIT_S):
        await reached.wait()
    await end(task)
    assert rig.store.open == 0
    await sync.pass_once()
    assert sync.first_pass.is_set()


# The stored snapshot


async def test_the_last_good_snapshot_is_served_after_a_restart_while_the_store_is_away(rig, tmp_path):
    path = tmp_path / "state" / "catalog"
    rig.store.put("a/1/m", "x")
    await rig.loop(state_path=path).pass_once()
    again = Rig()
    again.store.steps = [[StoreError("away")], []]
    sync = again.loop(state_path=path)
    assert await sync.restore() == again.target.snapshot == rig.target.snapshot
    assert sync.first_pass.is_set()
    await sync.pass_once()
    await sync.pass_once()
    assert again.names == {"a"}
    assert [item.name for item in path.parent.iterdir()] == ["catalog"]


async def test_nothing_is_restored_where_nothing_was_kept(rig, tmp_path):
    assert await rig.loop(state_path=tmp_path / "catalog").restore() is None
    assert await rig.loop().restore() is None
    assert rig.target.applied == []


async def test_a_stored_snapshot_that_is_damaged_is_removed_with_a_reason(rig, tmp_path, caplog):
    path = tmp_path / "catalog"
    rig.store.put("a/1/m")
    await rig.loop(state_path=path).pass_once()
    path.write_bytes(path.read_bytes()[:-1])
    again = Rig()
    sync = again.loop(state_path=path)
    assert await sync.restore() is None
    assert "the stored catalog is unusable and removed: the snapshot is damaged" in caplog.text
    assert not path.exists()
    assert not sync.first_pass.is_set()


@pytest.mark.parametrize("change", ["url", "layout"])
async def test_a_stored_snapshot_of_another_store_or_layout_is_not_served(rig, tmp_path, change):
    path = tmp_path / "catalog"
    rig.store.put("a/1/m")
    await rig.loop(state_path=path).pass_once()
    again = Rig()
    if change == "url":
        again.store.url = "memory://other"
    layout = Layout(name_depth=2) if change == "layout" else Layout()
    assert await again.loop(state_path=path, layout=layout).restore() is None
    assert again.names == set()


async def test_a_target_that_cannot_take_the_stored_snapshot_does_not_stop_the_start(rig, tmp_path, caplog):
    path = tmp_path / "catalog"
    rig.store.put("a/1/m")
    await rig.loop(state_path=path).pass_once()
    rig.target.faults = [ValueError("no such worker")]
    assert await rig.loop(state_path=path).restore() is None
    assert "no such worker" in caplog.text


async def test_the_file_is_written_only_when_something_changed(rig, tmp_path):
    path = tmp_path / "catalog"
    rig.store.put("a/1/m")
    sync = rig.loop(state_path=path)
    await sync.pass_once()
    first = path.stat().st_ino
    await sync.pass_once()
    assert path.stat().st_ino == first
    rig.store.put("b/1/m")
    await sync.pass_once()
    assert set(load(path.read_bytes(), origin="memory://models with <name>/<version>/…").models) == {"a", "b"}


async def test_a_disk_that_refuses_the_file_does_not_fail_the_pass(rig, tmp_path, caplog):
    blocker = tmp_path / "file"
    blocker.write_text("not a directory")
    rig.store.put("a/1/m")
    sync = rig.loop(state_path=blocker / "catalog")
    await sync.pass_once()
    assert rig.names == {"a"}
    assert not sync.status().degraded
    assert "the catalog cannot be stored" in caplog.text


async def test_a_failed_pass_keeps_the_stored_snapshot(rig, tmp_path):
    path = tmp_path / "catalog"
    rig.store.put("a/1/m")
    sync = rig.loop(state_path=path)
    await sync.pass_once()
    kept = path.read_bytes()
    rig.store.steps = [[], [StoreError("away")]]
    await sync.pass_once()
    await sync.pass_once()
    assert path.read_bytes() == kept


async def test_a_cancel_waits_for_the_write_that_has_begun(rig, tmp_path):
    pipe = tmp_path / "catalog.new"
    os.mkfifo(pipe)  # opening it to write blocks until someone reads
    rig.store.put("a/1/m")
    sync = rig.loop(state_path=tmp_path / "catalog")
    task = asyncio.create_task(sync.run())
    async with asyncio.timeout(LIMIT_S):
        await sync.first_pass.wait()
    task.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    ended_early = task.done()
    data = await asyncio.to_thread(pipe.read_bytes)
    assert data.startswith(b"hotset-snapshot 2\n")
    assert not ended_early
    with pytest.raises(asyncio.CancelledError):
        await task
