"""Which versions are light: to load or unload one costs less than to hand it to another thread. Used by the host.

A model of a few kilobytes is loaded in a tenth of a millisecond. Where many come and go, waking up a thread for each load
and each unload, and taking turns with it for the interpreter, costs as much again and more. It learns from loads in a
thread of their own, and forgets what fails or becomes slow. Not for models with code of their own, whose load or unload may
take any time, whatever the last one took.

Of those whose runtime can do it, the recipe is kept: what the next load builds the model from without reading its files, which
would be half of the work.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Final

from hotset.runtimes.base import Recipe
from hotset.workers.base import LoadSpec
from hotset.workers.held import SMALL_WEIGHT
from hotset.workers.intact import Files
from hotset.workers.kit import Choice

LIGHT_LOAD_S: Final = 0.0005
"""Of processor time. Predictions may have to wait for as long."""

STILL_LIGHT_S: Final = 0.002
"""What was light may take so much once: caches were cold."""

LIGHT_WAIT_S: Final = 0.01
"""From its beginning to its end: a pickle may run code that sleeps or asks a network. On a busy machine a load waits too."""


MOST_RECIPE_BYTES: Final = 4 << 20
"""In each process, for all of them."""


class Stopwatch:
    """A context manager around a load alone: what weighs it is not done again the next time. Owned by one thread."""

    __slots__ = ("_began_at_s", "_began_s", "lasted_s", "took_s")

    def __init__(self) -> None:
        self.took_s = 0.0
        """Processor time."""
        self.lasted_s = 0.0

    def __enter__(self) -> None:
        self._began_s, self._began_at_s = time.thread_time(), time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.took_s = time.thread_time() - self._began_s
        self.lasted_s = time.monotonic() - self._began_at_s


@dataclass(frozen=True, slots=True)
class Known:
    """How a light version was loaded the last time."""

    files: Files
    path: Path
    choice: Choice


class Recipes:
    """The recipes of what was loaded last, by the files' directory, up to a number of bytes. Thread-safe."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._lock = Lock()
        self._kept: dict[str, Recipe] = {}
        self._bytes = 0

    def get(self, path: str) -> Recipe | None:
        return self._kept.get(path)

    def keep(self, path: str, recipe: Recipe) -> None:
        """Those that were kept for longest go for it."""
        with self._lock:
            self._take_out(path)
            self._kept[path] = recipe
            self._bytes += recipe.bytes
            while self._bytes > self._most_bytes:
                self._take_out(next(iter(self._kept)))

    def drop(self, path: str) -> None:
        """An unknown path is fine."""
        with self._lock:
            self._take_out(path)

    def _take_out(self, path: str) -> None:
        recipe = self._kept.pop(path, None)
        if recipe is not None:
            self._bytes -= recipe.bytes


class LightVersions:
    """Thread-safe. Keyed by the files' directory."""

    MOST: Final = 4096

    def __init__(self) -> None:
        self._known: dict[str, Known] = {}
        self._recipes = Recipes(MOST_RECIPE_BYTES)

    def get(self, spec: LoadSpec) -> Known | None:
        """Return how it was loaded, if the version is light and was published with the very same files."""
        if spec.weight is None or spec.weight >= SMALL_WEIGHT:
            return None
        known = self._known.get(spec.path)
        return known if known is not None and known.files == spec.files else None

    def recipe(self, spec: LoadSpec) -> Recipe | None:
        """Return what loads a version that ``get`` knows without its files, if that is kept."""
        return self._recipes.get(spec.path)

    def note(
        self,
        spec: LoadSpec,
        path: Path,
        choice: Choice,
        *,
        took_s: float,
        lasted_s: float,
        recipe: Recipe | None = None,
    ) -> bool:
        """Take in a load that went well, of a plain model; whether it is light. ``took_s`` is processor time.

        ``recipe`` is kept if it is.
        """
        is_known = self.get(spec) is not None
        if (
            took_s > (STILL_LIGHT_S if is_known else LIGHT_LOAD_S)
            or lasted_s > LIGHT_WAIT_S
            or spec.files is None
        ):
            self.forget(spec)
            return False
        if not is_known:
            if len(self._known) >= self.MOST:
                self._known.clear()
            self._known[spec.path] = Known(spec.files, path, choice)
            self._recipes.drop(spec.path)  # the files may be others
        if recipe is not None:
            self._recipes.keep(spec.path, recipe)
        return True

    def forget(self, spec: LoadSpec) -> None:
        """Have it loaded in a thread of its own the next time."""
        self._known.pop(spec.path, None)
        self._recipes.drop(spec.path)
