"""Unpickling with the cyclic garbage collector held back.

Unpickling allocates many objects that all survive, so the collector walks them again and again for nothing; a
forest of 500 trees loads about a fifth faster without it. Loads overlap in several threads, so the last one out
turns it on again, and only if it was on before the first came in.
"""

from __future__ import annotations

import gc
from threading import Lock
from types import TracebackType


class CollectorPause:
    """A context manager that may be entered by several threads and again by the same one. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0
        self._was_enabled = False

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._was_enabled = gc.isenabled()
                gc.disable()
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._was_enabled:
                gc.enable()


collector_pause = CollectorPause()
"""The one of this process: the collector is the process's too."""
