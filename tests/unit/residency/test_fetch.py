"""From the store to disk: verified, retried once, shared, bounded, and never half done."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Self

import pytest

from diskkit import CancelledAt, Opened, fp, in_objects, in_staging, put
from hotset.catalog import VersionEntry
from hotset.clock import SystemClock
from hotset.errors import CapacityError, ErrorKind, LoadFailedError, StoreError
from hotset.events import Cause
from hotset.keys import Fingerprint, ModelKey, fingerprint
from hotset.residency.fetch import Fetcher, FetchResult
from hotset.residency.silence import Silence, written
from hotset.store import ObjectChangedError, ObjectMeta, Slots
from hotset.tiers.ledger import Capacity
from waiting import until

FILES = {"model.joblib": b"weights", "parts/0/a": b"a" * 300, "parts/0/b": b"", "meta.json": b"{}"}


class ScriptedStore:
    """Objects in a dict; faults are raised in turn by the next listings or downloads."""

    def __init__(self, objects: dict[str, bytes] | None = None) -> None:
        self.objects = dict(objects or {})
        self.list_faults: list[Exception] = []
        self.download_faults: list[Exception] = []
        self.downloads: list[str] = []
        self.gate: asyncio.Event | None = None
        self.gated = ""
        self.running = 0
        self.most_running = 0

    @property
    def url(self) -> str:
        return "memory://"

    def add(self, prefix: str, files: dict[str, bytes]) -> None:
        self.objects |= {prefix + name: data for name, data in files.items()}

    def meta(self, path: str) -> ObjectMeta:
        data = self.objects[path]
        return ObjectMeta(path, len(data), f"etag-{hash(data)}", 1.0)

    async def list(self, prefix: str = "") -> AsyncIterator[Sequence[ObjectMeta]]:
        await asyncio.sleep(0)
        if self.list_faults:
            raise self.list_faults.pop(0)
        for path in sorted(self.objects):
            if path.startswith(prefix):
                yield [self.meta(path)]

    async def read(self, path: str, *, limit_bytes: int = 1 << 20) -> bytes | None:
        return self.objects.get(path)

    async def download(self, object_: ObjectMeta, target: Path) -> None:
        self.downloads.append(object_.path)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await asyncio.sleep(0)
            if self.gate is not None and object_.path.startswith(self.gated):
                await self.gate.wait()
            if self.download_faults:
                raise self.download_faults.pop(0)
            if object_ != self.meta(object_.path):
                raise ObjectChangedError(f"{object_.path} has changed")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self.objects[object_.path])
        finally:
            self.running -= 1


def entry_of(store: ScriptedStore, prefix: str = "paris/1/", key: ModelKey | None = None) -> VersionEntry:
    metas = [store.meta(path) for path in store.objects if path.startswith(prefix)]
    return VersionEntry(
        key=key or ModelKey("paris", 1),
        fingerprint=fingerprint((meta.path[len(prefix) :], meta.size, meta.etag) for meta in metas),
        prefix=prefix,
        bytes=sum(meta.size for meta in metas),
        objects=len(metas),
        modified_s=1.0,
    )


class Fetching:
    """A tier, a store and a fetcher that notes its pauses instead of making them."""

    def __init__(
        self,
        path: Path,
        capacity: Capacity | None = None,
        *,
        fetches: int = 2,
        objects: int = 8,
        silent_s: float = 60.0,
    ) -> None:
        self.path = path
        self.opened = Opened(path, capacity)
        self.store = ScriptedStore()
        self.store.add("paris/1/", FILES)
        self.pauses: list[float] = []
        self.fetcher = Fetcher(
            store=self.store,
            disk=self.opened.tier,
            clock=SystemClock(),
            parallel_fetches=fetches,
            parallel_objects=objects,
            sleep=self._sleep,
            silent_s=silent_s,
        )

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def __aenter__(self) -> Self:
        await self.opened.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert in_staging(self.path) == set()
        assert self.opened.tier.statistics().ledger.reservations == 0
        await self.opened.__aexit__(*exc_info)

    async def fetch(self, entry: VersionEntry | None = None) -> FetchResult:
        return await self.fetcher.fetch(entry or entry_of(self.store))

    def files(self, fingerprint: Fingerprint) -> dict[str, bytes]:
        root = self.opened.tier.path(fingerprint)
        return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


async def test_what_is_fetched_is_what_the_store_has(tmp_path: Path) -> None:
    async with Fetching(tmp_path) as fetching:
        entry = entry_of(fetching.store)
        result = await fetching.fetch(entry)
        assert (result.bytes, result.objects) == (309, 4)
        assert fetching.files(entry.fingerprint) == FILES
        record = fetching.opened.tier.lookup(entry.fingerprint)
        assert record is not None
        assert record.key == entry.key


async def test_markers_are_no_files_of_the_version(tmp_path: Path) -> None:
    async with Fetching(tmp_path) as fetching:
        entry = entry_of(fetching.store)
        fetching.store.add("paris/1/", {"_SUCCESS": b"", "parts/": b"", "parts/0": b""})
        await fetching.fetch(entry)
        assert fetching.files(entry.fingerprint) == FILES


@pytest.mark.parametrize(
    "change",
    [
        {"paris/1/model.joblib": b"other"},
        {"paris/1/new": b"one more"},
        {"paris/1/a//b": b"unsafe"},
    ],
)
async def test_a_version_that_changed_since_it_was_listed_is_not_fetched(
    tmp_path: Path, change: dict[str, bytes]
) -> None:
    async with Fetching(tmp_path) as fetching:
        entry = entry_of(fetching.store)
        fetching.store.objects |= change
        with pytest.raises(ObjectChangedError, match="paris@1 has changed"):
            await fetching.fetch(entry)
        assert fetching.store.downloads == fetching.pauses == []


async def test_a_version_that_is_gone_has_changed(tmp_path: Path) -> None:
    async with Fetching(tmp_path) as fetching:
        entry = entry_of(fetching.store)
        fetching.store.objects.clear()
        with pytest.raises(ObjectChangedError, match="no files"):
            await fetching.fetch(entry)


async def test_a_store_that_fails_once_is_asked_again(tmp_path: Path) -> None:
    async with Fetching(tmp_path) as fetching:
        fetching.store.list_faults = [StoreError("away")]
        fetching.store.download_faults = [StoreError("cut short")]
        entry = entry_of(fetching.store)
        await fetching.fetch(entry)
        assert len(fetching.pauses) == 2
        assert fetching.files(entry.fingerprint) == FILES


async def test_a_store_that_fails_twice_fails_the_fetch(tmp_path: Path) -> None:
    async with Fetching(tmp_path, objects=1) as fetching:
        for faults in (fetching.store.list_faults, fetching.store.download_faults):
            faults += [StoreError("away"), StoreError("still away")]
            with pytest.raises(StoreError, match="still away"):
                await fetching.fetch()
            assert in_objects(tmp_path) == set()
        await fetching.fetch()


async def test_an_error_keeps_its_own_cause(tmp_path: Path) -> None:
    async with Fetching(tmp_path) as fetching:
        cause = ConnectionError("reset")
        failure = ObjectChangedError("changed")
        failure.__cause__ = cause
        fetching.store.download_faults = [failure]
        with pytest.raises(ObjectChangedError) as caught:
            await fetching.fetch()
        assert caught.value.__cause__ is cause
        assert fetching.pauses == []


async def test_two_versions_with_the_same_files_are_fetched_once(tmp_path: Path) -> None:
    async with Fetching(tmp_path) as fetching:
        fetching.store.add("rome/7/", FILES)
        results = await asyncio.gather(
            fetching.fetch(), fetching.fetch(entry_of(fetching.store, "rome/7/", ModelKey("rome", 7)))
        )
        assert sorted(result.objects for result in results) == [0, 4]
        assert len(fetching.store.downloads) == 4
        assert fetching.opened.tier.usage == (1, 309, ())


async def test_versions_and_objects_at_once_are_bounded(tmp_path: Path) -> None:
    async with Fetching(tmp_path, fetches=2, objects=3) as fetching:
        fetching.store.gate = asyncio.Event()
        entries = []
        for number in range(5):
            fetching.store.add(f"m{number}/1/", {f"file{i}": bytes([number]) for i in range(20)})
            entries.append(entry_of(fetching.store, f"m{number}/1/", ModelKey(f"m{number}", 1)))
        tasks = [asyncio.create_task(fetching.fetch(entry)) for entry in entries]
        await until(lambda: fetching.store.running == 6)
        before = len(asyncio.all_tasks())
        fetching.store.gate.set()
        await asyncio.gather(*tasks)
        assert fetching.store.most_running == 6
        assert before < 20
        assert fetching.opened.tier.usage == (5, 100, ())


async def test_larger_than_the_tier_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    async with Fetching(tmp_path, Capacity(bytes=308)) as fetching:
        with pytest.raises(CapacityError) as caught:
            await fetching.fetch()
        assert caught.value.kind is ErrorKind.TOO_LARGE
        assert fetching.store.downloads == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
async def test_a_full_disk_evicts_and_tries_again(tmp_path: Path, number: int) -> None:
    async with Fetching(tmp_path) as fetching:
        await put(fetching.opened.tier, 1, 200)
        await put(fetching.opened.tier, 2, 200)
        await put(fetching.opened.tier, 3, 200)
        fetching.store.download_faults = [OSError(number, "full")]
        entry = entry_of(fetching.store)
        await fetching.fetch(entry)
        assert sorted(fetching.opened.evicted) == sorted([(fp(1), Cause.PRESSURE), (fp(2), Cause.PRESSURE)])
        assert fetching.files(entry.fingerprint) == FILES


async def test_a_disk_that_stays_full_fails_with_the_figures(tmp_path: Path) -> None:
    async with Fetching(tmp_path, objects=1) as fetching:
        await put(fetching.opened.tier, 1, 10)
        fetching.store.download_faults = [OSError(errno.ENOSPC, "full"), OSError(errno.ENOSPC, "full")]
        with pytest.raises(CapacityError, match=r"paris@1 needs 309 bytes, free are \d+") as caught:
            await fetching.fetch()
        assert caught.value.kind is ErrorKind.DISK_FULL
        assert len(fetching.store.downloads) == 2


async def test_where_nothing_can_go_a_full_disk_is_not_tried_twice(tmp_path: Path) -> None:
    async with Fetching(tmp_path, objects=1) as fetching:
        fetching.store.download_faults = [OSError(errno.ENOSPC, "full")]
        with pytest.raises(CapacityError):
            await fetching.fetch()
        assert len(fetching.store.downloads) == 1


async def test_another_fault_of_the_disk_is_the_loads(tmp_path: Path) -> None:
    async with Fetching(tmp_path) as fetching:
        fetching.store.download_faults = [OSError(errno.EIO, "broken")]
        with pytest.raises(LoadFailedError, match=r"paris@1 cannot be written to disk.*broken"):
            await fetching.fetch()


async def test_a_store_that_writes_other_sizes_is_not_believed(tmp_path: Path) -> None:
    async with Fetching(tmp_path) as fetching:
        honest = fetching.store.download

        async def short(object_: ObjectMeta, target: Path) -> None:
            await honest(object_, target)
            target.write_bytes(b"short")

        fetching.store.download = short  # type: ignore[method-assign]
        with pytest.raises(StoreError, match="other files than it listed"):
            await fetching.fetch()
        assert in_objects(tmp_path) == set()


async def test_what_is_deleted_while_it_is_staged_is_fetched_once_more(tmp_path: Path) -> None:
    """Somebody deletes on disk: the next request would find it there, and so may this one."""
    async with Fetching(tmp_path) as fetching:
        honest, taken = fetching.store.download, list[Path]()

        async def robbed(object_: ObjectMeta, target: Path) -> None:
            await honest(object_, target)
            if not taken:
                taken.append(target)
                target.unlink()

        fetching.store.download = robbed  # type: ignore[method-assign]
        await fetching.fetch()
        assert taken
        assert fetching.files(entry_of(fetching.store).fingerprint) == FILES
        assert len(fetching.store.downloads) == 2 * len(FILES)


async def test_cancelled_anywhere_a_fetch_leaves_nothing(tmp_path: Path) -> None:
    async with Fetching(tmp_path, Capacity(bytes=309), objects=2) as fetching:
        entry = entry_of(fetching.store)
        for at in range(100):
            await put(fetching.opened.tier, 1, 309)
            finished = await CancelledAt(fetching.fetch(entry), at).run()
            await fetching.opened.tier.settled()
            fetching.opened.tier.check_invariants()
            assert in_staging(tmp_path) == set()
            assert fetching.opened.tier.statistics().ledger.reservations == 0
            assert (await fetching.opened.tier.check()).is_clean
            if finished:
                break
            fetching.opened.tier.evict(entry.fingerprint, Cause.EXPLICIT)
        assert finished
        assert at >= 4
        assert fetching.files(entry.fingerprint) == FILES


async def test_a_failed_fetch_does_not_keep_the_next_one_waiting(tmp_path: Path) -> None:
    async with Fetching(tmp_path, fetches=1) as fetching:
        fetching.store.gate = asyncio.Event()
        first = asyncio.create_task(fetching.fetch())
        second = asyncio.create_task(fetching.fetch())
        await until(lambda: fetching.store.running > 0)
        first.cancel()
        await asyncio.wait([first])
        fetching.store.gate.set()
        assert (await second).objects == 4


async def test_versions_of_which_nothing_comes_hold_up_no_other(tmp_path: Path) -> None:
    async with Fetching(tmp_path, fetches=2, silent_s=0.01) as fetching:
        fetching.store.gate, fetching.store.gated = asyncio.Event(), "hung"
        names = [f"hung{number}" for number in range(5)]
        for name in [*names, "rome"]:
            fetching.store.add(f"{name}/1/", {"model": name.encode()})
        entries = {
            name: entry_of(fetching.store, f"{name}/1/", ModelKey(name, 1)) for name in [*names, "rome"]
        }
        hung = [asyncio.create_task(fetching.fetch(entries[name])) for name in names]
        await until(lambda: fetching.store.running == 5)
        async with asyncio.timeout(10):
            await fetching.fetch(entries["rome"])
        assert not any(task.done() for task in hung)
        fetching.store.gate.set()
        assert [result.objects for result in await asyncio.gather(*hung)] == [1] * 5


async def test_a_slot_is_given_away_when_nothing_more_has_come(tmp_path: Path) -> None:
    slots = Slots(1, most_lent=1)
    looks = [(1, 8), (2, 8), (2, 16), (2, 16)]
    seen = []

    def written(files: tuple[Path, ...]) -> tuple[int, int]:
        assert slots.lent == 0
        seen.append(files)
        return looks[len(seen) - 1]

    async with slots.slot() as slot:
        silence = Silence(slot, every_s=0, written=written)
        with silence.watched(), silence.copies(tmp_path / "a"):
            await until(lambda: slots.lent == 1)
    assert seen == [(tmp_path / "a",)] * len(looks)


async def test_what_is_written_is_seen_wherever_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "a"
    assert written((file, tmp_path / "missing")) == (0, 0)
    file.write_bytes(b"x" * 100)
    length, blocks = written((file, tmp_path / "missing"))
    assert (length, blocks > 0) == (100, True)
    with file.open("r+b") as opened:
        opened.seek(10 << 20)
        opened.write(b"x")
    length, _ = written((file,))
    with file.open("r+b") as opened:
        opened.seek(5 << 20)
        opened.write(b"x" * 10_000)
    assert written((file,))[0] == length
    assert written((file,))[1] > blocks
