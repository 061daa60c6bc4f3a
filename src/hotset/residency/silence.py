"""Whether anything comes of a fetch: one whose store says nothing gives its slot to another fetch.

``fetch`` makes one for each version. What has come is seen in the files that are being written, so that no store need tell.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

from hotset.store import Slot

SILENT_S: Final = 3.0
"""Between two looks at a fetch. If nothing came in between, the next one in the queue may begin."""


Written: TypeAlias = Callable[[tuple[Path, ...]], tuple[int, int]]


def written(files: tuple[Path, ...]) -> tuple[int, int]:
    """Return how long files are and what they take: parts are written at their places, in any order."""
    length = blocks = 0
    for file in files:
        try:
            found = file.stat()
        except OSError:
            continue  # not there yet, or not any more
        length += found.st_size
        blocks += found.st_blocks
    return length, blocks


class Silence:
    """Owned by one fetch, on the event loop. Legal order: ``watched`` around all of it; inside, ``copies`` around each object."""

    def __init__(self, slot: Slot, *, every_s: float = SILENT_S, written: Written = written) -> None:
        """``written`` tells how much there is of files; it is called in a thread."""
        self._slot = slot
        self._every_s = every_s
        self._written = written
        self._done = 0
        self._on_the_way: set[Path] = set()
        self._seen: tuple[int, int, int] = (0, 0, 0)
        self._timer: asyncio.TimerHandle | None = None
        self._look: asyncio.Future[tuple[int, int]] | None = None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look while it is open."""
        self._wait()
        try:
            yield
        finally:
            if self._timer is not None:
                self._timer.cancel()
            if self._look is not None:
                self._look.remove_done_callback(self._looked)

    @contextmanager
    def copies(self, target: Path) -> Iterator[None]:
        """An object is being copied there."""
        self._on_the_way.add(target)
        try:
            yield
        finally:
            self._on_the_way.discard(target)
            self._done += 1

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._every_s, self._begin)

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        self._look = loop.run_in_executor(None, self._written, tuple(self._on_the_way))
        self._look.add_done_callback(self._looked)

    def _looked(self, look: asyncio.Future[tuple[int, int]]) -> None:
        self._look = None
        if look.cancelled():
            return
        seen = (self._done, *look.result())
        if seen == self._seen:
            self._slot.lend()
            return  # once is enough: where it goes on, it does so beside the others
        self._seen = seen
        self._wait()
