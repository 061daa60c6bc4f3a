"""The disk of the soak's server: a small file system of its own, where one can be mounted, that ``fill`` fills up.

``soak.py`` owns it. Mounting needs root on Linux; elsewhere the server's disk is an ordinary directory, and is never full.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MEBIBYTES: Final = 24
_PIECE: Final = b"\0" * (1 << 16)


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """Where the server's disk tier is. ``why_not`` says why it cannot be filled, and is empty if it can."""

    path: Path
    why_not: str = ""

    @property
    def _filler(self) -> Path:
        return self.path / "filler"

    def fill(self) -> None:
        """Leave no room at all, until ``empty``."""
        try:
            with self._filler.open("wb", buffering=0) as file:
                while True:
                    file.write(_PIECE)
        except OSError:
            return  # which is what was wanted

    def empty(self) -> None:
        self._filler.unlink(missing_ok=True)


@contextmanager
def small_disk(path: Path) -> Iterator[SmallDisk]:
    """Mount it at a new directory, or say why not."""
    path.mkdir()
    options = f"size={MEBIBYTES}m,mode=700"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        yield SmallDisk(path, (getattr(error, "stderr", "") or str(error)).strip())
        return
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", str(path)], check=True)
