"""The doors of a replica: the residency as requests see it, the data plane, and the application with all its routes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hotset import __version__
from hotset.api.app import App
from hotset.api.auth import OPEN_GATE, TokenGate
from hotset.api.dataplane import DataPlane
from hotset.api.pile import Pile
from hotset.assembly.finding import Finding
from hotset.assembly.ground import Ground
from hotset.assembly.residency import Residency
from hotset.metrics import Metrics, Statistics
from hotset.residency.front import Front
from hotset.residency.handler_front import HandlerFront
from hotset.residency.handlers import Handlers
from hotset.residency.manager import Manager
from hotset.residency.places import Places
from hotset.residency.view import View
from hotset.shared.room import Room
from hotset.status import Readiness

BODY_TIMEOUT_S: Final = 60.0


class Doors:
    """Owned by the event loop. ``app`` serves once the replica has started; the data plane's ``drain`` closes all."""

    def __init__(
        self,
        ground: Ground,
        residency: Residency,
        *,
        metrics: Metrics,
        tokens: TokenGate | None,
        readiness: Callable[[], Readiness],
    ) -> None:
        """``tokens`` None: everybody may ask. ``metrics`` are told what goes on whenever somebody reads them."""
        self._residency = residency
        manager, finding = residency.manager, residency.finding
        self.view: Final = View(
            manager,
            clock=ground.clock,
            version=__version__,
            store_url=ground.store.url,
            sync=finding.status,
            readiness=readiness,
            real_memory=residency.guard.status,
        )
        """What the server shows of itself."""
        self.handlers: Final = None if ground.settings.cortex is None else _handlers(ground, manager)
        front = _front(manager, self.view, handlers=self.handlers, finding=finding, readiness=readiness)
        self.dataplane: Final = _dataplane(ground, front, metrics)
        self.app: Final = _app(
            ground,
            self.dataplane,
            metrics=metrics,
            room=residency.workforce.room,
            tokens=tokens,
            finding=finding,
        )
        if self.handlers is not None:
            residency.workforce.on_want = self.handlers.wanted
        metrics.read_from(self._statistics)

    def _statistics(self) -> Statistics:
        return Statistics(
            server=self.view.server(),
            inside=self.dataplane.inside,
            loading=len(self._residency.manager.flights),
            refusals=self.dataplane.admission.refusals,
            held_back=self._residency.churn.held,
        )


def _handlers(ground: Ground, manager: Manager) -> Handlers:
    settings = ground.settings
    told = settings.predictor_config
    return Handlers(
        manager,
        Places(manager, clock=ground.clock, events=ground.events),
        clock=ground.clock,
        name=str(told.get("name", "handler")),
        only=told.get("only"),
        begins_again=settings.begin_again,
        threads=settings.threads_per_process,
    )


def _front(
    manager: Manager,
    view: View,
    *,
    handlers: Handlers | None,
    finding: Finding,
    readiness: Callable[[], Readiness],
) -> Front:
    pages = finding.pages()
    if handlers is None:
        return Front(manager, view, readiness=readiness, pages=pages)
    return HandlerFront(manager, view, handlers=handlers, readiness=readiness, pages=pages)


def _dataplane(ground: Ground, front: Front, metrics: Metrics) -> DataPlane:
    settings = ground.settings
    return DataPlane(
        front,
        clock=ground.clock,
        observe=metrics.request_observer,
        statistics=metrics.tallies,
        request_timeout_s=settings.request_timeout,
        max_queue=settings.max_queue,
        max_concurrency_per_model=settings.max_concurrency_per_model or None,
    )


def _app(
    ground: Ground,
    dataplane: DataPlane,
    *,
    metrics: Metrics,
    room: Room | None,
    tokens: TokenGate | None,
    finding: Finding,
) -> App:
    settings = ground.settings
    return App(
        dataplane,
        metrics=metrics.page,
        version=__version__,
        max_body_bytes=settings.max_body_size,
        body_timeout_s=BODY_TIMEOUT_S,
        max_batch=settings.max_batch_size,
        room=room,
        pile=None if settings.max_bodies_size is None else Pile(settings.max_bodies_size),
        gate=OPEN_GATE if tokens is None else tokens,
        has_admin_port=settings.admin_port > 0,
        most_name=settings.max_name_length,
        given=finding.given,
        handler=None if settings.cortex is None else finding.offered,
    )
