"""A store that obstore reaches: S3, GCS, Azure, memory. Downloads are verified against what was listed.

Stores in the field disagree: ``If-Match`` is obeyed, ignored or misunderstood, a range is answered as one or not. So
the etag and size of each answer are compared, and what a store was seen not to do is not asked of it again. Where the etag
is the MD5 of the object, what came is compared with that too. A store that refuses for now is left alone for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import obstore
from obstore.exceptions import NotModifiedError, PreconditionError
from obstore.store import GCSStore, S3Store

from hotset.errors import StoreError
from hotset.store.base import Content, ObjectChangedError, ObjectMeta, Revision
from hotset.store.brake import Brake
from hotset.store.courtesy import Courtesy
from hotset.store.digest import Digests, digest, digest_of_file
from hotset.store.headers import headers_of
from hotset.store.listing import PAGE_OBJECTS, Listing
from hotset.store.parallel import MOST_AT_ONCE, KeyLayout, ParallelListing
from hotset.store.sending import upload_file, write_on_condition
from hotset.store.slots import Slots
from hotset.store.target import TargetFile, in_thread, write_at, write_new
from hotset.store.translation import (
    OBSTORE_ERRORS,
    if_match,
    is_beyond_end,
    is_range_refusal,
    meta_from,
    store_error,
    translated,
)

if TYPE_CHECKING:  # obstore has these only for type checkers
    from obstore import BytesStream, GetOptions, GetResult
    from obstore.store import ObjectStore as RawStore

_CHUNK_BYTES: Final = 1 << 20
_MOST_HANGING: Final = 1024
"""Requests that hang, beside those that go on: each is a connection."""

_PARALLEL_PARTS: Final = 4
"""Of one upload: as many parts of one file are in memory."""


class _RangeRefusedError(Exception):
    """The store does not answer parts as parts."""


class RemoteStore:
    """A bucket below a prefix. Owned by one event loop; safe for many of its tasks at once.

    At most ``max_parallel`` GETs are under way, each with a few MiB in memory, beside those that hang, and ``max_listings`` requests for pages of
    the whole store. ``root`` is the prefix that ``store``
    itself puts before all paths.
    """

    def __init__(
        self,
        store: RawStore,
        *,
        url: str,
        root: str = "",
        max_parallel: int = 16,
        max_listings: int = MOST_AT_ONCE,
        page_objects: int = PAGE_OBJECTS,
        part_bytes: int = 16 << 20,
        brake: Brake | None = None,
    ) -> None:
        self._store = store
        self._url = url
        self._root = root
        self._max_parallel = max_parallel
        self._part_bytes = part_bytes
        self._slots = Slots(max_parallel, most_lent=_MOST_HANGING)
        self._max_listings = max_listings
        self._page_objects = page_objects
        # Azure and a store in memory list everything from the start, and leave out what is not behind the path.
        self._lists_in_order = isinstance(store, S3Store | GCSStore)
        self._layout = KeyLayout()
        ask_headers = partial(headers_of, store)
        self._courtesy = Courtesy(brake or Brake(), url=url, headers=ask_headers)
        self._digests = Digests(url=url, headers=ask_headers)
        self._answers_ranges = True
        self._obeys_if_match = True

    @property
    def url(self) -> str:
        return self._url

    async def list(self, prefix: str = "") -> AsyncIterator[Sequence[ObjectMeta]]:
        if prefix or not self._lists_in_order or not self._layout.is_ordered:
            pages = self._pages(prefix, "")
        else:
            pages = ParallelListing(
                partial(self._pages, ""),
                layout=self._layout,
                url=self._url,
                page_objects=self._page_objects,
                most=self._max_listings,
            ).pages()
        async with aclosing(pages):
            async for page in pages:
                yield page

    async def _pages(self, prefix: str, after: str) -> AsyncGenerator[Sequence[ObjectMeta], None]:
        listing = Listing(
            self._store,
            url=self._url,
            root=self._root,
            prefix=prefix,
            after=after,
            page_objects=self._page_objects,
        )
        async with self._courtesy.kept(prefix), aclosing(listing.pages()) as pages:
            async for page in pages:
                yield page

    async def scan(self, start: str = "", *, behind: str = "") -> AsyncIterator[Sequence[ObjectMeta]]:
        # "0" comes next to "/": behind it there is nothing more of the folder.
        after = max(start, f"{behind}0" if behind else "")
        folder = start[: start.rfind("/") + 1]
        async for page in self._pages(folder, after):
            found = [object_ for object_ in page if object_.path.startswith(start)]
            if found:
                yield found
            if len(found) < len(page):  # they stand together, and behind them are others
                return

    async def open(self, path: str, *, unless: str | None = None) -> Content | None:
        condition = if_match(unless) if unless is not None else None
        options: GetOptions = {"if_none_match": condition} if condition is not None else {}
        try:
            async with self._courtesy.kept(path):
                result = await self._opened(path, options)
        except NotModifiedError:
            return Content(Revision(unless or ""), None)
        except FileNotFoundError:
            return None
        found = meta_from(result.meta)
        revision = Revision(found.etag, result.meta["version"] or "")
        if found.etag == unless:
            return Content(revision, None)
        return Content(revision, self._chunks(path, result))

    async def _opened(self, path: str, options: GetOptions) -> GetResult:
        try:
            return await obstore.get_async(self._store, path, options=options)
        except (NotModifiedError, FileNotFoundError):
            raise
        except OBSTORE_ERRORS as error:
            raise store_error(error, url=self._url, doing=f"to send {path!r}") from error

    async def _chunks(self, path: str, result: GetResult) -> AsyncIterator[bytes]:
        stream = result.stream(min_chunk_size=_CHUNK_BYTES)
        left = result.meta["size"]
        while True:
            with translated(self._url, f"to send {path!r}"):
                chunk = await anext(stream, None)
            if chunk is None:
                break
            left -= len(chunk)
            yield bytes(chunk)
        if left:
            raise StoreError(f"{self._url} sent another number of bytes than it announced: {path!r}")

    async def read(self, path: str, *, limit_bytes: int = 1 << 20) -> bytes | None:
        async with self._slots.slot() as slot, self._courtesy.kept(path):
            return await slot.waited(self._read(path, limit_bytes))

    async def _read(self, path: str, limit_bytes: int) -> bytes | None:
        try:
            result = await obstore.get_async(self._store, path)
            size = result.meta["size"]
            data = bytes(await result.bytes_async()) if size <= limit_bytes else None
        except FileNotFoundError:
            return None
        except OBSTORE_ERRORS as error:
            raise store_error(error, url=self._url, doing=f"to read {path!r}") from error
        if data is None:
            raise StoreError(f"{path!r} in {self._url} has {size} bytes; the limit is {limit_bytes} bytes")
        return data

    async def download(self, object_: ObjectMeta, target: Path) -> None:
        if not self._digests.tell(object_.etag):
            await self._copied(object_, target, digested=False)
            return
        first = await self._copied(object_, target)
        if first == object_.etag:
            self._digests.alike += 1
            return
        try:
            await self._digests.judge(object_, first, partial(self._copied_again, object_, target))
        except BaseException:
            await in_thread(partial(target.unlink, missing_ok=True))
            raise

    async def _copied_again(self, object_: ObjectMeta, target: Path) -> str:
        await in_thread(target.unlink)
        return await self._copied(object_, target)

    async def _copied(self, object_: ObjectMeta, target: Path, *, digested: bool = True) -> str:
        """Copy the object, and return the digest of what came, if that is wanted."""
        if object_.size > _CHUNK_BYTES:
            await self._copy_large(object_, target)
            return await in_thread(partial(digest_of_file, target)) if digested else ""
        data = await self._whole(object_)
        digests: list[str] = []

        def fill(descriptor: int) -> None:
            write_at(descriptor, data, 0)
            if digested:
                digests.append(digest(data))

        await write_new(target, fill)
        return "".join(digests)

    async def _copy_large(self, object_: ObjectMeta, target: Path) -> None:
        async with TargetFile(target) as file:
            if object_.size > self._part_bytes and self._answers_ranges:
                try:
                    await self._copy_parts(object_, file)
                except _RangeRefusedError:
                    self._answers_ranges = False
                else:
                    return
            await self._copy(object_, file, None)

    async def write(self, path: str, data: bytes) -> None:
        with translated(self._url, f"to write {path!r}"):
            await obstore.put_async(self._store, path, data)

    async def write_if(self, path: str, data: bytes, revision: Revision | None) -> None:
        await write_on_condition(self._store, path, data, revision, url=self._url)

    async def upload(self, path: str, source: Path, *, sent: Callable[[int], None]) -> None:
        async with self._slots.slot():
            await upload_file(
                self._store,
                path,
                source,
                url=self._url,
                part_bytes=self._part_bytes,
                parallel_parts=_PARALLEL_PARTS,
                sent=sent,
            )

    async def delete(self, path: str) -> None:
        try:
            await obstore.delete_async(self._store, path)
        except FileNotFoundError:
            return
        except OBSTORE_ERRORS as error:
            raise store_error(error, url=self._url, doing=f"to delete {path!r}") from error

    async def _whole(self, object_: ObjectMeta) -> bytes:
        """Return a small object's bytes."""
        async with self._slots.slot() as slot:
            result = await slot.waited(self._get(object_, None))
            if result is None:
                return b""
            with translated(self._url, f"to send {object_.path!r}"):
                data = bytes(await slot.waited(result.bytes_async()))
        if len(data) != object_.size:
            raise self._torn(object_)
        return data

    async def _copy_parts(self, object_: ObjectMeta, file: TargetFile) -> None:
        """Copy by ranges in parallel; the first failure ends the others and is the one that is raised."""
        starts = range(0, object_.size, self._part_bytes)
        parts = ((start, min(start + self._part_bytes, object_.size)) for start in starts)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(len(starts), self._max_parallel)):
                    group.create_task(self._copy_each(object_, file, parts))
        except ExceptionGroup as failures:
            first = failures.exceptions[0]
            raise first from first.__cause__

    async def _copy_each(
        self, object_: ObjectMeta, file: TargetFile, parts: Iterator[tuple[int, int]]
    ) -> None:
        for part in parts:
            await self._copy(object_, file, part)

    async def _copy(self, object_: ObjectMeta, file: TargetFile, part: tuple[int, int] | None) -> None:
        """Copy one GET's answer to its place in the file, and count it."""
        offset, end = part or (0, object_.size)
        async with self._slots.slot() as slot:
            result = await slot.waited(self._get(object_, part))
            if result is None:
                return
            if part is not None and tuple(result.range) != part:
                raise _RangeRefusedError
            stream = result.stream(min_chunk_size=_CHUNK_BYTES)
            while chunk := await slot.waited(self._next(object_, stream)):
                await file.write(chunk, offset)
                offset += len(chunk)
        if offset != end:
            raise self._torn(object_)

    async def _next(self, object_: ObjectMeta, stream: BytesStream) -> bytes | None:
        with translated(self._url, f"to send {object_.path!r}"):
            return await anext(stream, None)

    async def _get(self, object_: ObjectMeta, part: tuple[int, int] | None) -> GetResult | None:
        """Ask for an object or a part of it, on condition that it is the listed one; None if it is known to be empty."""
        condition = if_match(object_.etag) if self._obeys_if_match else None
        try:
            result = await self._ask(object_, part, condition)
        except PreconditionError:
            result = await self._ask_again(object_, part)
        except FileNotFoundError as error:
            if (
                object_.size == 0
            ):  # the marker of an empty folder; or gone, and then what was listed is still right
                return None
            raise self._gone(object_) from error
        self._check(object_, result)
        return result

    async def _ask_again(self, object_: ObjectMeta, part: tuple[int, int] | None) -> GetResult:
        """Ask without a condition, to learn whether the object changed or the store misunderstands conditions."""
        try:
            result = await self._ask(object_, part, None)
        except FileNotFoundError as error:
            raise self._gone(object_) from error
        self._check(object_, result)
        self._obeys_if_match = False
        return result

    async def _ask(
        self, object_: ObjectMeta, part: tuple[int, int] | None, condition: str | None
    ) -> GetResult:
        options: GetOptions = {}
        if part is not None:
            options["range"] = part
        if condition is not None:
            options["if_match"] = condition
        async with self._courtesy.kept(object_.path):
            return await self._asked(object_, options)

    async def _asked(self, object_: ObjectMeta, options: GetOptions) -> GetResult:
        try:
            return await obstore.get_async(self._store, object_.path, options=options)
        except (PreconditionError, FileNotFoundError):
            raise
        except OBSTORE_ERRORS as error:
            if is_range_refusal(error):
                raise _RangeRefusedError from error
            if is_beyond_end(error):
                raise self._changed(object_) from error
            raise store_error(error, url=self._url, doing=f"to send {object_.path!r}") from error

    def _check(self, object_: ObjectMeta, result: GetResult) -> None:
        found = meta_from(result.meta)
        # An answer without an etag can only be judged by its size, unless the listing had none either.
        same_etag = result.meta["e_tag"] is None if if_match(object_.etag) else False
        if found.size != object_.size or not (same_etag or found.etag == object_.etag):
            raise self._changed(object_)

    def _torn(self, object_: ObjectMeta) -> StoreError:
        return StoreError(f"{self._url} sent another number of bytes than it announced: {object_.path!r}")

    def _changed(self, object_: ObjectMeta) -> ObjectChangedError:
        return ObjectChangedError(f"{object_.path!r} in {self._url} has changed since it was listed")

    def _gone(self, object_: ObjectMeta) -> ObjectChangedError:
        return ObjectChangedError(f"{object_.path!r} in {self._url} is gone; list again")
