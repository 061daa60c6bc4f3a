"""The model directory of the soak: changes it, and remembers all that it ever offered. ``soak.py`` owns it.

Every version is one small file that tells name, version and revision, so that each answer shows where it comes from.
What is about to change is written down before it changes: a server may see it at once.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from random import Random
from typing import Final

PREDICTOR: Final = '''"""Answers what the version's file tells of itself, and holds a MiB, so that a leak would show."""
import json
import pathlib


class Predictor:
    def load_model(self, disk_path):
        told = json.loads((pathlib.Path(disk_path) / "model.json").read_text())
        if told["version"] is None:
            raise ValueError("broken")
        return told, bytearray(1 << 20)

    def predict(self, model):
        return model[0]
'''

Version = tuple[str, int]
"""Name and number."""


class Models:
    """Owned by one task that calls one verb at a time; anybody reads. Names and numbers are never used twice."""

    def __init__(self, root: Path, draw: Random, *, count: int, broken: int = 0) -> None:
        """``broken`` more cannot be loaded, ever."""
        self.root = root
        self.offered: set[tuple[str, int, int]] = set()
        self.deleted_at: dict[Version, float] = {}
        self.gone: set[str] = set()
        self.touched_at: dict[str, float] = {}
        self.now: dict[str, dict[int, int]] = {}
        """By name: the number and the revision of each version that is there."""

        self._away = root.with_name("away")
        self._staged = root.with_name("staged")
        self._draw = draw
        self._made = 0
        root.mkdir(parents=True)
        self.broken = [f"broken-{number}" for number in range(broken)]
        for name in self.broken:
            (root / name).mkdir()
            self._write(root / name / "1", name, None, 1)
        for _ in range(count):
            self.add_model()

    def pick(self, *, least_versions: int = 1) -> str | None:
        """Draw a name, the first ones much more often, among those with so many versions."""
        names = [name for name, versions in self.now.items() if len(versions) >= least_versions]
        return names[int(len(names) * self._draw.random() ** 2.5)] if names else None

    def add_model(self) -> None:
        self._made += 1
        self._publish(f"city-{self._made:05}", 1)

    def add_version(self, name: str) -> None:
        known = (number for known, number, _ in self.offered if known == name)
        self._publish(name, max(known) + 1)

    def change(self, name: str) -> None:
        """Put another file in the place of a version's only one."""
        number = self._draw.choice([*self.now[name]])
        revision = self.now[name][number] + 1
        self._tell(name, number, revision)
        self._write(self._staged, name, number, revision)
        (self._staged / "model.json").replace(self._directory(name, number) / "model.json")

    def delete_version(self, name: str) -> None:
        """Delete any version of a model that has more than one."""
        number = self._draw.choice([*self.now[name]])
        del self.now[name][number]
        self.deleted_at[name, number] = self.touched_at[name] = time.monotonic()
        shutil.rmtree(self._directory(name, number))

    def delete_model(self, name: str) -> None:
        self.gone.add(name)
        self.touched_at[name] = time.monotonic()
        self.deleted_at |= {(name, number): time.monotonic() for number in self.now.pop(name)}
        shutil.rmtree(self.root / name)

    def go_away(self) -> None:
        self.root.rename(self._away)

    def come_back(self) -> None:
        self._away.rename(self.root)

    def _publish(self, name: str, number: int) -> None:
        self._tell(name, number, 1)
        self._write(self._staged, name, number, 1)
        (self.root / name).mkdir(exist_ok=True)
        self._staged.rename(self._directory(name, number))

    def _tell(self, name: str, number: int, revision: int) -> None:
        self.offered.add((name, number, revision))
        self.now.setdefault(name, {})[number] = revision
        self.touched_at[name] = time.monotonic()

    def _directory(self, name: str, number: int) -> Path:
        return self.root / name / str(number)

    @staticmethod
    def _write(directory: Path, name: str, number: int | None, revision: int) -> None:
        directory.mkdir(exist_ok=True)
        content = {"name": name, "version": number, "revision": revision}
        (directory / "model.json").write_text(json.dumps(content))
