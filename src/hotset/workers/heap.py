"""What a load adds to this process's heap, how freed heap stays for the next load, and how it goes back to the system.
Called by the host, and by a child at its start.

In-use heap is what glibc's malloc has given out (all arenas, and large blocks that it maps by themselves) plus
what Python's own allocator holds in small blocks, which malloc does not see, at an average size. What our own
runtimes map of models' files counts as heap (see ``runtimes/mapped.py``).

In a child, what a load adds is all malloc's (``smallobjects.py``), and Python's blocks are not counted at all.

Its limits: other memory that a framework maps without malloc (files of its own, device memory) does not count; what
predictions allocate for the time of a load counts as the load's; a growth while two loads overlap is shared between
them by what is expected of each, so their sum is right and each alone may be off: nobody should remember it. What grows while
a large model is being dropped is nobody's. On a system without ``mallinfo2`` (glibc before 2.33, musl, macOS) only
Python's small blocks count.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple

from hotset.runtimes.mapped import mapped_bytes
from hotset.workers.smallobjects import SmallObjects

AVERAGE_BLOCK_BYTES: Final = 64
"""Python's small blocks are of 16 to 512 bytes: numbers below 32, tuples, lists and short strings 50 to 90."""


KEPT_BYTES: Final = 64 << 20
LARGE_BYTES: Final = 32 << 20
"""Freed memory at the end of the heap is kept up to the first, and blocks beyond the second are mapped by themselves and go
back at once. Both are what glibc arrives at by itself once it has seen a large block freed."""

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_SETTINGS: Final = ("MALLOC_ARENA_MAX", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


class _Mallinfo2(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    )  # fmt: skip

    hblkhd: int
    uordblks: int


def _mallinfo2() -> Callable[[], _Mallinfo2] | None:
    function = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if function is not None:
        function.restype = _Mallinfo2
        function.argtypes = ()
    return function


def _malloc_trim() -> Callable[[int], int] | None:
    function = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if function is not None:
        function.restype = ctypes.c_int
        function.argtypes = (ctypes.c_size_t,)
    return function


_MALLINFO2: Final = _mallinfo2()
_MALLOC_TRIM: Final = _malloc_trim()


def heap_in_use() -> int:
    """Return the bytes of heap, and of models' mapped files, that are in use in this process now."""
    return sys.getallocatedblocks() * AVERAGE_BLOCK_BYTES + malloc_in_use()


def malloc_in_use() -> int:
    """As ``heap_in_use``, without Python's small blocks: what is freed of malloc's is counted as theirs, each time."""
    if _MALLINFO2 is None:
        return mapped_bytes()
    info = _MALLINFO2()
    return int(info.uordblks) + int(info.hblkhd) + mapped_bytes()


def trim_heap() -> None:
    """Give free heap back to the system, where the C library can."""
    if _MALLOC_TRIM is not None:
        _MALLOC_TRIM(0)


def keep_freed_heap(environment: Mapping[str, str] = os.environ) -> bool:
    """Have glibc keep what is freed until ``trim_heap``, up to a limit, in one heap for all threads.

    By itself it gives each thread that loads a heap of its own, from which it returns freed memory at once; the next load
    then gets it back page by page, each page zeroed anew: 30,000 interruptions, and 80 of 190 ms, for a session of 11 MB.
    Not where the user has set any of this. False if nothing was changed. For a child, before it starts threads.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or _MALLOC_TRIM is None or any(name in environment for name in _SETTINGS):
        return False
    mallopt(_M_ARENA_MAX, 1)
    mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
    mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
    return True


class Growth(NamedTuple):
    """What a load added. It is its own unless it overlapped with another load or unload, which may have taken a part of it."""

    bytes: int
    is_own: bool


@dataclass(slots=True)
class _Load:
    share: float
    grown: float = 0.0
    is_own: bool = True


class HeapMeter:
    """Growth of the heap between ``begin`` and ``end``, for several loads at once.

    Thread-safe. Legal order for each load: ``begin``, then ``end`` once, whether the load went well or not.
    """

    def __init__(
        self, read: Callable[[], int] = heap_in_use, *, small_objects: SmallObjects | None = None
    ) -> None:
        """With ``small_objects``, those of loads come from malloc, and ``read`` need not know of Python's."""
        self._read = read
        self._small_objects = small_objects
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._loads: dict[int, _Load] = {}
        self._leaving = 0
        self._last = 0

    @classmethod
    def of_child(cls) -> HeapMeter:
        """Return a meter for a process of ours, where malloc can tell of Python's small objects too if it has to."""
        small_objects = SmallObjects.of_process() if _MALLINFO2 is not None else None
        return cls(heap_in_use if small_objects is None else malloc_in_use, small_objects=small_objects)

    @property
    def is_measuring(self) -> bool:
        """Whether a load is being measured now."""
        return bool(self._loads)

    def in_use(self) -> int:
        """Return the bytes in use now."""
        return self._read()

    @contextmanager
    def unmeasured(self) -> Iterator[None]:
        """A load whose weight is known: its small objects come from where those of others do."""
        if self._small_objects is None:
            yield
            return
        self._small_objects.from_malloc()
        try:
            yield
        finally:
            self._small_objects.from_python()

    def begin(self, expected: int = 1) -> int:
        """Start measuring what will take about ``expected`` bytes; the number returned is what ``end`` wants."""
        if self._small_objects is not None:
            self._small_objects.from_malloc()
        with self._lock:
            self._settle()
            number = next(self._numbers)
            self._loads[number] = _Load(max(1, expected))
            if len(self._loads) > 1 or self._leaving:
                self._mix_up()
        return number

    def end(self, number: int) -> Growth:
        """Return what the heap has grown by since ``begin``; less than 0 where it shrank."""
        with self._lock:
            self._settle()
            load = self._loads.pop(number)
        if self._small_objects is not None:
            self._small_objects.from_python()
        return Growth(round(load.grown), load.is_own)

    @contextmanager
    def leaving(self) -> Iterator[None]:
        """While a model is being dropped: what the heap shrinks by is no load's."""
        with self._lock:
            self._settle_if_measuring()
            self._leaving += 1
            self._mix_up()
        try:
            yield
        finally:
            with self._lock:
                self._settle_if_measuring()
                self._leaving -= 1

    def _settle_if_measuring(self) -> None:
        if self._loads:
            self._settle()

    def _mix_up(self) -> None:
        for load in self._loads.values():
            load.is_own = False

    def _settle(self) -> None:
        """Share what the heap has grown by among those who load."""
        now = self._read()
        if not self._leaving:
            expected = sum(load.share for load in self._loads.values())
            for load in self._loads.values():
                load.grown += (now - self._last) * load.share / expected
        self._last = now
