"""A version on its way to disk: the directory in which its files are collected until they are all there.

``DiskTier.stage`` gives it to the fetch and takes it back. It decides nothing: it runs the directory's operations
in threads, one at a time, and knows which one runs, so that nothing is deleted under it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from hotset.keys import DiskFile, Fingerprint, ModelKey
from hotset.tiers.directory import FILES
from hotset.tiers.files import DiskFiles
from hotset.tiers.ledger import Reservation
from hotset.tiers.record import DiskRecord, check_paths

T = TypeVar("T")


class Stage:
    """Owned by one task. Write the files to their ``targets``, ``publish``; then leave the context."""

    def __init__(
        self,
        files: DiskFiles,
        reservation: Reservation[Fingerprint],
        *,
        key: ModelKey,
        commit: Callable[[Stage, Path, DiskRecord, bool], bool],
    ) -> None:
        """``commit`` makes what was published an entry; it returns False if another copy has come meanwhile.

        It is told where it is, and whether the medium has it already.
        """
        self.root: Final = files.claim_stage(reservation.key)
        self.path: Final = self.root / FILES
        self.reservation: Final = reservation
        self.is_committed = False
        self._key = key
        self._commit = commit
        self._files = files
        self._target: Path | None = None
        self._step: asyncio.Future[Any] | None = None

    def targets(self, paths: Iterable[str]) -> dict[str, Path]:
        """Return where files of these relative paths are to be written.

        Whoever writes them makes the directories: to wait for a thread for that alone would take as long as to copy a
        small file.

        Raises:
            ValueError: a path leads out of the stage, or two of them exclude each other.
        """
        names = tuple(paths)
        check_paths(names)
        return {name: self.path / name for name in names}

    async def publish(self, files: Mapping[str, int]) -> DiskRecord:
        """Verify that the stage holds exactly these files with these sizes, and make them the version's.

        When it returns, the version is whole on disk and an entry of the tier; the medium may have it only later. It is
        a victim like any other unless its fingerprint is held.

        Raises:
            ValueError: the files are others, or have more bytes than were reserved.
            OSError: the disk's fault.
        """
        if self._target is not None:
            raise RuntimeError(f"published twice: {self._key}")
        fingerprint = self.reservation.key
        record = DiskRecord(
            fingerprint,
            self._key,
            tuple(DiskFile(*file) for file in sorted(files.items())),
            sum(files.values()),
        )
        if record.bytes > self.reservation.weight.bytes:
            raise ValueError(
                f"{self._key} has {record.bytes} bytes, reserved were {self.reservation.weight.bytes}"
            )
        self._target = self._files.claim_final(fingerprint)
        publish = partial(self._files.directory.publish, self.root, self._target, record)
        published = await self._run(publish)
        self.is_committed = self._commit(self, self._target, published.record, published.is_durable)
        return published.record

    async def discard(self, then: Callable[[], None]) -> None:
        """Delete what was staged, wherever it is; ``then`` is called once it is gone. For the tier alone."""
        if self._step is not None and not self._step.done():
            await asyncio.wait([self._step])
        paths = (self.root,) if self._target is None else (self.root, self._target)
        await self._files.remove(*paths, then=then)

    async def _run(self, work: Callable[[], T]) -> T:
        # A thread cannot be cancelled: its caller goes, and `discard` waits for it before anything is deleted.
        step = self._step = self._files.in_thread(work)
        return await asyncio.shield(step)
