"""``grpc.health.v1``: whether this replica should get requests, for load balancers and probes. It names no models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from hotset.api.grpc.statuses import refuse
from hotset.errors import InvalidInputError, NotFoundError
from hotset.messages.fields import MalformedError
from hotset.messages.inference import SERVICE
from hotset.messages.platform import HEALTH_SERVICE
from hotset.messages.pool import decoded, message_class
from hotset.status import Readiness

LOOK_S: Final = 0.5
"""Who watches hears of a change within this time."""

_SERVICES: Final = frozenset({"", SERVICE, HEALTH_SERVICE})
_SERVING: Final = 1
_NOT_SERVING: Final = 2
_UNKNOWN: Final = 3

_Request: Final = message_class("HealthCheckRequest", package="grpc.health.v1")
_Response: Final = message_class("HealthCheckResponse", package="grpc.health.v1")


class Health:
    """Owned by the event loop. ``stop`` is set when the server stops."""

    def __init__(self, readiness: Callable[[], Readiness], *, stop: asyncio.Event) -> None:
        self._readiness: Final = readiness
        self._stop: Final = stop

    async def check(self, body: bytes, context: Any) -> bytes:
        """Answer whether the service that is named should get requests."""
        try:
            service = decoded(_Request, body).service
        except MalformedError as error:
            return refuse(context, InvalidInputError(str(error)))
        status = self._status(service)
        if status == _UNKNOWN:
            return refuse(context, NotFoundError(f"no such service: {service[:80]!r}"))
        return _encoded(status)

    async def watch(self, body: bytes, context: Any) -> None:
        """Answer at once, and again with every change, until the server stops."""
        try:
            service = decoded(_Request, body).service
        except MalformedError as error:
            refuse(context, InvalidInputError(str(error)))
            return
        told: int | None = None
        while not self._stop.is_set():
            status = self._status(service)
            if status != told:
                told = status
                await context.write(_encoded(status))
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._stop.wait()
        await context.write(_encoded(_NOT_SERVING))

    def _status(self, service: str) -> int:
        if service not in _SERVICES:
            return _UNKNOWN
        return _SERVING if self._readiness().ready else _NOT_SERVING


def _encoded(status: int) -> bytes:
    encoded: bytes = _Response(status=status).SerializeToString()
    return encoded
