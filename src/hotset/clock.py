"""Time as a parameter. The core never calls ``time`` itself, so that its tests need no sleep."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: decisions use ``monotonic``; ``wall`` is for display and for the ages of objects in a store."""

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        ...

    def wall(self) -> float:
        """Return seconds since the epoch."""
        ...


class SystemClock:
    """The operating system's clocks. Thread-safe."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()
