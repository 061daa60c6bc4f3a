"""Which parts of an arena are in use: a pure allocator of page ranges. Called by ``arena.py`` under its lock.

First fit from the low end, so that what is used again and again is the same few pages, which are there already: a
page that is touched for the first time costs ten times its copying.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

PAGE_BYTES: Final = 4096


def page_aligned(count: int) -> int:
    """Return ``count`` bytes rounded up to whole pages, one at least."""
    return max(1, -(-count // PAGE_BYTES)) * PAGE_BYTES


class Extents:
    """Not thread-safe. ``allocate``, then ``free`` once with the offset it gave."""

    def __init__(self, size: int) -> None:
        self.size: Final = size
        self._free: list[tuple[int, int]] = [(0, size)]
        """(offset, end) of each free range, in order, no two of them touching."""
        self._used: dict[int, int] = {}
        self._reach = 0
        self.is_clean = True
        """Whether every page that was ever used has been named by ``beyond_reach`` since."""

    @property
    def used(self) -> int:
        """Bytes that are allocated."""
        return sum(self._used.values())

    def allocate(self, count: int) -> int | None:
        """Return the offset of a range of whole pages that holds ``count`` bytes, or None where none is free."""
        need = page_aligned(count)
        for index, (offset, end) in enumerate(self._free):
            if end - offset >= need:
                if end - offset == need:
                    del self._free[index]
                else:
                    self._free[index] = (offset + need, end)
                self._used[offset] = need
                self._reach = max(self._reach, offset + need)
                self.is_clean = False
                return offset
        return None

    def shrink(self, offset: int, count: int) -> None:
        """Free what an allocated range has beyond ``count`` bytes."""
        keep, had = page_aligned(count), self._used[offset]
        if keep < had:
            self._used[offset] = keep
            self._put_back(offset + keep, offset + had)

    def free(self, offset: int) -> None:
        self._put_back(offset, offset + self._used.pop(offset))

    def is_free(self, offset: int, end: int) -> bool:
        """Whether nothing is allocated between the two."""
        index = bisect_left(self._free, (offset + 1,)) - 1
        return index >= 0 and self._free[index][1] >= end

    def beyond_reach(self) -> list[tuple[int, int]]:
        """Return the free ranges that were not allocated from since the last call, as (offset, end).

        Whoever calls this from time to time, and gives their pages back, keeps what is in use at a time and no more.
        """
        reach = self._reach
        self._reach = max((offset + count for offset, count in self._used.items()), default=0)
        if self.is_clean:
            return []
        self.is_clean = reach == 0
        return [(max(offset, reach), end) for offset, end in self._free if end > reach]

    def _put_back(self, offset: int, end: int) -> None:
        ranges = self._free
        index = bisect_left(ranges, (offset, end))
        if index < len(ranges) and ranges[index][0] == end:
            end = ranges.pop(index)[1]
        if index and ranges[index - 1][1] == offset:
            index -= 1
            offset = ranges.pop(index)[0]
        ranges.insert(index, (offset, end))
