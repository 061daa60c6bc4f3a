"""What each thread of a worker is at, in memory that outlives the worker: which model, and since when.

The threads of a child write it, the gateway reads it: of a child that died, to know which models it was running; of one that
lives, to see threads that never return. It decides nothing, and nobody waits for it.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, MutableSequence, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple, TypeAlias, cast

from hotset.shared.arena import create_file

LOADS: Final = 32
"""So many loads side by side are told of; what is beyond is not seen."""

IDLE: Final = -1.0
"""In the place of a handle: at nothing."""
_PLACE: Final = struct.Struct("=dd")
"""Handle and beginning, both as a double: a handle is a small number, and one format is one view."""


Place: TypeAlias = MutableSequence[float]
"""A view of two doubles."""


class Running(NamedTuple):
    """One thread at work. ``since_s`` is on the monotonic clock, which processes share."""

    handle: int
    since_s: float
    is_load: bool


class Board:
    """A place for each predict thread, and some for loads.

    Each place is written by one thread at a time; any thread of any process that has the memory may read. A thread that is
    interrupted between two writes shows an old time, never a wrong model.
    """

    def __init__(self, memory: memoryview, *, threads: int) -> None:
        """``memory`` is writable, of ``size_of(threads)`` bytes. Whoever makes it for others calls ``clear`` first."""
        self._places = cast("Place", memory.cast("B").cast("d"))
        self._threads = threads
        self._free = deque(range(threads, threads + LOADS))

    @classmethod
    def size_of(cls, threads: int) -> int:
        return (threads + LOADS) * _PLACE.size

    @classmethod
    def of_this_process(cls, threads: int) -> Board:
        """Return one that no other process reads."""
        board = cls(memoryview(bytearray(cls.size_of(threads))), threads=threads)
        board.clear()
        return board

    @classmethod
    def mapped(cls, file: int, threads: int) -> Board:
        """Return the board in a file of shared memory.

        Raises:
            OSError: it cannot be mapped.
        """
        return cls(memoryview(mmap.mmap(file, cls.size_of(threads))), threads=threads)

    def clear(self) -> None:
        """Nobody is at anything."""
        for place in range(0, len(self._places), 2):
            self._places[place] = IDLE

    def place(self, thread: int) -> Place:
        """Return a predict thread's own place: set ``[1]`` to the time and then ``[0]`` to the handle, and to ``IDLE`` after."""
        return self._places[2 * thread : 2 * thread + 2]

    @contextmanager
    def loading(self, handle: int, *, now: Callable[[], float]) -> Iterator[None]:
        """Tell of a load, in whatever thread."""
        try:
            number = self._free.pop()
        except IndexError:
            yield
            return
        place = self.place(number)
        place[1] = now()
        place[0] = handle
        try:
            yield
        finally:
            place[0] = IDLE
            self._free.append(number)

    def running(self) -> list[Running]:
        """Return what is being done now, or was when the writer died."""
        places = list(self._places)
        pairs = zip(places[::2], places[1::2], strict=True)
        return [
            Running(int(handle), since_s, number >= self._threads)
            for number, (handle, since_s) in enumerate(pairs)
            if handle != IDLE
        ]


def stuck_since(running: Iterable[Running], since_s: float) -> Sequence[int]:
    """Return the handles of what predict threads have been at since then or longer, once for each thread."""
    return [at.handle for at in running if not at.is_load and at.since_s <= since_s]


def too_many_stuck(threads: int) -> int:
    """Return how many threads that never come back are too many: half of them, as the others have to do all the work."""
    return max(1, math.ceil(threads / 2))


@contextmanager
def shared_board(threads: int) -> Iterator[tuple[Board, int]]:
    """Make a board for a child, with its file, which is closed afterwards: the board stays.

    Raises:
        OSError: the system has no memory that can be shared.
    """
    file = create_file(Board.size_of(threads))
    try:
        board = Board.mapped(file, threads)
        board.clear()
        yield board, file
    finally:
        os.close(file)
