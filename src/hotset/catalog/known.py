"""What is known of a store is met again in a listing: nearly all of it unchanged, and in the same order.

The reader of a listing asks here, for each name that it comes across, whether the objects are those that are known.
While the listing follows the order of names that costs one comparison; a name out of turn is looked up.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from enum import Enum, auto
from typing import Final

from hotset.catalog.models import Models


class Meeting(Enum):
    """What a name and its objects are to what is known."""

    SAME = auto()
    CHANGED = auto()
    NEW = auto()
    AGAIN = auto()
    """It was met before in this listing: its objects came in several parts."""


class Known:
    """Owned by the reader of one listing."""

    def __init__(self, models: Models) -> None:
        self._models: Final = models
        self._met: Final = [bytearray(len(block)) for block in models.blocks]
        self._at = -1
        self._index = 0
        self._digests: array[int] = array("Q")
        self._met_here = bytearray()

    def is_next(self, digest: int) -> bool:
        """Say whether these are the objects of the model that is next in order, and count it as met."""
        while self._index == len(self._digests):
            if self._at + 1 >= len(self._met):
                return False
            self._go_to(self._at + 1, 0)
        if self._digests[self._index] != digest or self._met_here[self._index]:
            return False
        self._met_here[self._index] = True
        self._index += 1
        return True

    def meet(self, name: str, digest: int) -> Meeting:
        """Say what a model is to what is known, and go on behind it."""
        at, index = self._models.place(name)
        if index < 0:
            return Meeting.NEW
        if self._met[at][index]:
            return Meeting.AGAIN
        self._met[at][index] = True
        self._go_to(at, index + 1)
        return Meeting.SAME if self._digests[index] == digest else Meeting.CHANGED

    def missing(self) -> Iterator[str]:
        """Yield the names that the listing did not show."""
        for block, met in zip(self._models.blocks, self._met, strict=True):
            if 0 in met:
                yield from (name for name, is_met in zip(block.names(), met, strict=True) if not is_met)

    def _go_to(self, at: int, index: int) -> None:
        self._at, self._index = at, index
        self._digests = self._models.blocks[at].digests
        self._met_here = self._met[at]
