"""The files of labels that a listing showed to be new: read from the store, into the entries of their models.

The discoveries ask for it behind each listing, before what was listed is put in force. One that cannot be used costs
nobody anything: the labels of the last good one stay, the entry says why, and an event does, once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from hotset.catalog import (
    LABELS_FILE,
    MAX_REJECTS,
    Labels,
    LabelsFormatError,
    Listing,
    ModelEntry,
    Reject,
    parse_labels,
)
from hotset.catalog.labels import MOST_BYTES, too_large
from hotset.errors import StoreError
from hotset.events import EventBus, LabelsRefused
from hotset.store import ObjectMeta, ObjectStore

PARALLEL: Final = 16
READ_TIMEOUT_S: Final = 30.0
MOST_FAILURES: Final = 16
"""After so many failures the rest is left for the next pass: the store is away, and each may wait for long."""


class LabelFiles:
    """Owned by the event loop. Any number of ``read`` at once."""

    def __init__(
        self,
        store: ObjectStore,
        *,
        events: EventBus,
        parallel: int = PARALLEL,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        self._store = store
        self._events = events
        self._parallel = parallel
        self._timeout_s = timeout_s

    async def read(self, listing: Listing) -> Listing:
        """Return the listing with what its unread files of labels say."""
        before = {name: listing.models[name] for name in listing.unread if name in listing.models}
        if not before:
            return listing
        after = await _Reading(self._content, listing.unread, before).all(self._parallel)
        for name, model in after.items():
            problem = _problem(model)
            if problem and problem != _problem(before[name]):
                self._events.publish(LabelsRefused(name, problem))
        models = await asyncio.to_thread(listing.models.with_changes, after)
        rejects = sorted([*listing.rejects, *_rejects(after)], key=lambda it: (it.path, it.reason))
        return replace(listing, models=models, rejects=tuple(rejects[:MAX_REJECTS]), unread={})

    async def _content(self, file: ObjectMeta) -> bytes | None:
        if file.size > MOST_BYTES:
            raise too_large(file.size)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._store.read(file.path, limit_bytes=MOST_BYTES)
        except TimeoutError as error:
            raise StoreError(f"the store did not send {file.path!r} within {self._timeout_s:g} s") from error


class _Reading:
    """Many files, side by side. Owned by one call of ``read``."""

    def __init__(
        self,
        content: Callable[[ObjectMeta], Awaitable[bytes | None]],
        files: Mapping[str, ObjectMeta],
        models: Mapping[str, ModelEntry],
    ) -> None:
        self._content = content
        self._files = files
        self._waiting = iter(models.values())
        self._read: dict[str, ModelEntry] = {}
        self._failures: list[StoreError] = []

    async def all(self, parallel: int) -> Mapping[str, ModelEntry]:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(parallel, len(self._files))):
                group.create_task(self._work())
        return self._read

    async def _work(self) -> None:
        for model in self._waiting:
            labels = await self._labels(self._files[model.name], model.labels)
            self._read[model.name] = replace(model, labels=labels)

    async def _labels(self, file: ObjectMeta, known: Labels | None) -> Labels | None:
        """Return what the file says, or, where it cannot be used, what is known."""
        last = known if known is not None else Labels("", ())
        try:
            if len(self._failures) >= MOST_FAILURES:
                raise self._failures[-1]
            data = await self._content(file)
            # Under the etag that was listed: if the file has changed since, the next listing says so.
            return (
                Labels(file.etag, await asyncio.to_thread(parse_labels, data)) if data is not None else None
            )
        except StoreError as error:
            self._failures.append(error)
            return replace(last, problem=f"it could not be read: {error}")  # as unread as it was
        except LabelsFormatError as error:
            return Labels(file.etag, last.targets, str(error))


def _problem(model: ModelEntry) -> str:
    return model.labels.problem if model.labels is not None else ""


def _rejects(models: Mapping[str, ModelEntry]) -> Iterator[Reject]:
    for name, model in models.items():
        if _problem(model):
            yield Reject(f"{name}/{LABELS_FILE}", _problem(model))
