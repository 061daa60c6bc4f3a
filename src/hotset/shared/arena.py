"""Shared memory that this process writes and others read: where a large payload is put so that it need not be sent.

An arena is one anonymous file of the system (``memfd``), mapped by its writer and by each reader, so it has no name,
is not limited by ``/dev/shm``, and is gone with the last process that holds it, however that ended. The gateway owns one for
the bodies of requests, which every child reads; each child writes to one of its own, which the gateway reads.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, TypeAlias

from hotset.shared.extents import Extents

LARGE_BYTES: Final = 1 << 17
"""From this size on a payload goes into an arena. Measured: see docs/design/014-shared-memory.md."""

COPY_BYTES: Final = 1 << 20
"""Copied at a time: other threads of this process get the interpreter in between."""

TRIM_BYTES: Final = 1 << 22
"""Given back to the system at a time: less than a millisecond."""

Buffer: TypeAlias = bytes | bytearray | memoryview


class Place(NamedTuple):
    """Where a payload is in an arena; what crosses the wire in its stead."""

    offset: int
    length: int


def can_share() -> bool:
    """Whether this system has what an arena needs. Linux does."""
    return hasattr(os, "memfd_create")


def create_file(size: int) -> int:
    """Return a new file of the system's for an arena of ``size`` bytes; it takes memory as its pages are written.

    Raises:
        OSError: the system has none to give.
    """
    file = os.memfd_create("hotset", os.MFD_CLOEXEC)
    try:
        os.ftruncate(file, size)
    except BaseException:
        os.close(file)
        raise
    return file


class Segment:
    """A part of an arena that holds one payload. It is free again once nothing refers to this object.

    That is the rule by which the bytes of a small payload are freed, so nobody has to treat the two differently, and
    there is no way to forget it. Written by its maker only; owned by it until it is handed on.
    """

    __slots__ = ("__weakref__", "_arena", "length", "offset")

    def __init__(self, arena: Arena, offset: int, length: int) -> None:
        self._arena = arena
        self.offset: Final = offset
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __del__(self) -> None:
        self._arena.freed(self.offset)

    @property
    def place(self) -> Place:
        return Place(self.offset, self.length)

    def write(self, position: int, data: Buffer) -> None:
        """Copy ``data`` to ``position``. It must fit."""
        start = self.offset + position
        if position + len(data) > self.length:
            raise ValueError(f"{len(data)} bytes at {position} do not fit; the segment has: {self.length}")
        self._arena.memory[start : start + len(data)] = data

    def buffer(self, start: int) -> memoryview:
        """Return what is from ``start`` on, to be written to. Whoever has it keeps the segment too."""
        return self._arena.memory[self.offset + start : self.offset + self.length]

    def shrink(self, length: int) -> None:
        """Say that the payload has turned out shorter; what is behind it is free."""
        self._arena.shrink(self.offset, length)
        self.length = length

    def tobytes(self) -> bytes:
        return bytes(self._arena.memory[self.offset : self.offset + self.length])


Payload: TypeAlias = bytes | memoryview | Segment
"""A body, wherever it is. Segments are the gateway's, views are what its readers have."""


class Arena:
    """The writer's end. Thread-safe. Any number of segments at once, until ``size`` is used up.

    ``file`` is its maker's, who closes it once every reader has it: the mapping keeps the memory until this object
    and every segment are gone.
    """

    def __init__(self, file: int, size: int) -> None:
        self.file: Final = file
        self.size: Final = size
        self._mapping = mmap.mmap(file, size)
        self.memory: Final = memoryview(self._mapping)
        self.on_freed: Callable[[], None] | None = None
        """Called when a segment was freed: in any thread, at any moment, so it must only tell somebody else."""
        self._lock = threading.Lock()
        self._extents = Extents(size)
        self._freed: deque[int] = deque()

    @property
    def used(self) -> int:
        """Bytes in segments that live."""
        with self._lock:
            self._collect()
            return self._extents.used

    @property
    def is_clean(self) -> bool:
        """Whether all memory that was ever used, and is not in use now, was given back."""
        with self._lock:
            self._collect()
            return self._extents.is_clean

    def allocate(self, length: int) -> Segment | None:
        """Return a segment of ``length`` bytes, or None where there is no room for it now."""
        with self._lock:
            self._collect()
            offset = self._extents.allocate(length)
        return None if offset is None else Segment(self, offset, length)

    def holding(self, data: Buffer) -> Segment | None:
        """Return a segment with a copy of ``data``, or None where there is no room for it now."""
        segment = self.allocate(len(data))
        if segment is not None:
            view = memoryview(data)
            for start in range(0, len(view), COPY_BYTES):
                segment.write(start, view[start : start + COPY_BYTES])
        return segment

    def shrink(self, offset: int, length: int) -> None:
        with self._lock:
            self._extents.shrink(offset, length)

    def freed(self, offset: int) -> None:
        """Take a segment back. Safe wherever a finalizer may run, in a thread that holds the lock too."""
        self._freed.append(offset)
        if self.on_freed is not None:
            self.on_freed()

    def trim(self) -> Iterator[int]:
        """Give the pages back that were not used since the last time, a few at each step; yields their bytes.

        Between two steps the caller may do something else, and others may allocate.
        """
        with self._lock:
            self._collect()
            spare = self._extents.unused()
        for start, end in spare:
            for offset in range(start, end, TRIM_BYTES):
                yield self._give_back(offset, min(end, offset + TRIM_BYTES))

    def _give_back(self, offset: int, end: int) -> int:
        with self._lock:
            if not self._extents.is_free(offset, end):
                return 0
            self._mapping.madvise(mmap.MADV_REMOVE, offset, end - offset)
            return end - offset

    def _collect(self) -> None:
        while self._freed:
            self._extents.free(self._freed.popleft())
