"""How much memory and disk there is to use, and who goes where it was not enough.

The limits that the system sets, and what a tier takes of them, are asked for once at start, by the composition root,
where a setting leaves the size open. The manager asks who goes.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeVar

import psutil

T = TypeVar("T")
CGROUP_FILES: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
MEMORY_SHARE: Final = 0.6
"""Of the memory limit, for models; the rest is for the gateway, the children's own base and predictions."""
DISK_SHARE: Final = 0.8
"""Of the space that is free or already ours, for the disk tier."""


def memory_limit_bytes(files: tuple[Path, ...] = CGROUP_FILES) -> int:
    """Return the control group's memory limit (version 2 or 1), or the machine's memory if that is less."""
    machine: int = psutil.virtual_memory().total
    limits = (_limit_in(file) for file in files)
    return min([machine, *(limit for limit in limits if limit is not None)])


def _limit_in(file: Path) -> int | None:
    try:
        text = file.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def default_memory_bytes(limit_bytes: int) -> int:
    """Return the memory tier's capacity where the settings leave it open."""
    return int(limit_bytes * MEMORY_SHARE)


def default_disk_bytes(directory: Path, used_bytes: int) -> int:
    """Return the disk tier's capacity where the settings leave it open; ``used_bytes`` of it are there already."""
    return int((shutil.disk_usage(directory).free + used_bytes) * DISK_SHARE)


def to_relieve(idle: Sequence[T]) -> Sequence[T]:
    """Return who is unloaded after a prediction ran out of memory, of those that lie idle, the oldest first.

    The half: how much the prediction lacks is not known, and it is tried again but once.
    """
    return idle[: (len(idle) + 1) // 2]
