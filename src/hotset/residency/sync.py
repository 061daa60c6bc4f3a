"""The sync loop: lists the store every so often, and hands what has settled to the target.

The server runs it; the target (the residency manager) decides what to load, unload and delete. A pass that fails,
in whatever way, leaves what is in force and is tried again, later each time. The loop never loads, fetches or
deletes a model.
"""

from __future__ import annotations

import asyncio
import logging
import random as random_module
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from hotset.catalog import (
    Diff,
    Layout,
    Listing,
    ListingReader,
    Settling,
    Snapshot,
    SnapshotFormatError,
    diff,
    keep_lookups,
    settle,
)
from hotset.clock import Clock
from hotset.errors import StoreError
from hotset.events import EventBus, Synced, SyncFailed
from hotset.residency.snapshot_file import SnapshotFile
from hotset.store import ObjectMeta, ObjectStore

JITTER: Final = 0.1
FIRST_RETRY_S: Final = 1.0
MOST_RETRY_S: Final = 60.0
PAGE_TIMEOUT_S: Final = 120.0
_FEED_OBJECTS: Final = 1000

logger = logging.getLogger(__name__)


class SyncTarget(Protocol):
    """Whose catalog follows the store."""

    @property
    def snapshot(self) -> Snapshot:
        """What is in force now, with what lookups added."""
        ...

    async def apply(self, snapshot: Snapshot) -> None:
        """Put a snapshot in force. It must do so before it first awaits; what follows from it may take longer."""
        ...


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """How the loop does. ``last_success_age_s`` is None until a pass has ended well."""

    url: str
    passes: int
    consecutive_failures: int
    last_error: str | None
    last_success_age_s: float | None

    @property
    def degraded(self) -> bool:
        """Whether what is served may be behind the store."""
        return self.consecutive_failures > 0


class _DoubtedError(StoreError):
    """The store listed nothing where there were models; the second time it is believed."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    snapshot: Snapshot
    settling: Settling
    diff: Diff
    versions: int


def retry_delay_s(*, failures: int, interval_s: float, served: bool) -> float:
    """Return how long to wait after the n-th failure in a row: twice as long each time, up to a limit.

    Until something is ``served`` the first retries come soon; after that they are never closer than the interval.
    """
    base_s = max(interval_s, FIRST_RETRY_S) if served else FIRST_RETRY_S
    return float(min(base_s * 2 ** min(failures - 1, 30), max(interval_s, MOST_RETRY_S)))


class SyncLoop:
    """Owned by the event loop.

    ``restore`` at most once, before the first pass; then either ``run`` as one task until it is cancelled, or
    ``pass_once`` by hand. Passes never overlap. ``trigger`` and ``status`` at any time.
    """

    def __init__(
        self,
        *,
        store: ObjectStore,
        layout: Layout,
        target: SyncTarget,
        clock: Clock,
        events: EventBus,
        interval_s: float,
        settle_time_s: float,
        state_path: Path | None = None,
        page_timeout_s: float = PAGE_TIMEOUT_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        """``interval_s`` 0: one good pass, then only when triggered. ``state_path``: keeps the last good snapshot."""
        self._store = store
        self._layout = layout
        self._target = target
        self._clock = clock
        self._events = events
        self._interval_s = interval_s
        self._settle_time_s = settle_time_s
        self._page_timeout_s = page_timeout_s
        self._sleep = sleep
        self._random = random
        self._file = _file(state_path, store, layout)
        self._written: Snapshot | None = None
        self._settling = Settling()
        self._doubted = False
        self._passing = asyncio.Lock()
        self._wake = asyncio.Event()
        self._passes = 0
        self._failures = 0
        self._last_error: str | None = None
        self._last_success_s: float | None = None
        self.first_pass = asyncio.Event()
        """Set once there is a snapshot to serve: a pass ended well, or one was restored."""

    def status(self) -> SyncStatus:
        age_s = None if self._last_success_s is None else self._clock.monotonic() - self._last_success_s
        return SyncStatus(self._store.url, self._passes, self._failures, self._last_error, age_s)

    @property
    def settling(self) -> Settling:
        """What the last pass knows of unsettled versions; a lookup settles what it finds by the same memory."""
        return self._settling

    def trigger(self) -> None:
        """Ask for a pass now; one that is running is followed by another."""
        self._wake.set()

    async def restore(self) -> Snapshot | None:
        """Put the snapshot of the last run in force and return it, or None if there is none that can be used."""
        snapshot = await asyncio.to_thread(_read, self._file) if self._file is not None else None
        if snapshot is None:
            return None
        try:
            await self._target.apply(snapshot)
        except Exception:
            logger.exception("the stored catalog cannot be applied, and the store is listed instead")
            return None
        self._written = snapshot
        self.first_pass.set()
        return snapshot

    async def run(self) -> None:
        """Pass after pass until cancelled."""
        while True:
            self._wake.clear()
            await self.pass_once()
            await self._rest(self._delay_s())

    async def pass_once(self) -> None:
        """List, settle, apply and keep. Whatever fails is in ``status`` and in the events; only a cancel raises."""
        async with self._passing:
            started_s = self._clock.monotonic()
            self._passes += 1
            try:
                outcome = await self._pass(started_s)
                self._succeeded(outcome, seconds=self._clock.monotonic() - started_s)
                await self._keep(outcome.snapshot)
            except StoreError as error:
                self._failed(str(error))
            except Exception as error:
                # The target's or our own fault. Without this the loop would end, and with it all news of the store.
                logger.exception("a pass over the store failed: %s", self._store.url)
                self._failed(f"{type(error).__name__}: {error}")

    async def _pass(self, started_s: float) -> _Outcome:
        before, wall_s = self._target.snapshot, self._clock.wall()
        reader = ListingReader(self._layout, known=before.models)
        await self._read_pages(reader)
        took_s = self._clock.monotonic() - started_s
        listing = await asyncio.to_thread(reader.finish)
        previous = self._target.snapshot
        self._doubt(listing, previous)

        def conclude() -> _Outcome:
            settled, settling = settle(
                listing,
                self._settling,
                previous,
                now_s=started_s,
                wall_s=wall_s,
                settle_time_s=self._settle_time_s,
                took_s=took_s,
            )
            snapshot = keep_lookups(settled, before=before, now=previous)
            return _Outcome(snapshot, settling, diff(previous, snapshot), snapshot.models.version_count)

        outcome = await asyncio.to_thread(conclude)
        snapshot = keep_lookups(outcome.snapshot, before=previous, now=self._target.snapshot)
        await self._target.apply(snapshot)
        self._settling = (
            outcome.settling
        )  # only now: what settled in a pass that is not applied must not be forgotten
        return replace(outcome, snapshot=snapshot)

    async def _read_pages(self, reader: ListingReader) -> None:
        await self._feed(reader, self._store.list())
        while scattered := reader.take_scattered():
            for name in scattered:
                await self._feed(reader, self._store.list(f"{name}/"))

    async def _feed(self, reader: ListingReader, pages: AsyncIterator[Sequence[ObjectMeta]]) -> None:
        """Feed on the loop, in parts of about a millisecond: a thread would hold the interpreter for longer."""
        try:
            while (page := await self._next(pages)) is not None:
                for start in range(0, len(page), _FEED_OBJECTS):
                    reader.feed(page[start : start + _FEED_OBJECTS])
                    await asyncio.sleep(0)
                if reader.is_behind:
                    await asyncio.to_thread(reader.catch_up)
        finally:
            if isinstance(pages, AsyncGenerator):
                await pages.aclose()

    async def _next(self, pages: AsyncIterator[Sequence[ObjectMeta]]) -> Sequence[ObjectMeta] | None:
        try:
            async with asyncio.timeout(self._page_timeout_s):
                return await anext(pages, None)
        except TimeoutError as error:
            raise StoreError(
                f"the store sent no page of its listing within {self._page_timeout_s:g} s"
            ) from error

    def _doubt(self, listing: Listing, previous: Snapshot) -> None:
        doubted, self._doubted = self._doubted, not listing.models and bool(previous.models)
        if self._doubted and not doubted:
            raise _DoubtedError(
                f"the store lists no models where there were {len(previous.models)}; "
                "they are served on until the next pass says the same"
            )

    def _succeeded(self, outcome: _Outcome, *, seconds: float) -> None:
        self._failures = 0
        self._last_error = None
        self._last_success_s = self._clock.monotonic()
        self.first_pass.set()
        snapshot = outcome.snapshot
        self._events.publish(
            Synced(
                models=len(snapshot.models),
                versions=outcome.versions,
                rejects=len(snapshot.rejects) + snapshot.rejects_left_out,
                unsettled=len(snapshot.unsettled),
                added=outcome.diff.added,
                removed=len(outcome.diff.removed),
                changed=len(outcome.diff.changed),
                seconds=seconds,
            )
        )

    def _failed(self, reason: str) -> None:
        self._failures += 1
        self._last_error = reason
        retry_s = retry_delay_s(
            failures=self._failures, interval_s=self._interval_s, served=self.first_pass.is_set()
        )
        self._events.publish(SyncFailed(reason=reason, consecutive=self._failures, retry_in_s=retry_s))

    async def _keep(self, snapshot: Snapshot) -> None:
        """Write the snapshot down; a cancel waits for the write, which would else race with a later one."""
        if self._file is None:
            return
        writing = asyncio.ensure_future(asyncio.to_thread(self._write, self._file, snapshot))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait({writing})
            raise

    def _write(self, file: SnapshotFile, snapshot: Snapshot) -> None:
        if snapshot == self._written:
            return
        try:
            file.write(snapshot)
        except OSError as error:
            logger.warning("the catalog cannot be stored, and is served all the same: %s", error)
        else:
            self._written = snapshot

    def _delay_s(self) -> float | None:
        """Return how long to rest, or None to wait for a trigger."""
        if self._failures:
            served = self.first_pass.is_set()
            delay_s = retry_delay_s(failures=self._failures, interval_s=self._interval_s, served=served)
        elif self._interval_s > 0:
            delay_s = self._interval_s
        else:
            return None
        return delay_s * (1 - JITTER + 2 * JITTER * self._random())

    async def _rest(self, delay_s: float | None) -> None:
        """Wait for the time to pass or for a trigger, whichever comes first."""
        if delay_s is None or self._wake.is_set():
            await self._wake.wait()
            return
        nap = asyncio.ensure_future(self._sleep(delay_s))
        call = asyncio.ensure_future(self._wake.wait())
        try:
            done, _ = await asyncio.wait({nap, call}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            nap.cancel()
            call.cancel()
            await asyncio.wait({nap, call})


def _file(path: Path | None, store: ObjectStore, layout: Layout) -> SnapshotFile | None:
    origin = f"{store.url} with {layout.expected}"
    return SnapshotFile(path, origin=origin) if path is not None else None


def _read(file: SnapshotFile) -> Snapshot | None:
    try:
        return file.read()
    except SnapshotFormatError as error:
        logger.warning("the stored catalog is unusable and removed: %s: %s", error, file.path)
    except OSError as error:
        logger.warning("the stored catalog cannot be read: %s", error)
        return None
    try:
        file.remove()
    except OSError as error:
        logger.warning("the stored catalog cannot be removed: %s", error)
    return None
