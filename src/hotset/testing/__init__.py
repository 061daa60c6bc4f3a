"""Fakes that hotset ships, for its own tests and for those of embedders: a clock, a store and a worker under control.

No fake sleeps or reads the system's clock. What it should wait for is a gate that the test opens; what it should
fail with is an error that the test puts there.
"""

from __future__ import annotations

from hotset.testing.clock import ManualClock
from hotset.testing.devices import FakeDriver, FakeMeter
from hotset.testing.gate import Gate
from hotset.testing.store import FakeStore, versions
from hotset.testing.worker import FakeWorker, WorkerScript

__all__ = [
    "FakeDriver",
    "FakeMeter",
    "FakeStore",
    "FakeWorker",
    "Gate",
    "ManualClock",
    "WorkerScript",
    "versions",
]
