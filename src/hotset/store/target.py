"""The file that a download writes: new, written at offsets from many tasks, gone again unless the download succeeds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Self, TypeVar

_T = TypeVar("_T")
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


async def in_thread(call: Callable[[], _T]) -> _T:
    """Run ``call`` in a thread. When cancelled, wait for its end first, and then be cancelled.

    A thread cannot be stopped, and a file descriptor must not be closed (and its number used again) under a thread
    that still writes to it. That is why ``asyncio.to_thread`` will not do.
    """
    future = asyncio.get_running_loop().run_in_executor(None, call)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([future])
        if not future.cancelled():
            future.exception()  # seen: the cancellation is what the caller gets
        raise


@contextlib.asynccontextmanager
async def opened(path: Path) -> AsyncIterator[IO[bytes]]:
    """A file to be read, opened and closed in threads; closed also when the caller is cancelled while it opens."""
    files: list[IO[bytes]] = []
    try:
        await in_thread(lambda: files.append(path.open("rb")))
        yield files[0]
    finally:
        for file in files:
            await in_thread(file.close)


def copied_in_kernel(source: int, target: int, count: int, offset: int) -> int:
    """Copy from one file to the same place of another, and return how many bytes that were; 0 where it cannot be done.

    It takes a sixth less time than through our own memory, and none at all where the file system lets files share blocks.
    Whatever fails here is left to the way through memory, which finds out whose fault it is.
    """
    if sys.platform != "linux":
        return 0
    try:
        return os.copy_file_range(source, target, count, offset, offset)
    except OSError:
        return 0


def write_at(descriptor: int, data: bytes, offset: int) -> None:
    """Write all of ``data`` at ``offset``, however little the system takes at a time."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written


def new_file(path: Path) -> int:
    """Return the descriptor of an exclusive new file, to write to. Directories that it needs are made, for their owner alone."""
    try:
        return os.open(path, _CREATE, 0o644)
    except FileNotFoundError:
        make_directory(path.parent)
        return os.open(path, _CREATE, 0o644)


def make_directory(path: Path) -> None:
    """Make a directory, and those above it, unless they are there; others may make the same ones at the same time."""
    with contextlib.suppress(FileExistsError):
        try:
            path.mkdir(0o700)
        except FileNotFoundError:
            make_directory(path.parent)
            path.mkdir(0o700)


async def write_new(path: Path, fill: Callable[[int], None]) -> None:
    """Write an exclusive new file in one step of one thread, with the directories that it needs: ``fill`` is given its
    descriptor. It is gone unless that succeeds."""
    created: list[Path] = []  # a cancelled caller must still know that there is a file
    try:
        await in_thread(partial(_write_new, path, fill, created))
    except BaseException:
        if created:
            await in_thread(partial(path.unlink, missing_ok=True))
        raise


def _write_new(path: Path, fill: Callable[[int], None], created: list[Path]) -> None:
    descriptor = new_file(path)
    created.append(path)
    try:
        fill(descriptor)
    finally:
        os.close(descriptor)


class TargetFile:
    """An exclusive new file. Leaving the context by an exception or a cancellation removes it.

    Not fsynced: durability is the disk tier's business, which knows when a whole version is there. Owned by one
    download; ``write`` may be called from many tasks between enter and exit, for parts that do not overlap.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._created = False

    async def __aenter__(self) -> Self:
        try:
            await in_thread(self._open)
        except BaseException:
            await self._discard()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            await self._discard()
            return
        try:
            await in_thread(self._close)
        except BaseException:
            await self._discard()
            raise

    @property
    def descriptor(self) -> int:
        return self._descriptor

    async def write(self, data: bytes, offset: int) -> None:
        await in_thread(partial(write_at, self._descriptor, data, offset))

    async def _discard(self) -> None:
        if self._created:
            await in_thread(self._remove)

    def _open(self) -> None:
        # Kept on the object and not returned: a cancelled caller must still know that there is a file.
        self._descriptor = new_file(self._path)
        self._created = True

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)

    def _remove(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):  # the reason why we discard is what the caller hears
                self._close()
