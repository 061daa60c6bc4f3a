"""Whether a client takes its answers: one that takes a byte now and then would have them kept in memory for ever.

A connection asks at each sweep. Pure: it is told what is unsent and what time it is.
"""

from __future__ import annotations

from typing import Final

LEAST_TAKEN_BYTES: Final = 64 << 10
"""A client has to take so much of its answers, or all, in each stretch of time that it is given."""


class Uptake:
    """Owned by its connection. ``is_stuck`` any number of times, in order of time."""

    __slots__ = ("_limit_s", "_since_s", "_taken_bytes", "_unsent_bytes")

    def __init__(self, now_s: float, *, limit_s: float) -> None:
        """``limit_s`` is the stretch of time in which so much has to be taken."""
        self._limit_s = limit_s
        self._since_s = now_s
        self._taken_bytes = 0
        self._unsent_bytes = 0

    def is_stuck(self, unsent_bytes: int, now_s: float) -> bool:
        """Whether hardly anything was taken for too long, with so much unsent now."""
        before, self._unsent_bytes = self._unsent_bytes, unsent_bytes
        self._taken_bytes += max(0, before - unsent_bytes)
        if not before or not unsent_bytes or self._taken_bytes >= LEAST_TAKEN_BYTES:
            self._taken_bytes, self._since_s = 0, now_s
        return now_s - self._since_s > self._limit_s
