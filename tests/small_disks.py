"""File systems of a few MiB for tests: one that can be full, one that can be frozen; and directories made read-only.

They need a system that lets them be mounted. Where it does not, ``CannotMountError`` says why. Knows nothing of pytest.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class CannotMountError(Exception):
    """No file system can be mounted here; the message is the system's."""


def _run(*command: str | Path) -> None:
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise CannotMountError(str(error)) from error
    if done.returncode:
        raise CannotMountError(f"{' '.join(map(str, command))}: {done.stderr.decode().strip()}")


@contextmanager
def memory_disk(path: Path, *, mebibytes: int) -> Iterator[Path]:
    """Mount a file system in memory of so many MiB at a new directory."""
    path.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=700", "tmpfs", path)
    try:
        yield path
    finally:
        _run("umount", path)


@contextmanager
def image_disk(path: Path, *, mebibytes: int) -> Iterator[Path]:
    """Mount a file system in a file of so many MiB at a new directory; it can be frozen."""
    path.mkdir()
    image = path.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(mebibytes << 20)
    _run("mkfs.ext4", "-q", image)
    _run("mount", "-o", "loop", image, path)
    try:
        yield path
    finally:
        _run("umount", path)


@contextmanager
def frozen(path: Path) -> Iterator[None]:
    """Whoever writes to the file system waits, until the context is left."""
    _run("fsfreeze", "-f", path)
    try:
        yield
    finally:
        _run("fsfreeze", "-u", path)


@contextmanager
def read_only(*directories: Path) -> Iterator[None]:
    """Nothing can be written to these directories any more, whoever asks."""
    mounted: list[Path] = []
    try:
        for path in directories:
            _run("mount", "--bind", path, path)
            mounted.append(path)
            _run("mount", "-o", "remount,bind,ro", path)
        yield
    finally:
        for path in mounted:
            _run("umount", "-l", path)


def fill(path: Path) -> Path:
    """Write a file that takes all that is left; return it."""
    filler = path / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    return filler
