"""A control group of its own with a memory limit, for tests that need a real one; and what a process and its children take.

Needs the right to make groups: root, and a mounted hierarchy. Elsewhere ``reason_without_groups`` says why not.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from hotset.memory_limits import MemoryGroup

VERSION_1: Final = Path("/sys/fs/cgroup/memory")
VERSION_2: Final = Path("/sys/fs/cgroup")
LIMIT_S: Final = 10.0
_numbers = itertools.count()


def _hierarchy() -> tuple[Path, bool] | None:
    if (VERSION_1 / "memory.limit_in_bytes").exists():
        return VERSION_1, False
    control = VERSION_2 / "cgroup.subtree_control"
    if control.exists() and "memory" in control.read_text().split():
        return VERSION_2, True
    return None


def reason_without_groups() -> str | None:
    """Why no control group with a memory limit can be made here; None if one can."""
    found = _hierarchy()
    if found is None:
        return "no hierarchy of control groups with the memory controller is mounted here"
    try:
        group = _made(found[0])
    except OSError as error:
        return f"a control group cannot be made below {found[0]}: {error.strerror}"
    group.rmdir()
    return None


@contextlib.contextmanager
def memory_group(limit_bytes: int) -> Iterator[tuple[MemoryGroup, Callable[[], None]]]:
    """Yield a group, and what a new process calls to be in it, as ``preexec_fn``. Removed once its processes are gone."""
    found = _hierarchy()
    assert found is not None
    root, is_unified = found
    directory = _made(root)
    try:
        (directory / ("memory.max" if is_unified else "memory.limit_in_bytes")).write_text(str(limit_bytes))
        yield MemoryGroup(directory, is_unified), lambda: _enter(directory)
    finally:
        _remove(directory)


def _made(root: Path) -> Path:
    directory = root / f"hotset-test-{os.getpid()}-{next(_numbers)}"
    directory.mkdir()
    return directory


def _enter(directory: Path) -> None:
    (directory / "cgroup.procs").write_text(str(os.getpid()))


def _remove(directory: Path) -> None:
    end_s = time.monotonic() + LIMIT_S
    while True:
        try:
            directory.rmdir()
        except OSError:  # a process that has just ended is still counted
            if time.monotonic() > end_s:
                raise
            time.sleep(0.02)
        else:
            return
