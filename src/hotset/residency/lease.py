"""What the manager hands out for a request: a lease on a loaded version, with the way it came and its ``predict``."""

from __future__ import annotations

from collections.abc import Awaitable

from hotset.keys import ModelKey
from hotset.payload import Encoded, Signature
from hotset.residency.arrival import MemoryEntry, Occupant
from hotset.shared.arena import Payload
from hotset.tiers.memory import Lease
from hotset.workers.base import PredictCall


class ModelLease:
    """The right to use a loaded version: any number of ``predict``, then ``release``, exactly once. Owned by one request."""

    __slots__ = ("_lease", "_occupant", "fetch_s", "load_s", "tier")

    def __init__(self, lease: Lease[Occupant], tier: str, fetch_s: float, load_s: float) -> None:
        self._lease = lease
        self._occupant = lease.value
        self.tier = tier
        self.fetch_s = fetch_s
        self.load_s = load_s

    @property
    def key(self) -> ModelKey:
        return self._lease.key

    @property
    def entry(self) -> MemoryEntry:
        """The place in memory that it is on."""
        return self._lease.entry

    @property
    def wants(self) -> frozenset[str]:
        return self._occupant.resident.reply.wants

    @property
    def signature(self) -> Signature:
        return self._occupant.resident.reply.signature

    def predict(
        self,
        *,
        codec: str,
        body: Payload,
        content_type: str,
        query_string: str,
        headers: tuple[tuple[str, str], ...],
        deadline_s: float,
    ) -> Awaitable[Encoded]:
        call = PredictCall(0, codec, body, content_type, query_string, headers, deadline_s)
        return self._occupant.resident.predict(call)

    def release(self) -> None:
        self._lease.release()
