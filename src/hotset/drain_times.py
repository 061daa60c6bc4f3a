"""How ``drain_timeout`` is divided: so long for requests, so long for workers.

A pure decision, for the replica, for the server in front of it, and for the gRPC port.
"""

from __future__ import annotations

from typing import Final, NamedTuple

END_S: Final = 2.0
"""The server may need so long to end when all that was inside is answered or cut off."""
UNLOAD_LEAST_S: Final = 1.0
"""However short the limit is, workers in which nothing hangs have so long to unload."""


class TimeToEnd(NamedTuple):
    """Seconds from the signal: so long may requests go on, and so long may the workers live."""

    inside_s: float
    workers_s: float


def time_to_end(drain_timeout_s: float) -> TimeToEnd:
    """Divide ``drain_timeout``: most of it is for requests, the rest for unloading, and for whatever hangs to be ended."""
    rest_s = min(END_S, drain_timeout_s / 5)
    return TimeToEnd(max(0.0, drain_timeout_s - rest_s), max(UNLOAD_LEAST_S, drain_timeout_s - rest_s / 2))
