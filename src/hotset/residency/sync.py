"""The sync loop: makes a pass over the store every so often, and keeps what it found for the next start.

The server runs it. What a pass is, the discovery says: it looks at the store and puts what has settled in force with
the target (the residency manager), which decides what to load, unload and delete. A pass that fails, in whatever way,
leaves what is in force and is tried again, later each time. The loop never loads, fetches or deletes a model.
"""

from __future__ import annotations

import asyncio
import logging
import random as random_module
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from hotset.catalog import Snapshot, SnapshotFormatError
from hotset.clock import Clock
from hotset.errors import StoreError
from hotset.events import EventBus, Synced, SyncFailed
from hotset.residency.discovery import Discovery, Look, Source, SyncTarget
from hotset.residency.snapshot_file import SnapshotFile

JITTER: Final = 0.1
FIRST_RETRY_S: Final = 1.0
MOST_RETRY_S: Final = 60.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """How the loop does. ``last_success_age_s`` and ``source`` are None until a pass has ended well.

    ``source`` is where the snapshot in force comes from, ``note`` what people should know of that.
    """

    url: str
    passes: int
    consecutive_failures: int
    last_error: str | None
    last_success_age_s: float | None
    source: Source | None = None
    note: str = ""

    @property
    def degraded(self) -> bool:
        """Whether what is served may be behind the store."""
        return self.consecutive_failures > 0


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
        discovery: Discovery,
        target: SyncTarget,
        url: str,
        clock: Clock,
        events: EventBus,
        interval_s: float,
        state: SnapshotFile | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        """``url`` is the store's, for people. ``interval_s`` 0: one good pass, then only when triggered.

        ``state`` keeps the last good snapshot.
        """
        self._discovery = discovery
        self._target = target
        self._url = url
        self._clock = clock
        self._events = events
        self._interval_s = interval_s
        self._sleep = sleep
        self._random = random
        self._file = state
        self._written: Snapshot | None = None
        self._look: Look | None = None
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
        source, note = (self._look.source, self._look.note) if self._look is not None else (None, "")
        return SyncStatus(self._url, self._passes, self._failures, self._last_error, age_s, source, note)

    @property
    def is_degraded(self) -> bool:
        """Whether the last pass failed."""
        return self._failures > 0

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
        """Look, put in force and keep. Whatever fails is in ``status`` and in the events; only a cancel raises."""
        async with self._passing:
            started_s = self._clock.monotonic()
            self._passes += 1
            try:
                self._look = await self._discovery.look()
                self._succeeded(self._look, seconds=self._clock.monotonic() - started_s)
                await self._keep(self._look.snapshot)
            except StoreError as error:
                self._failed(str(error))
            except Exception as error:
                # The target's or our own fault. Without this the loop would end, and with it all news of the store.
                logger.exception("a pass over the store failed: %s", self._url)
                self._failed(f"{type(error).__name__}: {error}")

    def _succeeded(self, look: Look, *, seconds: float) -> None:
        self._failures = 0
        self._last_error = None
        self._last_success_s = self._clock.monotonic()
        self.first_pass.set()
        snapshot = look.snapshot
        self._events.publish(
            Synced(
                models=len(snapshot.models),
                versions=snapshot.models.version_count,
                rejects=len(snapshot.rejects) + snapshot.rejects_left_out,
                unsettled=len(snapshot.unsettled),
                added=look.changes.added,
                removed=len(look.changes.removed),
                changed=len(look.changes.changed),
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
