"""What is on the medium, and what is only in the system's cache yet. Called by the disk tier's directory, in threads.

What was written survives the end of a process at once, and a power cut once it was synced. Between the two it is good
until the machine starts again, and by the number of its start one can tell whether it has.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def boot_id(source: Path) -> str | None:
    """Return what names this start of the machine, or None on a system that does not say."""
    try:
        return source.read_text().strip() or None
    except OSError:
        return None


def write_new_file(path: str, data: bytes) -> None:
    """Write a small file where there is none, with as few system calls as can be."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes, *, durable: bool) -> None:
    """Write a file that is never seen half written; with ``durable`` the medium has it, under its name, on return."""
    new = path.with_name(f"{path.name}.new")
    with new.open("wb") as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    new.rename(path)
    if durable:
        sync_directory(path.parent)


def sync_tree(root: Path) -> None:
    """Return once all files and directories below ``root``, and itself, are on the medium."""
    for directory, _, names in os.walk(root, onerror=_failed):
        for name in names:
            _sync(Path(directory, name), os.O_RDONLY)
        sync_directory(Path(directory))


def sync_directory(path: Path) -> None:
    """Return once the names in a directory are on the medium."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _failed(error: OSError) -> None:
    raise error


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
