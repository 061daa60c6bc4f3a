"""What can happen to the disk tier: killed, cancelled, its files damaged, its directory shared or full."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from diskkit import CancelledAt, Opened, content, fp, in_objects, in_staging, key, put, write_files
from hotset.catalog import VersionEntry, version_contents
from hotset.errors import CapacityError, ConfigError, ErrorKind, LoadFailedError, StoreError
from hotset.events import Cause
from hotset.keys import ModelKey
from hotset.payload import Signature
from hotset.residency.fetch import Fetcher
from hotset.store.local import LocalStore
from hotset.tiers.directory import DiskDirectory
from hotset.tiers.ledger import Capacity
from hotset.tiers.record import DiskRecord
from hotset.workers.intact import intact_files
from small_disks import CannotMountError, fill, memory_disk

TESTS = Path(__file__).parent.parent


def start_child(path: Path, *, fsync: bool) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(
        [sys.executable, str(TESTS / "fault/disk_child.py"), str(path), str(int(fsync))],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    assert child.stdout is not None
    assert child.stdout.read(6) == b"ready\n"
    return child


def kill(child: subprocess.Popen[bytes]) -> None:
    assert child.stdout is not None
    child.kill()
    child.wait()
    child.stdout.close()


def assert_whole(opened: Opened, record: DiskRecord) -> None:
    number = next(number for number in range(40) if fp(number) == record.fingerprint)
    for name, data in content(number, number * 500).items():
        assert (opened.tier.path(record.fingerprint) / name).read_bytes() == data


@pytest.mark.slow
async def test_killed_at_any_moment_only_whole_versions_are_adopted(tmp_path: Path) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    choose = random.Random(seed)
    adopted = removed = 0
    for turn in range(30):
        child = start_child(tmp_path, fsync=turn % 3 == 0)
        try:
            assert child.stdout is not None
            assert child.stdout.read(choose.randrange(1, 40))
            await asyncio.sleep(choose.uniform(0, 0.02))  # the fault itself, and no guess: any moment will do
        finally:
            kill(child)
        async with Opened(tmp_path, Capacity(models=12)) as opened:
            adopted += opened.report.adopted
            removed += opened.report.removed
            assert opened.report.evicted == 0
            assert in_staging(tmp_path) == set()
            assert in_objects(tmp_path) == {record.fingerprint for record in opened.tier.records()}
            for record in opened.tier.records():
                assert_whole(opened, record)
            assert (await opened.tier.check()).is_clean
    print(f"adopted {adopted}, removed {removed}")
    assert adopted > 30
    assert removed > 0


def test_a_second_process_is_told_who_has_the_directory(tmp_path: Path) -> None:
    child = start_child(tmp_path, fsync=False)
    try:
        with pytest.raises(ConfigError, match=f"held by pid {child.pid}"):
            DiskDirectory(tmp_path).ownership.take()
    finally:
        kill(child)
    directory = DiskDirectory(tmp_path)
    directory.ownership.take()
    directory.ownership.give_back()


def shorten(path: Path) -> None:
    os.truncate(path / "files/model", 1)


def lose_a_file(path: Path) -> None:
    (path / "files/part/weights").unlink()


def lose_the_record(path: Path) -> None:
    (path / "record").unlink()


def tear_the_record(path: Path) -> None:
    os.truncate(path / "record", 20)


def scribble_on_the_record(path: Path) -> None:
    (path / "record").write_bytes(b"\xff\x00not a record")


def lie_in_the_record(path: Path) -> None:
    data = (path / "record").read_bytes()
    (path / "record").write_bytes(data.replace(b'"bytes":10', b'"bytes":11'))


def point_out_of_the_directory(path: Path) -> None:
    data = (path / "record").read_bytes()
    (path / "record").write_bytes(data.replace(b'"model"', b'"../model"'))


def come_from_the_future(path: Path) -> None:
    data = (path / "record").read_bytes()
    (path / "record").write_bytes(data.replace(b'"format":1', b'"format":2'))


def swap_a_file_for_a_link(path: Path) -> None:
    (path / "files/model").unlink()
    (path / "files/model").symlink_to("/etc/hostname")


def be_renamed(path: Path) -> None:
    path.rename(path.with_name(fp(99)))


def be_a_file(path: Path) -> None:
    path.rename(path.parent / "away")
    (path.parent / "away/record").unlink()
    path.write_text("a file")


@pytest.mark.parametrize(
    "damage",
    [
        shorten,
        lose_a_file,
        lose_the_record,
        tear_the_record,
        scribble_on_the_record,
        lie_in_the_record,
        point_out_of_the_directory,
        come_from_the_future,
        swap_a_file_for_a_link,
        be_renamed,
        be_a_file,
    ],
)
async def test_what_was_damaged_is_not_adopted_and_its_neighbours_are(tmp_path: Path, damage: object) -> None:
    async with Opened(tmp_path) as opened:
        await put(opened.tier, 1)
        await put(opened.tier, 2)
    assert callable(damage)
    damage(tmp_path / "objects" / fp(1))
    async with Opened(tmp_path) as opened:
        assert opened.report.adopted == 1
        assert opened.report.removed >= 1
        assert in_objects(tmp_path) == {fp(2)}
        assert in_staging(tmp_path) == set()
        await put(opened.tier, 1)


async def test_strangers_and_leftovers_are_swept_at_start(tmp_path: Path) -> None:
    async with Opened(tmp_path) as opened:
        await put(opened.tier, 1)
    (tmp_path / "objects/stranger").mkdir()
    (tmp_path / "objects/file").write_text("")
    (tmp_path / "objects/link").symlink_to("/etc")
    (tmp_path / "staging/half/files").mkdir(parents=True)
    (tmp_path / "staging/stranger").write_text("in the way of the one from objects")
    (tmp_path / "objects" / fp(1) / "files/extra").write_text("made by a model")
    (tmp_path / "objects" / fp(1) / "record.new").write_text("torn")
    async with Opened(tmp_path) as opened:
        assert (opened.report.adopted, opened.report.removed) == (1, 5)
        assert (await opened.tier.check()).is_clean
        assert {entry.name for entry in (tmp_path / "objects" / fp(1)).iterdir()} == {"record", "files"}
    assert Path("/etc/hostname").parent.is_dir()


@pytest.mark.parametrize("recency", [b"", b"[", b'{"a":1}', b'[["unknown",3.5],["x",null]]'])
async def test_a_lost_order_loses_no_version(tmp_path: Path, recency: bytes) -> None:
    async with Opened(tmp_path) as opened:
        await put(opened.tier, 1)
        await put(opened.tier, 2)
    (tmp_path / "recency").write_bytes(recency)
    async with Opened(tmp_path) as opened:
        assert [record.fingerprint for record in opened.tier.records()] == [fp(1), fp(2)]


async def test_of_two_whole_copies_one_is_adopted(tmp_path: Path) -> None:
    async with Opened(tmp_path) as opened:
        await put(opened.tier, 1)
    first = tmp_path / "objects" / fp(1)
    subprocess.run(["cp", "-r", str(first), f"{first}.1"], check=True)
    async with Opened(tmp_path) as opened:
        assert (opened.report.adopted, opened.report.removed) == (1, 1)
        assert [path.name for path in (tmp_path / "objects").iterdir()] == [fp(1)]


async def test_check_names_what_differs_and_fixes_it(tmp_path: Path) -> None:
    async with Opened(tmp_path) as opened:
        for number in (1, 2, 3):
            await put(opened.tier, number)
        shorten(tmp_path / "objects" / fp(1))
        lose_a_file(tmp_path / "objects" / fp(2))
        (tmp_path / "objects" / fp(3) / "files/extra").write_text("")
        (tmp_path / "objects/stranger").mkdir()
        (tmp_path / "staging/stray").write_text("")
        for fix in (False, True):
            report = await opened.tier.check(fix=fix)
            assert {(it.fingerprint, it.missing, it.changed) for it in report.corrupt} == {
                (fp(1), (), ("model",)),
                (fp(2), ("part/weights",), ()),
            }
            assert report.extra == (opened.tier.path(fp(3)) / "extra",)
            assert report.strays == (tmp_path / "objects/stranger", tmp_path / "staging/stray")
        assert (await opened.tier.check()).is_clean
        assert sorted(opened.evicted) == sorted([(fp(1), Cause.CORRUPT), (fp(2), Cause.CORRUPT)])
        assert in_objects(tmp_path) == {fp(3)}


async def test_check_leaves_a_stage_and_a_models_own_files_alone(tmp_path: Path) -> None:
    async with Opened(tmp_path) as opened:
        await put(opened.tier, 1)
        opened.tier.hold(fp(1))
        own = opened.tier.path(fp(1)) / "cache"
        own.write_text("a model's own")
        async with opened.tier.stage(fp(2), key=key(2), bytes=0) as stage:
            report = await opened.tier.check(fix=True)
            assert (report.corrupt, report.extra, report.strays) == ((), (own,), ())
            write_files(stage, {"model": b""})
            await stage.publish({"model": 0})
        assert own.exists()
        opened.tier.release(fp(1))


async def test_corrupt_while_held_is_not_given_out_and_a_new_copy_takes_its_holds(tmp_path: Path) -> None:
    async with Opened(tmp_path, Capacity(models=1)) as opened:
        await put(opened.tier, 1)
        opened.tier.hold(fp(1))
        shorten(tmp_path / "objects" / fp(1))
        await opened.tier.check(fix=True)
        assert opened.tier.lookup(fp(1)) is None
        opened.tier.hold(fp(1))
        assert opened.tier.lookup(fp(1)) is None
        record = await put(opened.tier, 1)
        assert opened.tier.lookup(fp(1)) == record
        assert opened.tier.statistics().ledger.held == 1
        assert (await opened.tier.check()).is_clean
        opened.tier.release(fp(1))
        opened.tier.release(fp(1))


@pytest.mark.parametrize("fsync", [False, True])
async def test_cancelled_anywhere_a_stage_leaves_nothing(tmp_path: Path, fsync: bool) -> None:
    async with Opened(tmp_path, Capacity(bytes=20), fsync=fsync) as opened:
        for at in range(100):
            await put(opened.tier, 1, 20)
            finished = await CancelledAt(put(opened.tier, 2, 20), at).run()
            await opened.tier.settled()
            opened.tier.check_invariants()
            assert in_staging(tmp_path) == set()
            assert in_objects(tmp_path) == {record.fingerprint for record in opened.tier.records()}
            assert opened.tier.statistics().ledger.reservations == 0
            assert (await opened.tier.check()).is_clean
            if finished:
                break
            opened.tier.evict(fp(2), Cause.EXPLICIT)
        assert finished
        assert at >= 2
        assert opened.tier.lookup(fp(2)) is not None


async def test_cancelled_while_it_publishes_a_version_is_whole_or_gone(tmp_path: Path) -> None:
    """However late the thread gets to the rename."""
    async with Opened(tmp_path, fsync=True) as opened:
        for turn in range(20):
            task = asyncio.create_task(put(opened.tier, turn, 1000))
            for _ in range(turn):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        await opened.tier.settled()
        assert (await opened.tier.check()).is_clean
        assert in_staging(tmp_path) == set()


async def test_what_cannot_be_deleted_still_counts_until_it_can(tmp_path: Path) -> None:
    async with Opened(tmp_path, Capacity(models=2)) as opened:
        await put(opened.tier, 1)
        (tmp_path / "staging").rename(tmp_path / "no-staging")  # a rename into it fails
        opened.tier.evict(fp(1), Cause.EXPLICIT)
        await opened.tier.settled()
        statistics = opened.tier.statistics()
        assert (statistics.undeleted, statistics.ledger.usage.models) == (1, 1)
        assert opened.evicted == []
        (tmp_path / "no-staging").rename(tmp_path / "staging")
        await opened.tier.save()
        await opened.tier.settled()
        assert opened.tier.statistics().undeleted == 0
        assert opened.tier.usage.models == 0
        assert opened.evicted == [(fp(1), Cause.EXPLICIT)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    with ExitStack() as mounted:
        try:
            path = mounted.enter_context(memory_disk(tmp_path / "small", mebibytes=1))
        except CannotMountError as error:
            pytest.skip(f"no file system can be mounted here: {error}")
        yield path


async def test_a_store_whose_file_system_is_unmounted_is_away_and_not_empty(tmp_path: Path) -> None:
    place = tmp_path / "store"
    try:
        with memory_disk(place, mebibytes=1):
            store = LocalStore(place)
            assert await listed(store) == []
            version = place / "paris" / "1"
            version.mkdir(parents=True)
            (version / "model").write_bytes(b"x")
            assert await listed(store) == ["paris/1/model"]
            assert await listed(store, "rome/") == []
    except CannotMountError as error:
        pytest.skip(f"no file system can be mounted here: {error}")
    for prefix in ("", "paris/"):
        with pytest.raises(StoreError, match="another file system is there than before"):
            await listed(store, prefix)
    (place / "oslo" / "1").mkdir(parents=True)
    (place / "oslo" / "1" / "model").write_bytes(b"x")
    assert await listed(store) == ["oslo/1/model"], "somebody has put other models there"


async def listed(store: LocalStore, prefix: str = "") -> list[str]:
    return [object_.path async for page in store.list(prefix) for object_ in page]


async def test_a_full_disk_leaves_no_half_version(small_disk: Path) -> None:
    async with Opened(small_disk) as opened:
        await put(opened.tier, 1, 600_000)
        with pytest.raises(OSError, match="No space left"):
            await put(opened.tier, 2, 600_000)
        assert in_objects(small_disk) == {fp(1)}
        assert in_staging(small_disk) == set()
        assert await opened.tier.make_room(600_000) == 600_000
        await put(opened.tier, 2, 600_000)
        assert (await opened.tier.check()).is_clean


async def test_a_fetch_onto_a_full_disk_makes_room_or_says_what_is_missing(
    small_disk: Path, tmp_path: Path
) -> None:
    store = LocalStore(tmp_path / "store")
    entries = []
    for number in (1, 2, 3):
        await store.write(f"m{number}/1/model", bytes([number]) * 600_000)
        pages = [page async for page in store.list(f"m{number}/1/")]
        contents = version_contents(pages[0], f"m{number}/1/")
        entries.append(
            VersionEntry(
                ModelKey(f"m{number}", 1), contents.fingerprint, f"m{number}/1/", contents.bytes, 1, 0.0
            )
        )
    async with Opened(small_disk) as opened:
        fetcher = Fetcher(store=store, disk=opened.tier, clock=opened.clock)
        await fetcher.fetch(entries[0])
        opened.tier.hold(entries[1].fingerprint)
        await fetcher.fetch(entries[1])
        assert in_objects(small_disk) == {entries[1].fingerprint}
        with pytest.raises(CapacityError, match=r"the disk is full: m3@1 needs 600000 bytes") as caught:
            await fetcher.fetch(entries[2])
        assert caught.value.kind is ErrorKind.DISK_FULL
        assert in_staging(small_disk) == set()
        assert (await opened.tier.check()).is_clean
        opened.tier.release(entries[1].fingerprint)


def write_over(path: Path) -> None:
    """Other content of the same size, as an editor or a rewriting tool leaves it."""
    file = path / "files/model"
    file.write_bytes(b"?" * file.stat().st_size)


async def test_a_file_that_was_written_to_is_found_although_its_size_is_the_same(tmp_path: Path) -> None:
    async with Opened(tmp_path) as opened:
        record = await put(opened.tier, 1)
        assert intact_files(opened.tier.files_at(fp(1)), record.files) == ["model", "part/weights"]
        write_over(tmp_path / "objects" / fp(1))
        with pytest.raises(LoadFailedError, match="model was written to since it was published") as found:
            intact_files(opened.tier.files_at(fp(1)), record.files)
        assert found.value.kind is ErrorKind.FILES_DAMAGED
        (corruption,) = (await opened.tier.check()).corrupt
        assert corruption.changed == ("model",)


async def test_a_directory_that_was_copied_is_as_good_as_it_was(tmp_path: Path) -> None:
    """A copy's files have the time of the copying."""
    first, second = tmp_path / "first", tmp_path / "second"
    async with Opened(first) as opened:
        await put(opened.tier, 1)
    subprocess.run(["cp", "-r", str(first), str(second)], check=True)
    os.utime(second / "objects" / fp(1) / "files/model", (1, 1))
    async with Opened(second) as opened:
        assert opened.report.adopted == 1
        record = opened.tier.lookup(fp(1))
        assert record is not None
        assert intact_files(opened.tier.files_at(fp(1)), record.files)
        assert (await opened.tier.check()).is_clean


async def test_a_directory_that_was_deleted_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    async with Opened(path) as opened:
        await put(opened.tier, 1)
        shutil.rmtree(path)
        record = await put(opened.tier, 2)
        assert opened.tier.lookup(fp(2)) == record
        assert in_objects(path) == {fp(2)}
        with pytest.raises(ConfigError, match=f"held by pid {os.getpid()}"):
            DiskDirectory(path).ownership.take()


async def test_a_directory_that_another_process_has_by_now_is_left_to_it(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    async with Opened(path) as opened:
        shutil.rmtree(path)
        child = start_child(path, fsync=False)
        try:
            for _ in range(20):  # it publishes and evicts the same ones all the time, undisturbed
                with pytest.raises(OSError, match=f"held by pid {child.pid}"):
                    await put(opened.tier, 1)
            with pytest.raises(ConfigError, match=f"held by pid {child.pid}"):
                DiskDirectory(path).ownership.take()
            assert child.poll() is None
        finally:
            kill(child)
        shutil.rmtree(path)


async def test_what_another_process_has_in_our_place_is_neither_deleted_nor_written_to(
    tmp_path: Path,
) -> None:
    path = tmp_path / "disk"
    async with Opened(path) as ours:
        await put(ours.tier, 1)
        shutil.rmtree(path)
        async with Opened(path) as theirs:
            for number in (1, 2):
                await put(theirs.tier, number)
            await theirs.tier.save()
            recency = (path / "recency").read_bytes()
            ours.tier.evict(fp(1), Cause.EXPLICIT)
            await ours.tier.settled()
            with pytest.raises(OSError, match="held by pid"):
                await put(ours.tier, 2)
            await ours.tier.save()
            assert in_objects(path) == {fp(1), fp(2)}
            assert (path / "recency").read_bytes() == recency
            assert (await theirs.tier.check()).is_clean


async def test_what_is_written_later_is_not_written_to_what_another_process_has_in_our_place(
    tmp_path: Path,
) -> None:
    """Its versions are named as ours were; so are records that are written when a version is on the medium, or was measured."""
    path = tmp_path / "disk"
    async with Opened(path, fsync=True) as ours:
        await put(ours.tier, 1)
        await put(ours.tier, 2)
        await ours.tier.durable()
        await put(ours.tier, 3)
        shutil.rmtree(path)
        async with Opened(path) as theirs:
            for number in (1, 2, 3):
                await put(theirs.tier, number)
            records = {number: (path / "objects" / fp(number) / "record") for number in (1, 2, 3)}
            before = {number: record.read_bytes() for number, record in records.items()}
            learned = Signature("other")
            ours.tier.remember(fp(1), memory_bytes=5, runtime="other", signature=learned)
            await ours.tier.save()
            await ours.tier.durable()
            assert ours.tier.lookup(fp(3)) is None, "that it is on the medium would not be true"
            await ours.tier.settled()
            assert {number: record.read_bytes() for number, record in records.items()} == before
            assert (await theirs.tier.check()).is_clean


async def test_a_check_that_mends_leaves_what_another_process_has_in_our_place(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    async with Opened(path) as ours:
        await put(ours.tier, 1)
        shutil.rmtree(path)
        async with Opened(path) as theirs:
            await put(theirs.tier, 1)
            extra = path / "objects" / fp(1) / "files" / "its own"
            extra.write_text("a model wrote it")
            staged = path / "staging" / "theirs"
            staged.mkdir()
            report = await ours.tier.check(fix=True)
            assert not report.strays
            assert staged.exists()
            assert extra.exists()
            staged.rmdir()
            assert in_objects(path) == {fp(1)}


async def test_a_deleted_directory_is_made_again_by_many_at_once(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    async with Opened(path) as opened:
        for _ in range(10):
            shutil.rmtree(path)
            await asyncio.gather(*(put(opened.tier, number) for number in range(1, 9)))
            assert in_objects(path) == {fp(number) for number in range(1, 9)}
            with pytest.raises(ConfigError, match=f"held by pid {os.getpid()}"):
                DiskDirectory(path).ownership.take()
            for number in range(1, 9):
                opened.tier.evict(fp(number), Cause.EXPLICIT)
            await opened.tier.settled()


async def test_a_version_that_would_not_fit_all_the_same_takes_no_other_from_a_full_disk(
    small_disk: Path,
) -> None:
    async with Opened(small_disk) as opened:
        await put(opened.tier, 1, 100_000)
        filler = fill(small_disk)
        assert await opened.tier.make_room(600_000) == 0
        assert await opened.tier.make_room(90_000) == 100_000
        filler.unlink()
        assert in_objects(small_disk) == set()
