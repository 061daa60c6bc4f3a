"""Which parts of an arena are in use: a pure allocator of ranges. Called by ``arena.py`` under its lock.

First fit from the low end, so that what is used again and again is the same few pages, which are there already: a
page that is touched for the first time costs ten times its copying.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

GRAIN_BYTES: Final = 1 << 16
"""Ranges are of whole grains. Of the last one, only the pages that are written take memory."""


def whole_grains(count: int) -> int:
    """Return ``count`` bytes rounded up to whole grains, one at least."""
    return max(1, -(-count // GRAIN_BYTES)) * GRAIN_BYTES


class Extents:
    """Not thread-safe. ``allocate``, then ``free`` once with the offset it gave."""

    def __init__(self, size: int) -> None:
        """``size`` is one of whole grains."""
        self.size: Final = size
        self._free: list[tuple[int, int]] = [(0, size)]
        """(offset, end) of each free range, in order, no two of them touching."""
        self._used: dict[int, int] = {}
        # One bit a grain: what was allocated and not named by `unused` after it, and what came or went since the last.
        self._touched = 0
        self._recent = 0

    @property
    def used(self) -> int:
        """Bytes that are allocated."""
        return sum(self._used.values())

    @property
    def is_clean(self) -> bool:
        """Whether ``unused`` has named, or will never name, all that is free now."""
        return not self._touched & ~self._bits_used()

    def allocate(self, count: int) -> int | None:
        """Return the offset of a range that holds ``count`` bytes, or None where none is free."""
        need = whole_grains(count)
        for index, (offset, end) in enumerate(self._free):
            if end - offset >= need:
                if end - offset == need:
                    del self._free[index]
                else:
                    self._free[index] = (offset + need, end)
                self._used[offset] = need
                self._touched |= _bits(offset, offset + need)
                self._recent |= _bits(offset, offset + need)
                return offset
        return None

    def shrink(self, offset: int, count: int) -> None:
        """Free what an allocated range has beyond ``count`` bytes."""
        keep, had = whole_grains(count), self._used[offset]
        if keep < had:
            self._used[offset] = keep
            self._put_back(offset + keep, offset + had)

    def free(self, offset: int) -> None:
        self._put_back(offset, offset + self._used.pop(offset))

    def is_free(self, offset: int, end: int) -> bool:
        """Whether nothing is allocated between the two."""
        index = bisect_left(self._free, (offset + 1,)) - 1
        return index >= 0 and self._free[index][1] >= end

    def unused(self) -> list[tuple[int, int]]:
        """Return, as (offset, end), what was used once, is free, and was so already when this was called before.

        Each is named once: whoever calls this gives its pages back.
        """
        found = self._touched & ~self._recent & ~self._bits_used()
        self._touched &= ~found
        self._recent = 0
        return _ranges(found)

    def _put_back(self, offset: int, end: int) -> None:
        self._recent |= _bits(offset, end)
        ranges = self._free
        index = bisect_left(ranges, (offset, end))
        if index < len(ranges) and ranges[index][0] == end:
            end = ranges.pop(index)[1]
        if index and ranges[index - 1][1] == offset:
            index -= 1
            offset = ranges.pop(index)[0]
        ranges.insert(index, (offset, end))

    def _bits_used(self) -> int:
        bits = 0
        for offset, count in self._used.items():
            bits |= _bits(offset, offset + count)
        return bits


def _bits(offset: int, end: int) -> int:
    first, last = offset // GRAIN_BYTES, end // GRAIN_BYTES
    return ((1 << (last - first)) - 1) << first


def _ranges(bits: int) -> list[tuple[int, int]]:
    """Return the runs of ones as (offset, end)."""
    found = []
    position = 0
    while bits:
        zeros = (bits & -bits).bit_length() - 1
        bits >>= zeros
        ones = (~bits & (bits + 1)).bit_length() - 1
        bits >>= ones
        start = position + zeros
        position = start + ones
        found.append((start * GRAIN_BYTES, position * GRAIN_BYTES))
    return found
