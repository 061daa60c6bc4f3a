"""Rows of the fault table: a disk that is full, read-only, frozen, damaged or wanted by two, under a stream of requests.

The models of ``KEPT`` are on the disk, some of them in memory too; those of ``FAR`` are only in the store.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fault_models import FaultModels
from fault_stream import Stream
from server_process import ServerProcess, running_server, start_server
from small_disks import CannotMountError, fill, frozen, image_disk, memory_disk, read_only

KEPT = [f"kept{number}" for number in range(6)]
FAR = ["far0", "far1"]
LARGE = 300_000


@contextmanager
def warm_server(models: FaultModels, disk: Path, **more: object) -> Iterator[ServerProcess]:
    """A server with ``KEPT`` on disk and the last four of them in memory."""
    settings = {
        **models.settings,
        "sync_interval": "300ms",
        "load_failure_backoff": "200ms",
        "load_failure_backoff_max": "400ms",
        "model_cache_size": 4,
        "disk_model_cache_size": 50,
    }
    with running_server(disk, **{**settings, **more}) as server:
        for name in KEPT:
            assert server.predict(name).status == 200
        yield server


@pytest.fixture
def models(fault_models: FaultModels) -> FaultModels:
    for name in KEPT:
        fault_models.write(name)
    for name in FAR:
        fault_models.write(name, padding="x" * LARGE)
    return fault_models


@contextmanager
def skipped_where_not_mountable() -> Iterator[None]:
    try:
        yield
    except CannotMountError as error:
        pytest.skip(f"no file system can be mounted here: {error}")


@pytest.mark.slow
async def test_the_disk_is_full(models: FaultModels, tmp_path: Path, fault_row) -> None:
    with (
        skipped_where_not_mountable(),
        memory_disk(tmp_path / "disk", mebibytes=1) as disk,
        warm_server(models, disk) as server,
    ):
        filler = fill(disk)
        async with Stream(server, [*KEPT, *FAR], connections=8) as stream:
            stream.fault_begins()
            await stream.goes_on(20, models=KEPT)
            await stream.until(lambda: {it.model for it in stream.failures()} == set(FAR), what="failures")
            assert not server.events("worker_died")
            stream.fault_begins()
            filler.unlink()
            await stream.recovered()
            await stream.goes_on()
        fault_row("the disk is full", stream, touched=FAR, kinds={"disk_full"})
        assert not [it for it in server.events("evicted") if it["tier"] == "disk"]


@pytest.mark.slow
async def test_the_disk_is_read_only(models: FaultModels, tmp_path: Path, fault_row) -> None:
    disk = tmp_path / "disk"
    with warm_server(models, disk) as server:
        async with Stream(server, [*KEPT, *FAR], connections=8) as stream:
            with skipped_where_not_mountable(), read_only(disk / "objects", disk / "staging"):
                stream.fault_begins()
                await stream.goes_on(20, models=KEPT)
            stream.fault_begins()
            await stream.recovered()
            await stream.goes_on()
        fault_row("the disk is read-only", stream, touched=FAR, kinds={"load_failed"})


@pytest.mark.slow
async def test_the_disk_hangs_for_a_while(models: FaultModels, tmp_path: Path, fault_row) -> None:
    with (
        skipped_where_not_mountable(),
        image_disk(tmp_path / "disk", mebibytes=32) as disk,
        warm_server(models, disk, request_timeout="500ms") as server,
    ):
        async with Stream(server, [*KEPT, *FAR], connections=8) as stream:
            with frozen(disk):
                stream.fault_begins()
                await stream.goes_on(10, models=KEPT)
                assert {it.model for it in stream.failures()} <= set(FAR)
            stream.fault_begins()
            await stream.recovered()
            await stream.goes_on()
        # One whose load ends in the last moment has no time left for its prediction.
        fault_row("the disk hangs", stream, touched=FAR, kinds={"loading", "deadline"})


def lose(path: Path) -> None:
    """In one step: what takes its place meanwhile is not lost too."""
    lost = path.rename(path.parent.parent / f"lost-{path.name}")
    if lost.is_dir():
        shutil.rmtree(lost)
    else:
        lost.unlink()


def lose_everything(disk: Path) -> None:
    for path in [*disk.iterdir()]:
        lose(path)


def lose_what_is_published(disk: Path) -> None:
    for path in [*(disk / "objects").iterdir()]:
        lose(path)


def published_files(disk: Path) -> list[Path]:
    """All that are there now: not what is fetched anew as the first of them is noticed, which is damaged once and not twice."""
    return [*(disk / "objects").glob("*/files/*")]


def shorten_files(disk: Path) -> None:
    for path in published_files(disk):
        path.write_bytes(path.read_bytes()[:10])


def overwrite_files(disk: Path) -> None:
    """As good a model, of the same size: what no runtime notices."""
    for path in published_files(disk):
        path.write_bytes(path.read_bytes().replace(b"kept", b"fake"))


def swap_for_directories(disk: Path) -> None:
    for path in published_files(disk):
        path.unlink()
        path.mkdir()


DAMAGES = [lose_everything, lose_what_is_published, shorten_files, overwrite_files, swap_for_directories]


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
async def test_files_are_damaged_under_it(damage, models: FaultModels, tmp_path: Path, fault_row) -> None:
    with warm_server(models, tmp_path / "disk") as server:
        async with Stream(server, [*KEPT, *FAR], connections=8) as stream:
            await stream.goes_on()
            stream.fault_begins()
            damage(tmp_path / "disk")
            await stream.recovered()
            await stream.goes_on(20)
        fault_row(f"files on disk: {damage.__name__.replace('_', ' ')}", stream)


def remembered(disk: Path) -> list[Path]:
    """Every file of the directory that is not a model's; without the lock, which says that the directory is hotset's."""
    files = [path for path in disk.iterdir() if path.is_file() and path.name != "lock"]
    return [*(disk / "objects").glob("*/record"), *files]


def write_rubbish(disk: Path) -> None:
    for path in remembered(disk):
        path.write_bytes(b"\x00rubbish\xff")


def lose_records(disk: Path) -> None:
    for path in remembered(disk):
        path.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("damage", [write_rubbish, lose_records], ids=lambda damage: damage.__name__)
async def test_what_is_remembered_is_damaged_between_two_starts(
    damage, models: FaultModels, tmp_path: Path, fault_row
) -> None:
    with warm_server(models, tmp_path / "disk") as server:
        server.kill()
    damage(tmp_path / "disk")
    with warm_server(models, tmp_path / "disk") as server:
        async with Stream(server, [*KEPT, *FAR], connections=8) as stream:
            stream.fault_begins()
            await stream.recovered()
        fault_row(f"state on disk: {damage.__name__.replace('_', ' ')}", stream)


@pytest.mark.slow
async def test_a_second_replica_wants_the_same_directory(
    models: FaultModels, tmp_path: Path, fault_row
) -> None:
    with warm_server(models, tmp_path / "disk") as server:
        async with Stream(server, [*KEPT, *FAR], connections=8) as stream:
            await stream.goes_on()
            stream.fault_begins()
            second = start_server(tmp_path / "disk", **models.settings)
            await stream.until(lambda: second.process.poll() is not None, what="the second one ends")
            await stream.recovered()
            await stream.goes_on()
        fault_row("a second replica wants the directory", stream)
        assert second.process.returncode not in {0, -signal.SIGKILL}
        assert f"held by pid {server.pid}" in second.tail()
