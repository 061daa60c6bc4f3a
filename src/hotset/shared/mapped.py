"""Shared memory that another process writes and this one reads, without copying it and without outliving it.

A child reads the bodies of requests in this way, and the gateway the answers of a child. What is handed out is a
plain ``memoryview``; its writer is told, through ``on_unused``, once neither it nor anything made from it (a slice, an
array by ``numpy.frombuffer``, a queued write of the event loop) is left, so user code may keep what it was given.
"""

from __future__ import annotations

import mmap
import weakref
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from hotset.shared.arena import Place


class MappedArena:
    """The reader's end of an arena. Thread-safe. It is unmapped with the last view of it.

    The file may be closed once this is made.
    """

    def __init__(self, file: int, size: int, *, on_unused: Callable[[int], None]) -> None:
        """``on_unused`` gets a view's number: in any thread, at any moment, so it must only tell somebody else."""
        self.size: Final = size
        self._mapping = mmap.mmap(file, size, prot=mmap.PROT_READ)
        self._on_unused = on_unused
        self._watched: dict[int, weakref.ref[Any]] = {}

    def view(self, number: int, place: Place) -> memoryview:
        """Return what is at ``place``, read-only. ``number`` is what ``on_unused`` is told in the end.

        Raises:
            ValueError: there is no such place.
        """
        offset, length = place
        if offset < 0 or not 0 < length <= self.size - offset:
            raise ValueError(f"{length} bytes at {offset} are not in an arena of {self.size}")
        # An array because it may be referred to weakly, and whatever is made from its buffer refers to it.
        exporter = np.frombuffer(self._mapping, np.uint8, length, offset)

        def unused(_: object) -> None:
            self._watched.pop(number, None)
            self._on_unused(number)

        self._watched[number] = weakref.ref(exporter, unused)
        return exporter.data
