"""The disk tier's hands: its threads, the paths that are in use, and the directories that are being deleted.

``DiskTier`` and its stages use it. It decides nothing about versions. A path is claimed from before it is made until
after it is gone, so that two copies of one fingerprint never meet in one place and a stray is told from what is ours.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final, TypeVar

from hotset.keys import Fingerprint
from hotset.tiers.directory import DiskDirectory

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Removal:
    """Directories to delete, each with the path it is moved to first, and what to do once all are gone."""

    moves: tuple[tuple[Path, Path], ...]
    then: Callable[[], None]


class DiskFiles:
    """Owned by the event loop. ``close`` comes after ``settled``."""

    def __init__(self, directory: DiskDirectory, *, threads: int) -> None:
        self.directory: Final = directory
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="hotset-disk")
        self._claimed: set[Path] = set()
        self._serial = count()
        self._own = os.getpid()  # another process may have made our directory anew, and stages there
        self._resisting: list[_Removal] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def undeleted(self) -> int:
        """How many deletions failed and wait for ``remove_again``."""
        return len(self._resisting)

    def in_thread(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Run an operation on files; cancelling the future does not stop it once it has begun."""
        return asyncio.get_running_loop().run_in_executor(self._threads, work)

    def claim(self, path: Path) -> Path:
        self._claimed.add(path)
        return path

    def unclaim(self, path: Path) -> None:
        """The path is gone, renamed."""
        self._claimed.discard(path)

    def is_claimed(self, path: Path) -> bool:
        return path in self._claimed

    def claim_stage(self, fingerprint: Fingerprint) -> Path:
        """Claim a path in ``staging`` that was never used before."""
        return self.claim(self.directory.staging / f"{fingerprint}.{self._own}.{next(self._serial)}")

    def claim_final(self, fingerprint: Fingerprint) -> Path:
        """Claim a path in ``objects``: the fingerprint's own, or a numbered one while an earlier copy has that."""
        path, number = self.directory.objects / fingerprint, 0
        while path in self._claimed:
            number += 1
            path = self.directory.objects / f"{fingerprint}.{number}"
        return self.claim(path)

    async def find_strays(self) -> tuple[Path, ...]:
        """Return what lies in the directory and is nobody's."""
        before = frozenset(self._claimed)
        names = await self.in_thread(self.directory.names)
        return tuple(sorted(names - before - self._claimed))

    def remove(self, *paths: Path, then: Callable[[], None] = lambda: None) -> asyncio.Task[None]:
        """Delete directories in a thread; ``then`` is called once they are gone.

        One that cannot be deleted still takes room: it stays claimed, ``then`` waits, and ``remove_again`` tries anew.
        """
        moves = tuple((self.claim(path), self._claim_trash(path)) for path in paths)
        return self._start(_Removal(moves, then))

    def remove_again(self) -> None:
        """Try what could not be deleted before once more."""
        removals, self._resisting = self._resisting, []
        for removal in removals:
            self._start(removal)

    async def settled(self) -> None:
        """Return once nothing is being deleted any more."""
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))

    def close(self) -> None:
        self._threads.shutdown()

    def _claim_trash(self, path: Path) -> Path:
        return self.claim(self.directory.staging / f"{path.name}.gone.{self._own}.{next(self._serial)}")

    def _start(self, removal: _Removal) -> asyncio.Task[None]:
        task = asyncio.create_task(self._remove(removal))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _remove(self, removal: _Removal) -> None:
        try:
            for path, trash in removal.moves:
                await self.in_thread(partial(self.directory.remove, path, trash))
        except OSError:
            self._resisting.append(removal)
            return
        for move in removal.moves:
            self._claimed.difference_update(move)
        removal.then()
