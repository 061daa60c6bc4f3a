"""Listing a whole store by several listings at a time, each of a range of its keys.

For stores that list in order and can begin behind a key (S3, Google). The remote store calls it for everything below
its root. Every object is in one range, so each is shown once, as by one listing; pages of different ranges come as they
come. A small store is listed by one chain of requests and pays nothing for this.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from itertools import islice
from operator import gt
from typing import Final

from hotset.errors import StoreError
from hotset.store.base import ObjectMeta
from hotset.store.keyspace import KeyRange, cuts_behind, known_ranges
from hotset.store.page import ObjectPage

MOST_AT_ONCE: Final = 8
Pages = AsyncGenerator[Sequence[ObjectMeta], None]
ListBehind = Callable[[str], Pages]
"""List what sorts behind a path."""


class OutOfOrderError(StoreError):
    """The store does not list in order, or not from where it was told to."""


class KeyLayout:
    """What listings have shown of how a store's keys lie. Owned by the store; a listing that ends well changes it."""

    def __init__(self) -> None:
        self.pages: Sequence[str] = ()
        """The last path of each page, in order."""
        self.is_ordered = True


class ParallelListing:
    """One pass. Made for one ``async for``; owned by the task that runs it, which also ends its tasks."""

    def __init__(
        self,
        list_behind: ListBehind,
        *,
        layout: KeyLayout,
        url: str,
        page_objects: int,
        most: int = MOST_AT_ONCE,
    ) -> None:
        """``page_objects``: how many objects are on a page behind which there are more."""
        self._list_behind = list_behind
        self._page_objects = page_objects
        self._layout = layout
        self._url = url
        self._most = most
        self._arrived: asyncio.Queue[ObjectPage | Exception | None] = asyncio.Queue(maxsize=2 * most)
        self._tasks: set[asyncio.Task[None]] = set()
        self._reading = 0
        self._last_paths: list[str] = []

    async def pages(self) -> Pages:
        """Yield pages, in order within a range.

        Raises:
            StoreError: the store did not answer, refused, or does not list in order; then it is not asked to again.
        """
        try:
            for range_ in known_ranges(self._layout.pages, most=self._most):
                self._start(range_)
            while self._reading:
                arrived = await self._arrived.get()
                if isinstance(arrived, Exception):
                    try:
                        raise arrived
                    finally:
                        del arrived  # which would hold this frame, and be held by it
                if arrived is None:
                    self._reading -= 1
                else:
                    yield arrived
            self._layout.pages = sorted(self._last_paths)
        except OutOfOrderError:
            self._layout.is_ordered = False
            raise
        finally:
            await self._end()

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _start(self, range_: KeyRange) -> None:
        self._reading += 1
        task = asyncio.create_task(self._read(range_), name=f"list behind {range_.after!r}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read(self, range_: KeyRange) -> None:
        try:
            await self._list(range_)
        except Exception as error:  # noqa: BLE001 - raised again where the pages are waited for
            await self._arrived.put(error)
        else:
            await self._arrived.put(None)

    async def _list(self, range_: KeyRange) -> None:
        last = range_.after
        async with aclosing(self._list_behind(range_.after)) as pages:
            async for page in pages:
                objects = ObjectPage.of(page)
                last = self._checked_end(objects, last)
                kept = part_within(objects, range_)
                if kept:
                    await self._arrived.put(kept)
                if range_.until is not None and last > range_.until:
                    return
                if (
                    len(objects) > self._page_objects / 2
                ):  # not all: markers were left out, or it is around a bad key
                    range_.pages += 1
                    self._last_paths.append(last)
                    if range_.pages >= range_.patience:
                        self._share(range_, last)

    def _share(self, range_: KeyRange, last: str) -> None:
        """Leave what lies behind ``last`` to listings of its own, as far as more of them may run."""
        for cut in [*islice(cuts_behind(last, range_.until), self._most - self._reading)]:
            self._start(KeyRange(cut, range_.until, patience=1))
            range_.until = cut

    def _checked_end(self, page: ObjectPage, last: str) -> str:
        """Return the last path of a page that comes behind ``last``, if all of it is in order.

        What has no bytes is left out: the marker ``a/`` of a folder shows as ``a`` and comes in the place of ``a/``.
        """
        paths = page.paths if 0 not in page.sizes else [it.path for it in page if it.size]
        if not paths:
            return last
        if paths[0] < last or any(map(gt, paths, paths[1:])):
            raise OutOfOrderError(
                f"{self._url} does not list in order; it is listed by one request after the other from now on; "
                f"found behind {last!r}: {paths[0]!r}"
            )
        return paths[-1]


def part_within(page: ObjectPage, range_: KeyRange) -> ObjectPage:
    """Return what of a page is in the range; the page may go on behind it.

    A store that shows the object at the range's border once more is not believed; what has no bytes there may be the
    marker of an empty folder, which lies behind the border and shows as if it were on it.
    """
    start = int(page.paths[0] == range_.after and page.sizes[0] > 0)
    until = range_.until
    if until is None:
        return page.part(start, len(page))
    if 0 in page.sizes:
        return ObjectPage.of([it for it in page.part(start, len(page)) if it.path <= until])
    return page.part(start, bisect_right(page.paths, until))
