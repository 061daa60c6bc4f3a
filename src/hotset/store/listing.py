"""Listing a remote store page by page, around what obstore cannot represent.

obstore refuses a whole page when one key in it has an empty part, ``.``, ``..`` or a control character, and shows the
marker ``a/`` of an empty folder as an object ``a``. Here one bad key costs its neighbours nothing: it is shown as it
is, for the catalog to reject, and the listing goes on behind it; what came before it on the lost page is listed folder
by folder. That costs a request for each folder of that page, as long as somebody leaves the key there.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import obstore
from obstore.exceptions import InvalidPathError

from hotset.errors import StoreError
from hotset.store.base import ObjectMeta
from hotset.store.page import ObjectPage
from hotset.store.translation import OBSTORE_ERRORS, meta_from, page_from, store_error, translated

if TYPE_CHECKING:  # obstore has these only for type checkers
    from arro3.core import RecordBatch
    from obstore import ListStream
    from obstore.store import ObjectStore as RawStore

PAGE_OBJECTS: Final = 1000
"""What S3 and Google send on a page, and no more."""

_MAX_BAD_KEYS: Final = 64
_DOING: Final = "to list"
_BAD_KEY = re.compile(r'Path "(.*?)"(?: contained empty|: Encountered illegal)', re.DOTALL)
_NEXT_TO_SLASH: Final = "0"


@dataclass(frozen=True, slots=True)
class BadKey:
    """A key that obstore cannot represent, relative to the store's root.

    Keys come in order: ``parent`` is the last good folder above it, and ``beyond`` is a good path behind it with
    nothing but bad keys between the two. ``hides_siblings`` tells whether names worth serving may sort before it in
    its own folder, which cannot be listed; before ``//`` and ``..`` there are none.
    """

    key: str
    parent: str
    beyond: str
    hides_siblings: bool


def parse_bad_key(message: str, *, root: str) -> BadKey | None:
    """Return the key that obstore's message complains of, or None if it names none below ``root``."""
    match = _BAD_KEY.search(message)
    if match is None:
        return None
    key = match[1]
    if root and not key.startswith(f"{root}/"):
        return None
    key = key[len(root) + 1 :] if root else key
    segments = key.split("/")
    for index, segment in enumerate(segments):
        control = _first_control(segment)
        if segment not in {"", ".", ".."} and control is None:
            continue
        parent = "".join(f"{part}/" for part in segments[:index])
        behind = segment + _NEXT_TO_SLASH
        if control is not None:
            behind = segment[:control] + (" " if segment[control] < " " else "\x80")
        return BadKey(key=key, parent=parent, beyond=parent + behind, hides_siblings=bool(control))
    return None


def _first_control(segment: str) -> int | None:
    return next((at for at, letter in enumerate(segment) if letter < " " or letter == "\x7f"), None)


class _BadKeyError(StoreError):
    """A page is lost because of ``bad``. Raised to a caller of ours only where there is no way around it."""

    def __init__(self, bad: BadKey, *, url: str) -> None:
        super().__init__(f"{url} cannot be listed because of a key; remove the object: {bad.key!r}")
        self.bad = bad


class Listing:
    """One pass over the objects below ``prefix``. Made for one ``async for``; owned by the task that runs it."""

    def __init__(
        self,
        store: RawStore,
        *,
        url: str,
        root: str,
        prefix: str,
        after: str = "",
        page_objects: int = PAGE_OBJECTS,
    ) -> None:
        """``after``: only what sorts behind this path."""
        self._store = store
        self._after = after
        self._page_objects = page_objects
        self._url = url
        self._root = root
        self._prefix = prefix

    async def pages(self) -> AsyncGenerator[Sequence[ObjectMeta], None]:
        """Yield pages of objects in order, none of them empty, without folder markers."""
        held: ObjectMeta | None = None
        async for page in self._around_bad_keys():
            kept, held = without_markers(held, page, self._prefix)
            if kept:
                yield kept
        if held is not None:
            yield [held]

    async def _around_bad_keys(self) -> AsyncIterator[Sequence[ObjectMeta]]:
        after = self._after
        for _ in range(_MAX_BAD_KEYS):
            try:
                async for page in self._flat(self._prefix, after):
                    yield page
                    after = page[-1].path
                return
            except _BadKeyError as found:
                bad = found.bad
            if bad.beyond <= after:
                raise _BadKeyError(bad, url=self._url)
            async for page in self._before(bad, after):
                yield page
            yield await self._at(bad)
            after = bad.beyond
        raise _BadKeyError(bad, url=self._url)

    async def _before(self, bad: BadKey, after: str) -> AsyncIterator[Sequence[ObjectMeta]]:
        """List what lies between ``after`` and the bad key, from the folders above it."""
        parts = bad.parent[len(self._prefix) :].split("/")[:-1]
        for depth in range(len(parts) + 1):
            folder = self._prefix + "".join(f"{part}/" for part in parts[:depth])
            try:
                level = await obstore.list_with_delimiter_async(self._store, folder or None)
            except InvalidPathError as error:
                if folder != bad.parent or bad.hides_siblings:
                    raise _BadKeyError(bad, url=self._url) from error
                return
            except OBSTORE_ERRORS as error:
                raise store_error(error, url=self._url, doing=_DOING) from error
            objects = [meta for raw in level["objects"] if after < (meta := meta_from(raw)).path < bad.key]
            for name in sorted(level["common_prefixes"]):
                below = name + "/"
                if after < name + _NEXT_TO_SLASH and below < bad.key and not bad.key.startswith(below):
                    yield [object_ for object_ in objects if object_.path < below]
                    objects = [object_ for object_ in objects if object_.path >= below]
                    async for page in self._flat(below, after if after.startswith(below) else ""):
                        yield page
            yield objects

    async def _at(self, bad: BadKey) -> Sequence[ObjectMeta]:
        """Return the bad key itself, and the object at ``beyond``, which a listing that starts there leaves out."""
        shown = [ObjectMeta(path=bad.key, size=0, etag="bad-key", modified_s=0.0)]
        try:
            shown.append(meta_from(await obstore.head_async(self._store, bad.beyond)))
        except FileNotFoundError:
            pass
        except OBSTORE_ERRORS as error:
            raise store_error(error, url=self._url, doing=_DOING) from error
        return shown

    async def _flat(self, prefix: str, after: str) -> AsyncIterator[Sequence[ObjectMeta]]:
        with translated(self._url, _DOING):
            stream = obstore.list(
                self._store,
                prefix or None,
                offset=after or None,
                chunk_size=self._page_objects,
                return_arrow=True,  # a Python object for each attribute would cost three times as much
            )
        while (page := await self._next(aiter(stream))) is not None and page.num_rows:
            yield page_from(page)

    async def _next(self, stream: ListStream[RecordBatch]) -> RecordBatch | None:
        try:
            return await anext(stream, None)
        except InvalidPathError as error:
            bad = parse_bad_key(str(error), root=self._root)
            if bad is None:
                raise store_error(error, url=self._url, doing=_DOING) from error
            raise _BadKeyError(bad, url=self._url) from error
        except OBSTORE_ERRORS as error:
            raise store_error(error, url=self._url, doing=_DOING) from error


def without_markers(
    held: ObjectMeta | None, page: Sequence[ObjectMeta], prefix: str
) -> tuple[Sequence[ObjectMeta], ObjectMeta | None]:
    """Return ``page`` without the markers of folders, and its last object, if only the next page can judge it.

    A marker ``a/`` shows as an object ``a`` of no bytes, directly before what is in the folder. The marker of an empty
    folder stays: it cannot be told from an empty object, and is downloaded as one.
    """
    if isinstance(page, ObjectPage) and _has_no_marker(page, prefix):
        if held is None or _is_marker_of(held, page.paths[0]):
            return page, None
        return [held, *page], None
    kept: list[ObjectMeta] = []
    for object_ in page:
        if not object_.path.startswith(prefix) or not object_.path:
            continue
        if held is not None and not _is_marker_of(held, object_.path):
            kept.append(held)
        held = object_
    return kept, held


def _has_no_marker(page: ObjectPage, prefix: str) -> bool:
    return 0 not in page.sizes and bool(page.paths[0]) and page.paths[0].startswith(prefix)


def _is_marker_of(object_: ObjectMeta, following: str) -> bool:
    return object_.size == 0 and (following == object_.path or following.startswith(f"{object_.path}/"))
