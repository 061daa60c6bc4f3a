"""A power cut: what had not come to the medium is fetched again, what had is there, and nobody waits for it meanwhile."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest

from diskkit import Opened, fp, in_objects, in_staging, put
from hotset.events import Cause
from hotset.payload import Signature
from small_disks import CannotMountError, fill, memory_disk
from waiting import until


class Machine:
    """A disk and what names the start of the machine. A start tears what was in the system's cache alone."""

    def __init__(self, path: Path) -> None:
        self.disk = path / "disk"
        self.boot_file = path / "boot_id"
        self.boot_file.write_text("first\n")

    def tier(self) -> Opened:
        return Opened(self.disk, fsync=True, boot_file=self.boot_file)

    def start_again(self) -> None:
        self.boot_file.write_text("second\n")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


async def test_what_the_medium_has_not_is_given_up_after_a_power_cut(machine: Machine) -> None:
    opened = machine.tier()
    await opened.tier.recover()
    await put(opened.tier, 1)
    await opened.tier.durable()
    await put(opened.tier, 2)
    opened.crash()
    os.truncate(machine.disk / "objects" / fp(2) / "files/model", 0)
    os.truncate(machine.disk / "objects" / fp(2) / "files/model", 5)  # of the right size, and all zeros
    machine.start_again()
    async with machine.tier() as again:
        assert (again.report.adopted, again.report.removed) == (1, 1)
        assert in_objects(machine.disk) == {fp(1)}
        assert in_staging(machine.disk) == set()


async def test_after_a_kill_it_is_there_and_comes_to_the_medium_then(machine: Machine) -> None:
    opened = machine.tier()
    await opened.tier.recover()
    await put(opened.tier, 1)
    opened.crash()
    async with machine.tier() as again:
        assert again.report.adopted == 1
    machine.start_again()
    async with machine.tier() as again:
        assert again.report.adopted == 1


async def test_it_comes_to_the_medium_by_itself(machine: Machine) -> None:
    async with Opened(machine.disk, fsync=True, boot_file=machine.boot_file, write_delay_s=0.0) as opened:
        await put(opened.tier, 1)
        record = machine.disk / "objects" / fp(1) / "record"
        await until(lambda: b"boot" not in record.read_bytes())


async def test_what_was_learned_before_is_written_along(machine: Machine) -> None:
    opened = machine.tier()
    await opened.tier.recover()
    await put(opened.tier, 1)
    opened.tier.remember(fp(1), memory_bytes=99, runtime="sklearn", signature=Signature("x"))
    await opened.tier.save()  # it has no record yet that a power cut leaves
    await opened.tier.durable()
    opened.crash()
    machine.start_again()
    async with machine.tier() as again:
        record = again.tier.lookup(fp(1))
        assert record is not None
        assert (record.memory_bytes, record.runtime) == (99, "sklearn")


async def test_what_was_learned_while_it_was_written_is_saved_later(machine: Machine) -> None:
    async with machine.tier() as opened:
        await put(opened.tier, 1)
        await opened.tier.durable()
        opened.tier.remember(fp(1), memory_bytes=7, runtime="sklearn", signature=Signature("x"))
        await opened.tier.save()
        assert b'"memory_bytes":7' in (machine.disk / "objects" / fp(1) / "record").read_bytes()


async def test_what_cannot_be_written_leaves_the_disk(machine: Machine) -> None:
    async with machine.tier() as opened:
        await put(opened.tier, 1)
        await put(opened.tier, 2)
        shutil.rmtree(machine.disk / "objects" / fp(1) / "files")
        await opened.tier.durable()
        assert opened.tier.lookup(fp(1)) is None
        await opened.tier.settled()
        assert opened.evicted == [(fp(1), Cause.CORRUPT)]
        assert opened.tier.lookup(fp(2)) is not None


async def test_a_version_whose_record_finds_no_room_stays_and_is_written_later(tmp_path: Path) -> None:
    """Regression: what was fetched in the last second before the disk was full left it, and could not be fetched again."""
    with ExitStack() as mounted:
        try:
            small = mounted.enter_context(memory_disk(tmp_path / "small", mebibytes=1))
        except CannotMountError as error:
            pytest.skip(f"no file system can be mounted here: {error}")
        machine = Machine(small)
        async with machine.tier() as opened:
            await put(opened.tier, 1)
            filler = fill(small)
            await opened.tier.durable()
            with pytest.raises(OSError, match="No space left"):
                await opened.tier.save()
            assert opened.tier.lookup(fp(1)) is not None
            assert opened.evicted == []
            filler.unlink()
            await opened.tier.save()
            await opened.tier.durable()
        machine.boot_file.write_text("second\n")
        async with machine.tier() as again:
            assert (again.report.adopted, again.report.removed) == (1, 0)
            assert in_objects(machine.disk) == {fp(1)}


async def test_a_version_in_use_that_cannot_be_written_is_not_given_out_again(machine: Machine) -> None:
    async with machine.tier() as opened:
        opened.tier.hold(fp(1))
        await put(opened.tier, 1)
        shutil.rmtree(machine.disk / "objects" / fp(1) / "files")
        await opened.tier.durable()
        assert opened.tier.lookup(fp(1)) is None
        await put(opened.tier, 1)
        assert opened.tier.lookup(fp(1)) is not None
        opened.tier.release(fp(1))


async def test_evicted_before_it_came_to_the_medium(machine: Machine) -> None:
    async with machine.tier() as opened:
        await put(opened.tier, 1)
        opened.tier.evict(fp(1), Cause.EXPLICIT)
        await opened.tier.durable()
        await opened.tier.settled()
        assert in_objects(machine.disk) == set()


async def test_where_the_system_does_not_name_its_starts_the_medium_has_it_before(machine: Machine) -> None:
    machine.boot_file.unlink()
    opened = machine.tier()
    await opened.tier.recover()
    await put(opened.tier, 1)
    opened.crash()
    machine.start_again()
    async with machine.tier() as again:
        assert again.report.adopted == 1
