"""Who owns the disk tier's directory: the one process that has locked its file ``lock``, which holds its pid.

For ``DiskDirectory``, in threads. A directory that somebody deletes under a running server is made again by it; where another
process was there first, it is that one's from then on, and nothing in it is touched. Knows nothing of what lies in it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hotset.errors import ConfigError

LOCK: Final = "lock"


class Ownership:
    """Thread-safe. ``take`` first, then anything; ``give_back`` last."""

    def __init__(self, root: Path, *, holding: Sequence[Path]) -> None:
        """``holding``: the directories in ``root`` that are made with it, and are swept by whoever owns it."""
        self._root = root
        self._holding = holding
        self._lock: int | None = None
        self._changing = threading.Lock()  # several threads publish; one of them takes the lock anew

    def take(self) -> None:
        """Become the one process that owns the directory; make it if it is not there.

        Raises:
            ConfigError: another process has it, it cannot be made, or it is a directory of something else.
        """
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not (self._root / LOCK).exists() and self._holds_something_else():
                raise ConfigError(
                    f"disk_path has files that are not hotset's; expected an empty directory, found: {self._root}"
                )
            self._lock = self._locked()
            self._make_directories()
        except OSError as error:
            self.give_back()
            raise ConfigError(
                f"disk_path cannot be used: {error}; expected a directory to write to"
            ) from error

    def give_back(self) -> None:
        """Let another process have the directory. Twice is fine."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def is_ours(self) -> bool:
        """Whether the file that we have locked is still the one that others would lock."""
        with self._changing:
            return self._has_lock()

    def is_anothers(self) -> bool:
        """Whether somebody has deleted our directory, and another process has made it again."""
        with self._changing:
            return self._lock is not None and (self._root / LOCK).exists() and not self._has_lock()

    def make_anew(self) -> None:
        """Somebody has deleted our directory: make it again, if it is still ours.

        Raises:
            OSError: it cannot be made, or another process has it by now.
        """
        with self._changing:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._has_lock():
                self._lock_anew()
            self._make_directories()

    def _lock_anew(self) -> None:
        try:
            lock = self._locked()
        except ConfigError as error:
            raise OSError(errno.ESTALE, str(error)) from error
        self.give_back()  # the file that was deleted
        self._lock = lock

    def _locked(self) -> int:
        """Return the file, open and locked."""
        # Of the open file and not of the process: a second tier in this process is refused as well.
        lock = os.open(self._root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(lock)
            raise ConfigError(
                f"disk_path is used by another process; every replica needs one of its own,"
                f" found: {self._root}, held by pid {holder}"
            ) from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        return lock

    def _has_lock(self) -> bool:
        try:
            found = (self._root / LOCK).stat()
        except FileNotFoundError:
            return False
        return self._lock is not None and os.path.samestat(os.fstat(self._lock), found)

    def _holds_something_else(self) -> bool:
        """Whether what is swept at start has content although we never were here."""
        return any(path.exists() for path in self._holding)

    def _make_directories(self) -> None:
        for directory in self._holding:
            directory.mkdir(mode=0o700, exist_ok=True)
