"""The disk tier, one promise a test."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest

from diskkit import Opened, bytes_of_files, content, fp, in_objects, in_staging, key, put, write_files
from hotset.errors import CapacityError, ConfigError, UnavailableError
from hotset.events import Cause
from hotset.payload import Signature, TensorSpec
from hotset.tiers.ledger import Capacity
from waiting import until

SIGNATURE = Signature("sklearn", (TensorSpec("input", "FP64", (-1, 3)),))


async def test_what_is_published_is_looked_up_with_its_files(tmp_path: Path) -> None:
    async with Opened(tmp_path, fsync=True) as opened:
        record = await put(opened.tier, 7, 11)
        assert opened.tier.lookup(fp(7)) == record
        assert (record.key, record.bytes) == (key(7), 11)
        for name, data in content(7, 11).items():
            assert (opened.tier.path(fp(7)) / name).read_bytes() == data
        assert opened.tier.usage == (1, 11, ())


async def test_directories_are_for_this_user_alone(tmp_path: Path) -> None:
    async with Opened(tmp_path / "new") as opened:
        await put(opened.tier, 1)
        for path in (tmp_path / "new", tmp_path / "new/objects", opened.tier.path(fp(1))):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700


async def test_least_recently_used_go_first(tmp_path: Path) -> None:
    async with Opened(tmp_path, Capacity(models=3)) as opened:
        for number in (1, 2, 3):
            await put(opened.tier, number)
        opened.clock.now_s += 1
        opened.tier.touch(fp(1), opened.clock.now_s)
        await put(opened.tier, 4)
        await put(opened.tier, 5)
        assert opened.evicted == [(fp(2), Cause.CAPACITY), (fp(3), Cause.CAPACITY)]
        assert in_objects(tmp_path) == {fp(1), fp(4), fp(5)}


async def test_bytes_count_as_well_as_places(tmp_path: Path) -> None:
    async with Opened(tmp_path, Capacity(bytes=25)) as opened:
        for number in (1, 2, 3):
            await put(opened.tier, number, 10)
        assert in_objects(tmp_path) == {fp(2), fp(3)}


async def test_demoted_goes_before_all_others(tmp_path: Path) -> None:
    async with Opened(tmp_path, Capacity(models=2)) as opened:
        await put(opened.tier, 1)
        await put(opened.tier, 2)
        opened.tier.demote(fp(2))
        await put(opened.tier, 3)
        assert [fingerprint for fingerprint, _ in opened.evicted] == [fp(2)]


async def test_larger_than_the_tier_is_refused_with_the_figures(tmp_path: Path) -> None:
    async with Opened(tmp_path, Capacity(bytes=10)) as opened:
        with pytest.raises(CapacityError, match=r"needs 11 bytes.*capacity is 10"):
            await put(opened.tier, 1, 11)
        assert in_staging(tmp_path) == set()


async def test_room_is_there_only_when_the_files_are_gone(tmp_path: Path) -> None:
    async with Opened(tmp_path, Capacity(bytes=10)) as opened:
        await put(opened.tier, 1, 10)
        async with opened.tier.stage(fp(2), key=key(2), bytes=10):
            assert bytes_of_files(tmp_path) == 0
            assert opened.evicted == [(fp(1), Cause.CAPACITY)]


async def test_held_is_no_victim_and_whoever_needs_room_waits(tmp_path: Path) -> None:
    async with Opened(tmp_path, Capacity(models=1)) as opened:
        await put(opened.tier, 1)
        opened.tier.hold(fp(1))
        waiting = asyncio.create_task(put(opened.tier, 2))
        await until(lambda: opened.tier.statistics().ledger.reservations == 1)
        await opened.tier.settled()
        assert not waiting.done()
        assert in_objects(tmp_path) == {fp(1)}
        opened.tier.release(fp(1))
        await waiting
        assert in_objects(tmp_path) == {fp(2)}


async def test_whoever_waits_for_room_can_go(tmp_path: Path) -> None:
    async with Opened(tmp_path, Capacity(models=1)) as opened:
        await put(opened.tier, 1)
        opened.tier.hold(fp(1))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await put(opened.tier, 2)
        assert opened.tier.statistics().ledger.reservations == 0
        opened.tier.release(fp(1))


async def test_a_hold_taken_before_the_files_come_counts(tmp_path: Path) -> None:
    async with Opened(tmp_path, Capacity(models=2)) as opened:
        opened.tier.hold(fp(1))
        await put(opened.tier, 1)
        await put(opened.tier, 2)
        await put(opened.tier, 3)
        assert in_objects(tmp_path) == {fp(1), fp(3)}
        opened.tier.release(fp(1))


async def test_evict_waits_for_the_last_hold(tmp_path: Path) -> None:
    async with Opened(tmp_path) as opened:
        await put(opened.tier, 1)
        opened.tier.hold(fp(1))
        opened.tier.hold(fp(1))
        assert opened.tier.evict(fp(1), Cause.DELETED)
        opened.tier.release(fp(1))
        await opened.tier.settled()
        assert opened.tier.path(fp(1)).is_dir()
        opened.tier.release(fp(1))
        assert opened.tier.lookup(fp(1)) is None
        await opened.tier.settled()
        assert opened.evicted == [(fp(1), Cause.DELETED)]
        assert in_objects(tmp_path) == set()


async def test_held_again_means_wanted_again(tmp_path: Path) -> None:
    async with Opened(tmp_path) as opened:
        await put(opened.tier, 1)
        opened.tier.hold(fp(1))
        opened.tier.evict(fp(1), Cause.DELETED)
        opened.tier.hold(fp(1))
        opened.tier.release(fp(1))
        opened.tier.release(fp(1))
        await opened.tier.settled()
        assert opened.tier.lookup(fp(1)) is not None


async def test_evict_of_the_unknown_is_told(tmp_path: Path) -> None:
    async with Opened(tmp_path) as opened:
        assert not opened.tier.evict(fp(1), Cause.DELETED)
        opened.tier.touch(fp(1), 1.0)
        opened.tier.demote(fp(1))
        opened.tier.remember(fp(1), memory_bytes=1, runtime="x", signature=SIGNATURE)
        assert opened.tier.records() == ()


async def test_released_more_often_than_held(tmp_path: Path) -> None:
    async with Opened(tmp_path) as opened:
        with pytest.raises(RuntimeError, match="more often"):
            opened.tier.release(fp(1))


async def test_a_stage_that_is_left_leaves_nothing(tmp_path: Path) -> None:
    async with Opened(tmp_path, Capacity(bytes=10)) as opened:
        with pytest.raises(ZeroDivisionError):
            async with opened.tier.stage(fp(1), key=key(1), bytes=10) as stage:
                write_files(stage, {"a/b": b"12345"})
                1 / 0  # noqa: B018
        assert in_staging(tmp_path) == in_objects(tmp_path) == set()
        assert opened.tier.usage == (0, 0, ())
        await put(opened.tier, 1, 10)


@pytest.mark.parametrize(
    "path", ["../x", "/etc/x", "a/../../x", "", "a//b", "./a", "a/", "a\0b", ".", "..", "\ud800"]
)
async def test_no_path_leaves_the_stage(tmp_path: Path, path: str) -> None:
    async with Opened(tmp_path) as opened, opened.tier.stage(fp(1), key=key(1), bytes=1) as stage:
        with pytest.raises(ValueError):
            stage.targets(["fine", path])


@pytest.mark.parametrize("paths", [("a", "a/b"), ("a/b/c", "a/b"), ("a", "a")])
async def test_paths_that_exclude_each_other_are_refused(tmp_path: Path, paths: tuple[str, ...]) -> None:
    async with Opened(tmp_path) as opened, opened.tier.stage(fp(1), key=key(1), bytes=1) as stage:
        with pytest.raises(ValueError):
            stage.targets(paths)


@pytest.mark.parametrize(
    "expected", [{"a": 4}, {"a": 5, "b": 1}, {"b": 5}, {}], ids=["size", "missing", "other", "none"]
)
async def test_files_that_are_not_those_expected_are_not_published(
    tmp_path: Path, expected: dict[str, int]
) -> None:
    async with Opened(tmp_path) as opened:
        with pytest.raises(ValueError, match="not those expected"):
            async with opened.tier.stage(fp(1), key=key(1), bytes=9) as stage:
                write_files(stage, {"a": b"12345"})
                await stage.publish(expected)
        assert opened.tier.lookup(fp(1)) is None
        assert in_staging(tmp_path) == in_objects(tmp_path) == set()


async def test_more_bytes_than_reserved_are_not_published(tmp_path: Path) -> None:
    async with Opened(tmp_path) as opened:
        with pytest.raises(ValueError, match="reserved were 4"):
            async with opened.tier.stage(fp(1), key=key(1), bytes=4) as stage:
                write_files(stage, {"a": b"12345"})
                await stage.publish({"a": 5})


async def test_fewer_bytes_than_reserved_give_the_rest_back(tmp_path: Path) -> None:
    async with Opened(tmp_path, Capacity(bytes=10)) as opened:
        async with opened.tier.stage(fp(1), key=key(1), bytes=9) as stage:
            write_files(stage, {"a": b"12345"})
            await stage.publish({"a": 5})
        await put(opened.tier, 2, 5)
        assert in_objects(tmp_path) == {fp(1), fp(2)}


async def test_of_two_copies_at_once_the_first_stays(tmp_path: Path) -> None:
    async with Opened(tmp_path, Capacity(models=2)) as opened:
        await asyncio.gather(put(opened.tier, 1), put(opened.tier, 1))
        assert opened.tier.usage.models == 1
        assert [path.name for path in (tmp_path / "objects").iterdir()] in ([fp(1)], [f"{fp(1)}.1"])
        assert opened.evicted == []


async def test_a_version_can_come_back_while_it_is_being_deleted(tmp_path: Path) -> None:
    async with Opened(tmp_path) as opened:
        for _ in range(5):
            await put(opened.tier, 1)
            opened.tier.evict(fp(1), Cause.EXPLICIT)
        await put(opened.tier, 1)
        await opened.tier.settled()
        assert len(list((tmp_path / "objects").iterdir())) == 1
        assert (opened.tier.path(fp(1)) / "model").is_file()


async def test_make_room_spares_what_is_held(tmp_path: Path) -> None:
    async with Opened(tmp_path) as opened:
        for number in (1, 2, 3, 4):
            await put(opened.tier, number, 10)
        opened.tier.hold(fp(1))
        assert await opened.tier.make_room(15) == 20
        assert in_objects(tmp_path) == {fp(1), fp(4)}
        assert {cause for _, cause in opened.evicted} == {Cause.PRESSURE}
        opened.tier.release(fp(1))


async def test_a_restart_keeps_files_order_and_measurements(tmp_path: Path) -> None:
    async with Opened(tmp_path) as opened:
        for number in (1, 2, 3):
            opened.clock.now_s += 1
            await put(opened.tier, number)
        opened.tier.touch(fp(1), opened.clock.now_s)
        opened.tier.remember(fp(2), memory_bytes=99, runtime="sklearn", signature=SIGNATURE)
    async with Opened(tmp_path) as opened:
        assert (opened.report.adopted, opened.report.removed, opened.report.bytes) == (3, 0, 30)
        assert [record.fingerprint for record in opened.tier.records()] == [fp(2), fp(3), fp(1)]
        record = opened.tier.lookup(fp(2))
        assert record is not None
        assert (record.memory_bytes, record.runtime, record.signature) == (99, "sklearn", SIGNATURE)


async def test_a_smaller_tier_adopts_the_youngest(tmp_path: Path) -> None:
    async with Opened(tmp_path) as opened:
        for number in (1, 2, 3):
            await put(opened.tier, number)
    async with Opened(tmp_path, Capacity(models=1)) as opened:
        assert (opened.report.adopted, opened.report.evicted) == (1, 2)
        assert in_objects(tmp_path) == {fp(3)}


async def test_what_came_after_the_last_save_is_younger_than_what_was_saved(tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    await opened.tier.recover()
    await put(opened.tier, 1)
    await opened.tier.save()
    await put(opened.tier, 2)
    opened.crash()
    async with Opened(tmp_path) as again:
        assert [record.fingerprint for record in again.tier.records()] == [fp(1), fp(2)]


async def test_save_writes_only_what_is_new(tmp_path: Path) -> None:
    async with Opened(tmp_path) as opened:
        await put(opened.tier, 1)
        await opened.tier.save()
        (tmp_path / "recency").unlink()
        await opened.tier.save()
        assert not (tmp_path / "recency").exists()
        await put(opened.tier, 2)
        await opened.tier.save()
        assert (tmp_path / "recency").exists()


async def test_a_second_tier_is_told_who_has_the_directory(tmp_path: Path) -> None:
    async with Opened(tmp_path):
        second = Opened(tmp_path)
        with pytest.raises(ConfigError, match=rf"{tmp_path}, held by pid {os.getpid()}"):
            await second.tier.recover()
        await second.tier.close()
        await put_is_refused(second)
    async with Opened(tmp_path):
        pass


async def put_is_refused(opened: Opened) -> None:
    with pytest.raises(UnavailableError):
        await put(opened.tier, 1)


async def test_a_closed_tier_takes_nothing(tmp_path: Path) -> None:
    async with Opened(tmp_path) as opened:
        pass
    await put_is_refused(opened)
    await opened.tier.close()


async def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "objects/ab").mkdir(parents=True)
    (tmp_path / "objects/ab/cdef").write_text("a git object")
    opened = Opened(tmp_path)
    with pytest.raises(ConfigError, match="not hotset's"):
        await opened.tier.recover()
    await opened.tier.close()
    assert (tmp_path / "objects/ab/cdef").read_text() == "a git object"


async def test_a_file_in_place_of_the_directory_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    opened = Opened(tmp_path / "file/below")
    with pytest.raises(ConfigError, match="cannot be used"):
        await opened.tier.recover()
    await opened.tier.close()


async def test_statistics_tell_the_oldest_use(tmp_path: Path) -> None:
    async with Opened(tmp_path, Capacity(models=5)) as opened:
        assert opened.tier.statistics().oldest_used_s is None
        await put(opened.tier, 1)
        assert opened.tier.statistics().oldest_used_s == opened.clock.now_s
        opened.tier.demote(fp(1))
        statistics = opened.tier.statistics()
        assert statistics.oldest_used_s is None
        assert (statistics.ledger.entries, statistics.undeleted) == (1, 0)


async def test_a_lower_limit_evicts_the_least_recently_used(tmp_path: Path) -> None:
    async with Opened(tmp_path) as opened:
        for number in range(4):
            opened.clock.now_s += 1
            await put(opened.tier, number)
        opened.tier.limit(Capacity(models=2))
        await opened.tier.settled()
        assert [record.key for record in opened.tier.records()] == [key(2), key(3)]
