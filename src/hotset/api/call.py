"""One request as the data plane has it: whatever its door, the same for every attempt.

Made by the data plane, and sent to a lease there and by predictions that were started. It decides nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass

from hotset.api.ports import Headers, HeaderSource, Lease
from hotset.errors import HotsetError
from hotset.keys import ModelKey, ModelRef
from hotset.payload import Encoded
from hotset.shared.arena import Payload


@dataclass(slots=True)
class Call:
    """One request, as it is sent to a lease, once or twice."""

    ref: ModelRef
    codec: str
    body: Payload
    content_type: str
    query_string: str
    headers: HeaderSource
    codec_headers: Headers
    deadline_s: float

    def sent_to(self, lease: Lease) -> Awaitable[Encoded]:
        wants = lease.wants
        return lease.predict(
            codec=self.codec,
            body=self.body,
            content_type=self.content_type,
            query_string=self.query_string if "query_params" in wants else "",
            headers=self.headers() if "headers" in wants else self.codec_headers,
            deadline_s=self.deadline_s,
        )


def no_headers() -> Headers:
    """For doors whose protocol has none."""
    return ()


def resolved(error: HotsetError) -> ModelKey | None:
    """Return the version that a failure is of; None if its ref was not resolved."""
    return None if error.key is None else ModelKey(*error.key)
