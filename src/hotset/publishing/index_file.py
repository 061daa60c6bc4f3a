"""The index in the store, changed by whoever publishes: one model's line, or all of it from a listing.

Every change is written on the condition that the index is still the one that was read; else it is read again, so of
two publishers at the same time neither is lost. What a line says is always read from the store, never remembered.
"""

from __future__ import annotations

import asyncio
import random as random_module
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeVar

from hotset.catalog import (
    Labels,
    LabelsFormatError,
    Layout,
    Listing,
    ListingReader,
    ModelEntry,
    Settling,
    Snapshot,
    parse_labels,
    settle,
)
from hotset.catalog.by_model import ByModel
from hotset.catalog.index import (
    INDEX_PATH,
    IndexFormatError,
    IndexReader,
    index_faults,
    index_line,
    index_versions,
    join_lines,
    lines_of,
)
from hotset.catalog.labels import MOST_BYTES
from hotset.catalog.models import Draft, Models
from hotset.clock import Clock
from hotset.errors import StoreError
from hotset.store import ConflictError, ObjectChangedError, ObjectMeta, Revision, WritableStore

T = TypeVar("T")

SETTLE_S: Final = 10.0
"""A version without a marker is written into the index once its files are so old."""

MOST_ATTEMPTS: Final = 30
_FIRST_PAUSE_S: Final = 0.05
_MOST_PAUSE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What is in the index now. ``left_out``: versions that are too new, or still being published."""

    models: int
    versions: int
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class _Offered:
    model: ModelEntry | None
    unsettled: int


Sleep = Callable[[float], Awaitable[object]]


async def update_index(
    store: WritableStore, layout: Layout, name: str, *, clock: Clock, sleep: Sleep = asyncio.sleep
) -> bool:
    """Write what the store has of one model into its index; False if the store has none.

    Raises:
        StoreError: the store did not answer, refused, or others were faster time and again; or what is there is no
            index.
    """
    for attempt in range(MOST_ATTEMPTS):
        try:
            found = await _read(store)
        except ObjectChangedError:
            await sleep(_pause_s(attempt))
            continue
        if found is None:
            return False
        revision, data = found
        lines = await _understood(store, lines_of, data)
        objects = [meta async for page in store.list(f"{name}/") for meta in page]
        model = (await _offered(store, name, objects, layout, clock)).model
        line = _line(model, objects)
        if lines.get(name) == line:
            return True
        if line is None:
            del lines[name]
        else:
            lines[name] = line
        new = await asyncio.to_thread(_joined, lines)
        try:
            await store.write_if(INDEX_PATH, new, revision)
        except ConflictError:
            await sleep(_pause_s(attempt))
        else:
            return True
    raise StoreError(
        f"the index of {store.url} changed {MOST_ATTEMPTS} times while it was being written; try again"
    )


async def rebuild_index(
    store: WritableStore,
    layout: Layout,
    *,
    clock: Clock,
    report: Callable[[int], None] = lambda _: None,
    sleep: Sleep = asyncio.sleep,
) -> IndexReport:
    """Write the index anew from all that is in the store; ``report`` is told how many models were read.

    Raises:
        StoreError: the store did not answer, refused, or the index changed time and again.
    """
    for attempt in range(MOST_ATTEMPTS):
        # Before the listing: what others publish meanwhile must not be lost.
        content = await store.open(INDEX_PATH)
        revision = content.revision if content is not None else None
        lines: dict[str, bytes] = {}
        versions = left_out = 0
        async for name, objects in _models(store, layout):
            offered = await _offered(store, name, objects, layout, clock)
            line = _line(offered.model, objects)
            if offered.model is not None and line is not None:
                lines[name] = line
                versions += len(offered.model.versions)
            left_out += offered.unsettled
            report(len(lines))
        new = await asyncio.to_thread(_joined, lines)
        try:
            await store.write_if(INDEX_PATH, new, revision)
        except ConflictError:
            await sleep(_pause_s(attempt))
        else:
            return IndexReport(len(lines), versions, left_out)
    raise StoreError(
        f"the index of {store.url} changed {MOST_ATTEMPTS} times while it was being written; try again"
    )


async def check_index(store: WritableStore, layout: Layout, *, clock: Clock) -> Sequence[str] | None:
    """Return the names of the models of which the index does not say what the store has; None if there is no index.

    Raises:
        StoreError: the store did not answer, or refused; or what is there is no index.
    """
    found = await _read(store)
    if found is None:
        return None
    indexed = (await _understood(store, partial(_parsed, layout), found[1])).models
    offered = Draft(Models())
    async for name, objects in _models(store, layout):
        model = (await _offered(store, name, objects, layout, clock)).model
        if model is not None:
            offered.set(name, model)
    return await asyncio.to_thread(index_faults, offered.done(), indexed)


async def _models(store: WritableStore, layout: Layout) -> AsyncIterator[tuple[str, Sequence[ObjectMeta]]]:
    """Yield every folder that may be a model with its objects, without holding more than one of them."""
    models = ByModel(layout)
    async for page in store.scan():
        for item in models.feed(page):
            yield item
    for item in models.rest():
        yield item


async def _offered(
    store: WritableStore, name: str, objects: Sequence[ObjectMeta], layout: Layout, clock: Clock
) -> _Offered:
    """What a server would offer of a model now."""
    reader = ListingReader(layout)
    reader.feed(objects)
    listing = reader.finish()
    snapshot, _ = settle(
        listing,
        Settling(),
        Snapshot(),
        now_s=clock.monotonic(),
        wall_s=clock.wall(),
        settle_time_s=SETTLE_S,
    )
    model = snapshot.models.get(name)
    if model is not None and name in listing.unread:
        model = replace(model, labels=await _labels(store, listing.unread[name]))
    return _Offered(model, len(snapshot.unsettled))


async def _labels(store: WritableStore, file: ObjectMeta) -> Labels | None:
    """Return what a file of labels says; one that cannot be used is left out, as a server would that never had another."""
    data = await store.read(file.path, limit_bytes=MOST_BYTES) if file.size <= MOST_BYTES else b""
    try:
        return Labels("", parse_labels(data)) if data is not None else None
    except LabelsFormatError as error:
        return Labels("", (), str(error))


def _line(model: ModelEntry | None, objects: Sequence[ObjectMeta]) -> bytes | None:
    return index_line(model.name, index_versions(model, objects)) if model is not None else None


def _joined(lines: dict[str, bytes]) -> bytes:
    return join_lines(line for _, line in sorted(lines.items()))


async def _understood(store: WritableStore, read: Callable[[bytes], T], data: bytes) -> T:
    try:
        return await asyncio.to_thread(read, data)
    except IndexFormatError as error:
        raise StoreError(
            f"the index of {store.url} is of no use: {error}; write it anew with `hotset index`"
        ) from error


def _parsed(layout: Layout, data: bytes) -> Listing:
    reader = IndexReader(layout)
    for _ in reader.feed(data):
        pass
    for _ in reader.finish():
        pass
    return reader.listing()


async def _read(store: WritableStore) -> tuple[Revision, bytes] | None:
    content = await store.open(INDEX_PATH)
    if content is None or content.chunks is None:
        return None
    return content.revision, b"".join([chunk async for chunk in content.chunks])


def _pause_s(attempt: int, random: Callable[[], float] = random_module.random) -> float:
    """Return how long to wait after a conflict: longer each time, and never two publishers the same."""
    return random() * min(_MOST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(attempt, 10))
