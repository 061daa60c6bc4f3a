"""Waiting for what no event tells of: until a condition holds, with a limit."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import Final

LIMIT_S: Final = 20.0
_SOON: Final = 20
"""So many turns of the loop are let pass before anything is slept for: most conditions hold by then."""


async def until(condition: Callable[[], object], *, limit_s: float = LIMIT_S) -> None:
    """Let others run until the condition holds; fail after the limit."""
    stop_s = time.monotonic() + limit_s
    for turn in itertools.count():
        if condition():
            return
        assert time.monotonic() < stop_s, f"not in {limit_s} s: {condition}"
        await asyncio.sleep(0 if turn < _SOON else 0.002)
