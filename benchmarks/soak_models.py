"""The model directory of the soak: changes it, and remembers all that it ever offered. ``soak.py`` owns it.

Every version is a few small files that tell name, version and revision, so that each answer shows where it comes from. They are
written and deleted one after the other, with pauses, as an upload does it: what is half there is not to be served. What is about
to change is written down before it changes: a server may see it at once.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from pathlib import Path
from random import Random
from typing import Final

from soak_predictor import PARTS

UPLOAD_PAUSE_S: Final = 0.03
"""Between two files of a version; far below the server's ``settle_time``."""

PREDICT_S: Final = 0.001
CALM: Final = ("calm-0", "calm-1")
SLOW: Final = "slow"
SLOWLY_BROKEN: Final = "slowly-broken"
SLOW_LOAD_S: Final = 0.7
SLOW_PREDICT_S: Final = 0.3

Version = tuple[str, int]
"""Name and number."""


class Models:
    """Owned by one task that calls one verb at a time; anybody reads. Names and numbers are never used twice."""

    def __init__(self, root: Path, draw: Random, *, count: int, broken: int = 0) -> None:
        """``broken`` more cannot be loaded, ever; and there are those that are always there: calm ones, and slow ones."""
        self.root = root
        self.offered: set[tuple[str, int, int]] = set()
        self.deleted_at: dict[Version, float] = {}
        self.gone: set[str] = set()
        self.touched_at: dict[str, float] = {}
        self.now: dict[str, dict[int, int]] = {}
        """By name: the number and the revision of each version that is there."""

        self._away = root.with_name("away")
        self._draw = draw
        self._made = 0
        root.mkdir(parents=True)
        self.broken = [f"broken-{number}" for number in range(broken)]
        for name in self.broken:
            _write(root / name / "1", name, None, 1)
        _write(root / SLOWLY_BROKEN / "1", SLOWLY_BROKEN, None, 1, load_s=SLOW_LOAD_S)
        _write(root / SLOW / "1", SLOW, 1, 1, load_s=SLOW_LOAD_S, predict_s=SLOW_PREDICT_S)
        for name in CALM:
            _write(root / name / "1", name, 1, 1)
        self.offered |= {(name, 1, 1) for name in (SLOW, *CALM)}
        for _ in range(count):
            name = self._next_name()
            self._tell(name, 1, 1)
            _write(self._directory(name, 1), name, 1, 1)

    def pick(self, *, least_versions: int = 1) -> str | None:
        """Draw a name, the first ones much more often, among those with so many versions."""
        names = [name for name, versions in self.now.items() if len(versions) >= least_versions]
        return names[int(len(names) * self._draw.random() ** 2.5)] if names else None

    async def add_model(self) -> None:
        await self._upload(self._next_name(), 1)

    async def add_model_apart(self) -> str:
        """Publish a model that ``pick`` does not draw before ``bring_in``, and return its name."""
        name = self._next_name()
        self.offered.add((name, 1, 1))
        await asyncio.to_thread(_write, self._directory(name, 1), name, 1, 1, pause_s=UPLOAD_PAUSE_S)
        return name

    def bring_in(self, name: str) -> None:
        self.now[name] = {1: 1}

    async def add_version(self, name: str) -> None:
        known = (number for known, number, _ in self.offered if known == name)
        await self._upload(name, max(known) + 1)

    async def change(self, name: str) -> None:
        """Put other files in the place of a version's, one after the other."""
        number = self._draw.choice([*self.now[name]])
        await self._upload(name, number, self.now[name][number] + 1)

    async def delete_version(self, name: str) -> None:
        """Delete any version of a model that has more than one."""
        number = self._draw.choice([*self.now[name]])
        del self.now[name][number]
        self.deleted_at[name, number] = self.touched_at[name] = time.monotonic()
        await asyncio.to_thread(_delete, self._directory(name, number))

    async def delete_model(self, name: str) -> None:
        self.gone.add(name)
        self.touched_at[name] = time.monotonic()
        numbers = self.now.pop(name)
        self.deleted_at |= {(name, number): time.monotonic() for number in numbers}
        for number in numbers:
            await asyncio.to_thread(_delete, self._directory(name, number))
        shutil.rmtree(self.root / name)

    def go_away(self) -> None:
        self.root.rename(self._away)

    def come_back(self) -> None:
        self._away.rename(self.root)

    def add_idle(self, count: int) -> None:
        """Publish so many models that nobody asks."""
        for number in range(count):
            _write(self.root / f"idle-{number}" / "1", "idle", 1, 1, parts=1)

    def remove_idle(self) -> None:
        for directory in self.root.glob("idle-*"):
            shutil.rmtree(directory)

    async def _upload(self, name: str, number: int, revision: int = 1) -> None:
        self._tell(name, number, revision)
        await asyncio.to_thread(
            _write, self._directory(name, number), name, number, revision, pause_s=UPLOAD_PAUSE_S
        )
        self.touched_at[name] = time.monotonic()

    def _next_name(self) -> str:
        self._made += 1
        return f"city-{self._made:05}"

    def _tell(self, name: str, number: int, revision: int) -> None:
        self.offered.add((name, number, revision))
        self.now.setdefault(name, {})[number] = revision
        self.touched_at[name] = time.monotonic()

    def _directory(self, name: str, number: int) -> Path:
        return self.root / name / str(number)


def _write(
    directory: Path,
    name: str,
    number: int | None,
    revision: int,
    *,
    parts: int = PARTS,
    load_s: float = 0.0,
    predict_s: float = PREDICT_S,
    pause_s: float = 0.0,
) -> None:
    """Write a version's files, each in one step: the directory says when all of them are there, to whoever waits for that."""
    directory.mkdir(parents=True, exist_ok=True)
    content = {
        "name": name, "version": number, "revision": revision, "load_s": load_s, "predict_s": predict_s,
    }  # fmt: skip
    staged = directory.parents[2] / "staged"  # beside the store, so that no listing has it
    for part in range(parts):
        staged.write_text(json.dumps(content))
        staged.replace(directory / f"part-{part}.json")
        time.sleep(pause_s)


def _delete(directory: Path) -> None:
    for file in sorted(directory.iterdir()):
        file.unlink()
        time.sleep(UPLOAD_PAUSE_S)
    directory.rmdir()
