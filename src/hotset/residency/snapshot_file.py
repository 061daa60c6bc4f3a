"""The last good snapshot on disk: written whole or not at all, read once at start.

Blocking; the sync loop calls it in threads, one call at a time. It never decides what is served.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from hotset.catalog import Snapshot, dump_parts, load

_BUFFER_BYTES: Final = 1 << 18


class SnapshotFile:
    """Owned by the sync loop."""

    def __init__(self, path: Path, *, origin: str) -> None:
        """``origin`` says which store the snapshot is of; one of another store is not read."""
        self._path = path
        self._origin = origin

    @property
    def path(self) -> Path:
        return self._path

    def read(self) -> Snapshot | None:
        """Return the snapshot, or None if there is none.

        Raises:
            SnapshotFormatError: the file is damaged, of another format or of another store.
            OSError: the disk's fault.
        """
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return None
        return load(data, origin=self._origin)

    def write(self, snapshot: Snapshot) -> None:
        """Replace the file in one step that survives a crash.

        Raises:
            OSError: the disk's fault; the file is as it was.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        staged = self._path.with_name(f"{self._path.name}.new")
        try:
            with staged.open("wb", buffering=_BUFFER_BYTES) as file:
                file.writelines(dump_parts(snapshot, origin=self._origin))
                file.flush()
                os.fsync(file.fileno())
            staged.replace(self._path)
        except OSError:
            with suppress(OSError):
                staged.unlink(missing_ok=True)
            raise
        _sync_directory(self._path.parent)

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


def _sync_directory(path: Path) -> None:
    """Make the rename itself durable."""
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
