"""The disk tier: versions come through ``stage``, are whole while they are there, and go when room is needed.

The fetch fills it; the residency manager looks up, holds, touches and evicts. It knows keys, weights and files, and
nothing of catalogs, stores or runtimes. Every decision is made on the event loop, on the shelf; every operation on
files runs in a thread. An entry leaves the shelf before its files are touched, and its room counts as used until
they are gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from hotset.clock import Clock, SystemClock
from hotset.errors import ErrorKind, OverloadedError, UnavailableError
from hotset.events import Cause
from hotset.keys import Fingerprint, ModelKey
from hotset.tiers.behind import DELAY_S, Behind
from hotset.tiers.directory import FILES, DiskDirectory
from hotset.tiers.eviction import LRU, Eviction
from hotset.tiers.files import DiskFiles
from hotset.tiers.ledger import Capacity, Entry, LedgerStatistics, Reservation, Weight
from hotset.tiers.medium import BOOT_ID
from hotset.tiers.record import DiskRecord
from hotset.tiers.shelf import NEVER_USED, DiskVersion, Shelf
from hotset.tiers.stage import Stage

__all__ = [
    "CheckReport",
    "Corruption",
    "DiskRecord",
    "DiskStatistics",
    "DiskTier",
    "OnEvicted",
    "RecoveryReport",
    "Stage",
]

_logger: Final = logging.getLogger(__name__)

WRITE_LIMIT_S: Final = 3.0
"""A stop waits so long for the medium. What is not there by then outlives it all the same, until a power cut."""

OnEvicted: TypeAlias = Callable[[DiskRecord, Cause, float], None]


@dataclass(frozen=True, slots=True)
class DiskStatistics:
    """A moment of the disk tier. ``undeleted`` counts directories that could not be deleted and still take room."""

    ledger: LedgerStatistics
    undeleted: int
    oldest_used_s: float | None


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """What was found on disk at start; ``evicted`` were whole, but beyond the capacity."""

    adopted: int
    removed: int
    evicted: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Corruption:
    """A version whose files are not those of its record: ``missing`` and ``changed`` paths."""

    key: ModelKey
    fingerprint: Fingerprint
    missing: tuple[str, ...]
    changed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CheckReport:
    """How files and records differed. ``extra`` files lie in a version's directory, ``strays`` belong to none."""

    corrupt: tuple[Corruption, ...]
    extra: tuple[Path, ...]
    strays: tuple[Path, ...]

    @property
    def is_clean(self) -> bool:
        return not (self.corrupt or self.extra or self.strays)


class DiskTier(Shelf):
    """Owned by the event loop. ``recover`` first; ``close`` last, when every stage was left.

    For one fingerprint: ``hold`` → ``stage`` … ``publish`` → ``lookup``, ``path`` → ``release`` → ``evict`` or chosen.
    """

    def __init__(
        self,
        path: Path,
        capacity: Capacity,
        *,
        clock: Clock | None = None,
        eviction: Eviction[Fingerprint] | None = None,
        on_evicted: OnEvicted = lambda _record, _cause, _seconds: None,
        on_short: Callable[[], None] = lambda: None,
        room_timeout_s: float | None = None,
        fsync: bool = True,
        boot_file: Path = BOOT_ID,
        write_delay_s: float = DELAY_S,
        threads: int = 4,
    ) -> None:
        """``on_evicted`` is called with the seconds that the deletion took, once the room has come back.

        ``on_short`` is called whenever a stage waits for room that only a release can make: whoever holds versions
        may let go of some. It must not call back at once. ``room_timeout_s`` is how long a stage waits at most.
        ``fsync``: what was published is on the medium ``write_delay_s`` later, and ``boot_file`` names the start of
        the machine, beyond which it is not trusted before.
        """
        super().__init__(capacity, recency=eviction if eviction is not None else LRU(), wake=self._pump_soon)
        self.on_evicted = on_evicted
        self.on_short = on_short
        self._room_timeout_s = room_timeout_s
        self._clock: Clock = clock if clock is not None else SystemClock()
        self._directory = DiskDirectory(path, fsync=fsync, boot_file=boot_file)
        self._behind: Behind[Fingerprint] = Behind(self._write_through, delay_s=write_delay_s)
        self._files = DiskFiles(self._directory, threads=threads)
        self._saving = asyncio.Lock()
        self._saved_order: tuple[Fingerprint, ...] = ()
        self._abandoning: set[asyncio.Task[None]] = set()
        self._is_open = False
        self._pump_is_due = False

    # Start and end

    async def recover(self) -> RecoveryReport:
        """Take the directory, adopt the whole versions in it by recency, and remove everything else.

        Raises:
            ConfigError: another process has the directory, or it cannot be used.
            OSError: what is to go cannot be removed.
        """
        await self._files.in_thread(self._directory.ownership.take)
        recovery = await self._files.in_thread(self._directory.recover)
        now_s = self._clock.monotonic()
        for found in recovery.found:
            version = DiskVersion(found.record, self._files.claim(found.path), found.is_durable)
            self._adopt(version, NEVER_USED if found.age_s is None else now_s - found.age_s)
            if not found.is_durable:
                self._behind.add(found.record.fingerprint)
        self._is_open = True
        await self.settled()
        adopted = len(self._ledger.entries)
        return RecoveryReport(adopted, recovery.removed, len(recovery.found) - adopted, self.usage.bytes)

    async def close(self) -> None:
        """Wait for deletions and the medium, save, and give the directory back. Twice is fine, and so is without ``recover``.

        Raises:
            OSError: recency could not be saved; the directory is given back all the same.
        """
        try:
            if self._is_open:
                await self.settled()
                await self._behind.close(limit_s=WRITE_LIMIT_S)
                await self.save()
                await self.settled()
        finally:
            self._is_open = False
            self._behind.stop()
            self._files.close()
            self._directory.ownership.give_back()

    async def save(self) -> None:
        """Write recency and what was remembered since the last time; try failed deletions again.

        For every pass of the sync loop. What is lost if the process dies is an order and some measurements.

        Raises:
            OSError: the disk's fault; what could not be written is kept for the next time.
        """
        async with self._saving:
            self._files.remove_again()
            order = tuple(self._recency.victims())
            if order != self._saved_order:
                now_s = self._clock.monotonic()
                ages = [(fingerprint, self._age_s(fingerprint, now_s)) for fingerprint in order]
                await self._files.in_thread(partial(self._directory.write_recency, ages))
                self._saved_order = order
            for fingerprint in tuple(self._dirty):
                await self._save_record(fingerprint)

    def _age_s(self, fingerprint: Fingerprint, now_s: float) -> float | None:
        used_s = self._recency.last_used_s(fingerprint)
        return None if used_s is None or used_s == NEVER_USED else max(0.0, now_s - used_s)

    async def _save_record(self, fingerprint: Fingerprint) -> None:
        entry = self._ledger.entries.get(fingerprint)
        if entry is None:
            self._dirty.discard(fingerprint)
            return
        if not entry.value.is_durable:
            self._behind.add(
                fingerprint
            )  # written with the rest of it, soon, if it does not wait for that already
            return
        record = entry.value.record
        with self._held(fingerprint):
            await self._files.in_thread(partial(self._directory.write_record, entry.value.path, record))
        if entry.value.record is record:
            self._dirty.discard(fingerprint)

    async def _write_through(self, fingerprint: Fingerprint) -> None:
        """Bring a version to the medium. If that cannot be done, what the cache has of it cannot be trusted either.

        Where only its record cannot be written now (no room, a disk that is read-only), ``save`` has it tried again.
        """
        entry = self._ledger.entries.get(fingerprint)
        if entry is None or self.lookup(fingerprint) is None or entry.value.is_durable:
            return
        version, record = entry.value, entry.value.record
        with self._held(fingerprint):
            try:
                put_off = await self._files.in_thread(
                    partial(self._directory.write_through, version.path, record)
                )
            except OSError as error:
                _logger.warning("%s could not be written to disk: %s", record.key, error)
                self.evict(fingerprint, Cause.CORRUPT)
                return
        if put_off is not None:
            self._dirty.add(fingerprint)
            return
        version.is_durable = True
        if version.record is record:
            self._dirty.discard(fingerprint)

    async def durable(self) -> None:
        """Return once the medium has all that is on disk now; what cannot be written has left."""
        await self._behind.settled()

    def limit(self, capacity: Capacity) -> None:
        """Set another capacity; what is beyond it is evicted, the least recently used first."""
        self._ledger.limit(capacity)
        self._pump_soon()

    async def free_bytes(self) -> int:
        """Return what the file system has left, whatever the capacity says."""
        return await self._files.in_thread(self._directory.free_bytes)

    def statistics(self) -> DiskStatistics:
        return DiskStatistics(self._ledger.statistics(), self._files.undeleted, self.oldest_used_s())

    def check_invariants(self) -> None:
        super().check_invariants()
        versions = [entry.value for entry in (*self._ledger.entries.values(), *self._ledger.draining())]
        assert len({version.path for version in versions}) == len(versions)
        assert all(self._files.is_claimed(version.path) for version in versions)

    # Coming

    @asynccontextmanager
    async def stage(self, fingerprint: Fingerprint, *, key: ModelKey, bytes: int) -> AsyncIterator[Stage]:  # noqa: A002
        """Wait for room, and give a directory to collect a version's files in; ``publish`` makes them an entry.

        Leaving it unpublished, by whatever way, deletes the directory and gives the room back. There is room once
        enough of what is not held has been deleted; a caller that will not wait so long cancels.

        Raises:
            CapacityError: it is larger than the whole tier.
            OverloadedError: what is on disk was held for all of the time that a stage waits.
            UnavailableError: the tier is closed.
            OSError: the disk's fault.
        """
        if not self._is_open:
            raise UnavailableError(f"the disk tier is closed; {key} cannot be fetched now")
        if self.lookup(fingerprint) is None:
            self._take_out(fingerprint, Cause.CORRUPT)
        reservation = await self._reserve(fingerprint, Weight(bytes=bytes))
        stage = Stage(self._files, reservation, key=key, commit=self._commit)
        try:
            yield stage
        finally:
            if not stage.is_committed:
                await self._abandon(stage)

    async def _reserve(self, fingerprint: Fingerprint, weight: Weight) -> Reservation[Fingerprint]:
        granted = asyncio.Event()
        reservation = self._ledger.reserve(fingerprint, weight, granted.set)
        try:
            self._pump()
            if not granted.is_set():
                async with asyncio.timeout(self._room_timeout_s):
                    await granted.wait()
        except TimeoutError as error:
            self._ledger.cancel(reservation)
            raise OverloadedError(
                f"no room on disk for {weight.bytes} bytes: all that is there is in use; expected room within"
                f" {self._room_timeout_s:g} s",
                kind=ErrorKind.NO_ROOM,
            ) from error
        except BaseException:
            self._ledger.cancel(reservation)
            raise
        return reservation

    async def _abandon(self, stage: Stage) -> None:
        """Delete a stage and then give its room back, to the end even if the caller is cancelled meanwhile."""
        task = asyncio.create_task(stage.discard(partial(self._ledger.cancel, stage.reservation)))
        self._abandoning.add(task)
        task.add_done_callback(self._abandoning.discard)
        await asyncio.shield(task)

    def _commit(self, stage: Stage, target: Path, record: DiskRecord, is_durable: bool) -> bool:
        version = DiskVersion(record, target, is_durable)
        is_entered = self._enter(stage.reservation, version, self._clock.monotonic())
        if is_entered:
            self._files.unclaim(stage.root)
            if not is_durable:
                self._behind.add(record.fingerprint)
        return is_entered

    # Going

    async def make_room(self, wanted_bytes: int) -> int:
        """Delete least recently used versions of so many bytes in all; return the bytes that came back.

        For a file system that is full before the capacity is. Where all that may go would not be enough with what is free,
        none goes.
        """
        free = await self.free_bytes()
        chosen, total = self._choose(wanted_bytes)
        if total + free < wanted_bytes:
            return 0
        for fingerprint in chosen:
            self._take_out(fingerprint, Cause.PRESSURE)
        await self.settled()
        return total

    async def settled(self) -> None:
        """Return once nothing is being deleted any more, and what can be granted is."""
        self._pump()
        while self._abandoning:
            await asyncio.wait(tuple(self._abandoning))
        await self._files.settled()
        self._pump()

    def _pump_soon(self) -> None:
        if self._is_open and not self._pump_is_due:
            self._pump_is_due = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_is_due = False
        if self._is_open:
            for entry in self._advance():
                gone = partial(self._gone, entry, self._clock.monotonic())
                self._files.remove(entry.value.path, then=gone)
            if self.is_short:
                self.on_short()

    def _gone(self, entry: Entry[Fingerprint, DiskVersion], began_s: float) -> None:
        self._ledger.freed(entry)
        seconds = self._clock.monotonic() - began_s
        self.on_evicted(entry.value.record, entry.cause or Cause.EXPLICIT, seconds)

    # Reconciling

    async def check(self, *, fix: bool = False) -> CheckReport:
        """Compare files and records. ``fix`` evicts what is corrupt and deletes what belongs to nobody.

        Extra files of a version that is held stay: they may be a model's own.
        """
        corrupt: list[Corruption] = []
        extra: list[Path] = []
        for fingerprint in tuple(self._ledger.entries):
            if self.lookup(fingerprint) is None:
                continue
            with self._held(fingerprint):
                corruption = await self._check_version(fingerprint, extra, fix=fix)
            if corruption is not None:
                corrupt.append(corruption)
                if fix:
                    self.evict(fingerprint, Cause.CORRUPT)
        strays = await self._files.find_strays()
        if fix:
            for path in strays:
                self._files.remove(path)
            self._files.remove_again()
            await self.settled()
        return CheckReport(tuple(corrupt), tuple(extra), strays)

    async def _check_version(
        self, fingerprint: Fingerprint, extra: list[Path], *, fix: bool
    ) -> Corruption | None:
        version = self._ledger.entries[fingerprint].value
        record = version.record
        differences = await self._files.in_thread(partial(self._directory.inspect, version.path, record))
        if fix and differences.extra and self._holds.get(fingerprint) == 1:
            await self._files.in_thread(
                partial(self._directory.remove_files, version.path, differences.extra)
            )
        extra += (version.path / FILES / name for name in differences.extra)
        if differences.is_whole:
            return None
        return Corruption(record.key, fingerprint, differences.missing, differences.changed)
