"""Which versions are light: to load or unload one costs less than to hand it to another thread. Used by the host.

A model of a few kilobytes is loaded in a tenth of a millisecond. Where many come and go, waking up a thread for each load
and each unload, and taking turns with it for the interpreter, costs as much again and more. It learns from loads in a
thread of their own, and forgets what fails or becomes slow. Not for models with code of their own, whose load or unload may
take any time, whatever the last one took.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

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


@dataclass(frozen=True, slots=True)
class Known:
    """How a light version was loaded the last time."""

    files: Files
    path: Path
    choice: Choice


class LightVersions:
    """Thread-safe. Keyed by the files' directory."""

    MOST: Final = 4096

    def __init__(self) -> None:
        self._known: dict[str, Known] = {}

    def get(self, spec: LoadSpec) -> Known | None:
        """Return how it was loaded, if the version is light and was published with the very same files."""
        if spec.weight is None or spec.weight >= SMALL_WEIGHT:
            return None
        known = self._known.get(spec.path)
        return known if known is not None and known.files == spec.files else None

    def note(self, spec: LoadSpec, path: Path, choice: Choice, *, took_s: float, lasted_s: float) -> bool:
        """Take in a load that went well, of a plain model; whether it is light. ``took_s`` is processor time."""
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
        return True

    def forget(self, spec: LoadSpec) -> None:
        """Have it loaded in a thread of its own the next time."""
        self._known.pop(spec.path, None)
