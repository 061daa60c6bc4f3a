"""How much memory and disk there is to use: the limits that the system sets, and what a tier takes of them.

Asked once at start, by the composition root, where a setting leaves the size open.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import psutil

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
