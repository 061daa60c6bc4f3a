"""The file of a download: exclusive, gone after any failure, and never closed under a thread that writes to it."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from hotset.store.target import TargetFile, copied_in_kernel, in_thread, write_at, write_new


async def test_written_in_any_order(tmp_path: Path) -> None:
    async with TargetFile(tmp_path / "f") as file:
        await asyncio.gather(file.write(b"world", 6), file.write(b"hello ", 0))
    assert (tmp_path / "f").read_bytes() == b"hello world"


async def test_exclusive(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        async with TargetFile(tmp_path / "f"):
            pass
    assert (tmp_path / "f").read_bytes() == b"old"


async def test_removed_when_the_body_raises(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no"):
        async with TargetFile(tmp_path / "f") as file:
            await file.write(b"x", 0)
            raise RuntimeError("no")
    assert not (tmp_path / "f").exists()


async def test_removed_when_somebody_else_removed_it_first(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no"):
        async with TargetFile(tmp_path / "f"):
            (tmp_path / "f").unlink()
            raise RuntimeError("no")


async def test_a_cancelled_call_in_a_thread_ends_first() -> None:
    started, finish = threading.Event(), threading.Event()
    ended = []

    def work() -> None:
        started.set()
        assert finish.wait(10)
        ended.append(True)
        raise ValueError("not heard: the caller was cancelled")

    task = asyncio.create_task(in_thread(work))
    assert await asyncio.to_thread(started.wait, 10)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
    finish.set()
    await asyncio.wait([task], timeout=10)
    assert task.cancelled()
    assert ended == [True]


async def test_cancelled_at_any_step(tmp_path: Path) -> None:
    async def use(path: Path) -> None:
        async with TargetFile(path) as file:
            await file.write(b"x", 0)

    for steps in range(8):
        path = tmp_path / str(steps)
        task = asyncio.create_task(use(path))
        for _ in range(steps):
            await asyncio.sleep(0.0005)
        task.cancel()
        await asyncio.wait([task])
        assert path.exists() == (not task.cancelled())


def test_what_the_kernel_cannot_copy_is_left_to_us(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"0123456789")
    with (tmp_path / "source").open("rb") as source, (tmp_path / "target").open("wb") as target:
        assert copied_in_kernel(source.fileno(), target.fileno(), 4, 10) == 0  # behind the end
        assert copied_in_kernel(target.fileno(), source.fileno(), 4, 0) == 0  # the wrong way round


async def test_a_file_written_at_once(tmp_path: Path) -> None:
    await write_new(tmp_path / "f", lambda descriptor: write_at(descriptor, b"whole", 0))
    assert (tmp_path / "f").read_bytes() == b"whole"


async def test_a_file_written_at_once_is_gone_if_that_failed(tmp_path: Path) -> None:
    def fail(descriptor: int) -> None:
        write_at(descriptor, b"half", 0)
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        await write_new(tmp_path / "f", fail)
    assert not (tmp_path / "f").exists()


async def test_a_file_that_was_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"theirs")
    with pytest.raises(FileExistsError):
        await write_new(tmp_path / "f", lambda _: None)
    assert (tmp_path / "f").read_bytes() == b"theirs"


async def test_a_file_written_at_once_is_gone_if_nobody_wants_it_any_more(tmp_path: Path) -> None:
    begun, going_on = threading.Event(), threading.Event()

    def fill(descriptor: int) -> None:
        begun.set()
        assert going_on.wait(10)
        write_at(descriptor, b"whole", 0)

    task = asyncio.create_task(write_new(tmp_path / "f", fill))
    while not begun.is_set():
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    going_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not (tmp_path / "f").exists()
