"""A control group of a test's own with a memory limit, for processes that the system is to end. Knows nothing of pytest."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_V1: Final = Path("/sys/fs/cgroup/memory")
_V2: Final = Path("/sys/fs/cgroup")


class NoCgroupError(Exception):
    """No control group can be made here; the text says why."""


@dataclass(frozen=True, slots=True)
class MemoryCgroup:
    """What is put in stays in, with all that it starts."""

    path: Path

    def add(self, pid: int) -> None:
        (self.path / "cgroup.procs").write_text(str(pid))

    def pids(self) -> set[int]:
        return {int(line) for line in (self.path / "cgroup.procs").read_text().split()}

    def oom_kills(self) -> int:
        """Return how many processes the system ended here as memory ran out."""
        for name in ("memory.oom_control", "memory.events"):
            if (self.path / name).exists():
                words = dict(line.split() for line in (self.path / name).read_text().splitlines())
                return int(words["oom_kill"])
        raise NoCgroupError("the system does not count what it ends")


@contextmanager
def memory_cgroup(name: str, *, limit_bytes: int) -> Iterator[MemoryCgroup]:
    """Make a group below the root's; whatever was in it must have ended when the block does.

    Raises:
        NoCgroupError: none can be made here.
    """
    root, limit, swap = (
        (_V1, "memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
        if (_V1 / "memory.limit_in_bytes").exists()
        else (_V2, "memory.max", "memory.swap.max")
    )
    path = root / f"hotset-test-{name}-{os.getpid()}"
    try:
        path.mkdir()
    except OSError as error:
        raise NoCgroupError(f"no control group can be made: {error}") from error
    try:
        _limit(path, limit, swap, limit_bytes)
        yield MemoryCgroup(path)
    finally:
        _remove(path)


def _limit(path: Path, limit: str, swap: str, limit_bytes: int) -> None:
    try:
        (path / limit).write_text(str(limit_bytes))
        if (path / swap).exists():
            (path / swap).write_text(str(limit_bytes if "memsw" in swap else 0))
    except OSError as error:
        raise NoCgroupError(f"the memory of a control group cannot be limited: {error}") from error


def _remove(path: Path) -> None:
    """The last process of a group is in it for a moment after its end."""
    for _ in range(200):
        try:
            path.rmdir()
        except OSError:
            time.sleep(0.02)
        else:
            return
    path.rmdir()
