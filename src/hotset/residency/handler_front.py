"""The residency of a server that has a handler, as the data plane sees it: ``front``, and requests to the handler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hotset.keys import ModelRef
from hotset.residency.front import Front
from hotset.residency.handlers import Handlers
from hotset.residency.lease import ModelLease
from hotset.residency.manager import Manager
from hotset.residency.store_pages import StorePages
from hotset.residency.view import View
from hotset.status import Demand, Readiness


class HandlerFront(Front):
    """Owned by the event loop. The ref of a request to the handler has no name, and its method in the version's place."""

    def __init__(
        self,
        manager: Manager,
        view: View,
        *,
        handlers: Handlers,
        readiness: Callable[[], Readiness],
        pages: StorePages | None = None,
    ) -> None:
        super().__init__(manager, view, readiness=readiness, pages=pages)
        self._handlers: Final = handlers
        self.lease_now = self._lease_now
        self.lease_soon = self._lease_soon

    def _lease_now(self, ref: ModelRef) -> Any:
        if not ref.name:
            return self._handlers.request(str(ref.version))
        return None if self._handlers.seniority.is_short else self._manager.lease_now(ref)

    def _lease_soon(self, ref: ModelRef, *, deadline_s: float) -> Any:
        if self._handlers.seniority.is_short:
            return None
        return self._manager.lease_soon(ref, deadline_s=deadline_s)

    def demand(self, _ref: ModelRef) -> Demand:
        """All requests are for one handler, and what that asks for is its own affair: the queue alone is bounded."""
        return Demand(0)

    async def lease(self, ref: ModelRef, *, deadline_s: float) -> ModelLease:
        await self._handlers.seniority.let_pass(limit_s=deadline_s - self._handlers.clock.monotonic())
        return await super().lease(ref, deadline_s=deadline_s)
