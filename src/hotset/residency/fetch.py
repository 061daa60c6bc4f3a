"""Store → disk: a version's objects are listed anew, staged, verified and published.

A flight's leader calls it for a version that is not on disk. Nothing is trusted from the snapshot but the
fingerprint: what is listed now must have it, each object must still be what was listed, and the files must have the
listed sizes; else the version is not published. Whatever ends a fetch early leaves no file and no reservation.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar
from weakref import WeakValueDictionary

from hotset.catalog import UnfaithfulVersionError, VersionContents, VersionEntry, version_contents
from hotset.clock import Clock
from hotset.errors import CapacityError, ErrorKind, LoadFailedError, StoreError
from hotset.keys import Fingerprint
from hotset.residency.silence import SILENT_S, Silence
from hotset.store import ObjectChangedError, ObjectMeta, ObjectStore, Slots, StoreBusyError
from hotset.tiers.disk import DiskTier

T = TypeVar("T")

RETRY_AFTER_S: Final = 0.2
_MOST_HANGING: Final = 4
"""Versions that hang, for each that may go on."""

_DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class FetchResult:
    """What was copied; nothing if another fetch had brought the same files meanwhile."""

    bytes: int
    objects: int
    seconds: float


class _OtherFilesError(StoreError):
    """What is in the stage is not what was listed, once all has come."""


class Fetcher:
    """Owned by the event loop. Any number of ``fetch`` at once; the caller sees to it that each ends.

    The store bounds how many requests it has in the air; the bound on objects here is one on tasks, so that a
    version of 100,000 objects is no more work to start than one of a hundred. Of versions as many are fetched at once as there
    are slots; one of which nothing comes gives its own to the next, so that objects that hang hold up no other version.
    """

    def __init__(
        self,
        *,
        store: ObjectStore,
        disk: DiskTier,
        clock: Clock,
        parallel_fetches: int = 4,
        parallel_objects: int = 32,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        on_changed: Callable[[VersionEntry], None] = lambda _: None,
        silent_s: float = SILENT_S,
    ) -> None:
        """``on_changed`` is told of a version that is not in the store as the catalog has it. A fetch of which nothing has
        come for ``silent_s`` counts no more among ``parallel_fetches``."""
        self._on_changed = on_changed
        self._store = store
        self._disk = disk
        self._clock = clock
        self._slots = Slots(parallel_fetches, most_lent=_MOST_HANGING * parallel_fetches)
        self._silent_s = silent_s
        self._parallel_objects = parallel_objects
        self._sleep = sleep
        # Two versions with the same files share a fingerprint: the second waits for the first and finds them.
        self._turns: WeakValueDictionary[Fingerprint, asyncio.Lock] = WeakValueDictionary()

    async def fetch(self, entry: VersionEntry) -> FetchResult:
        """Bring a version's files to disk. It stays there if its fingerprint was held before; else as any other.

        Raises:
            ObjectChangedError: the store holds other files by now; the next sync will show them.
            StoreError: the store did not answer, or refused, twice.
            CapacityError: it is larger than the tier, or the disk is full.
            LoadFailedError: its files cannot be written to this disk.
        """
        began_s = self._clock.monotonic()
        async with self._turn(entry.fingerprint), self._slots.slot() as slot:
            if self._disk.lookup(entry.fingerprint) is not None:
                return FetchResult(0, 0, self._clock.monotonic() - began_s)
            silence = Silence(slot, every_s=self._silent_s)
            try:
                with silence.watched():
                    contents = await self._twice(partial(self._list, entry))
                    await self._store_on_disk(entry, contents, silence)
            except ObjectChangedError:
                self._on_changed(entry)
                raise
        return FetchResult(entry.bytes, len(contents.objects), self._clock.monotonic() - began_s)

    def _turn(self, fingerprint: Fingerprint) -> asyncio.Lock:
        return self._turns.setdefault(fingerprint, asyncio.Lock())

    async def _twice(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Ask again once if the store did not answer; what has changed stays changed, and a pause that is asked for is made."""
        try:
            return await attempt()
        except (ObjectChangedError, StoreBusyError):
            raise
        except StoreError:
            await self._sleep(RETRY_AFTER_S)
        return await attempt()

    async def _list(self, entry: VersionEntry) -> VersionContents:
        objects: list[ObjectMeta] = []
        async for page in self._store.list(entry.prefix):
            objects.extend(page)
        try:
            contents = version_contents(objects, entry.prefix)
        except UnfaithfulVersionError as error:
            raise ObjectChangedError(f"{entry.key} has changed in the store: {error}") from error
        if contents.fingerprint != entry.fingerprint:
            raise ObjectChangedError(
                f"{entry.key} has changed in the store since it was listed; its files are"
                f" {len(contents.objects)} of {contents.bytes} bytes now"
            )
        return contents

    async def _store_on_disk(self, entry: VersionEntry, contents: VersionContents, silence: Silence) -> None:
        try:
            try:
                await self._stage(entry, contents, silence)
            except _OtherFilesError:
                # Each was as listed when it had come. Where somebody deletes on disk, what is written now may stay.
                await self._stage(entry, contents, silence)
            except OSError as error:
                if error.errno not in _DISK_FULL or not await self._disk.make_room(contents.bytes):
                    raise
                await self._stage(entry, contents, silence)
        except OSError as error:
            if error.errno in _DISK_FULL:
                raise await self._disk_is_full(entry, contents) from error
            raise LoadFailedError(f"{entry.key} cannot be written to disk: {error}") from error

    async def _disk_is_full(self, entry: VersionEntry, contents: VersionContents) -> CapacityError:
        free = await self._disk.free_bytes()
        return CapacityError(
            f"the disk is full: {entry.key} needs {contents.bytes} bytes, free are {free}; what is on disk"
            " beside it is in use or not hotset's",
            kind=ErrorKind.DISK_FULL,
        )

    async def _stage(self, entry: VersionEntry, contents: VersionContents, silence: Silence) -> None:
        async with self._disk.stage(entry.fingerprint, key=entry.key, bytes=contents.bytes) as stage:
            try:
                targets = stage.targets(contents.objects)
            except ValueError as error:
                raise LoadFailedError(f"{entry.key} cannot be written to disk: {error}") from error
            await self._download_all(contents.objects, targets, silence)
            try:
                await stage.publish({path: meta.size for path, meta in contents.objects.items()})
            except ValueError as error:
                raise _OtherFilesError(f"the store gave other files than it listed: {error}") from error

    async def _download_all(
        self, objects: Mapping[str, ObjectMeta], targets: Mapping[str, Path], silence: Silence
    ) -> None:
        remaining = iter([(meta, targets[path]) for path, meta in objects.items()])
        if len(objects) == 1:
            await self._download_some(remaining, silence)
            return
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._parallel_objects, len(objects))):
                    group.create_task(self._download_some(remaining, silence))
        except BaseExceptionGroup as failures:
            failure = failures.exceptions[0]
        else:
            return
        raise failure  # here, so that its own cause is kept and not replaced by the group

    async def _download_some(self, remaining: Iterator[tuple[ObjectMeta, Path]], silence: Silence) -> None:
        for meta, target in remaining:
            with silence.copies(target):
                await self._twice(partial(self._store.download, meta, target))
