"""hotset's own routes: predict, see what there is and where it lives, load, unload and pin, health and metrics.

A thin edge: each handler calls one verb of the data plane or the residency and writes down what it gave.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeAlias

from hotset.api.auth import Access
from hotset.api.dataplane import DataPlane
from hotset.api.predictions import Door
from hotset.api.reply import Reply, json_reply
from hotset.api.routes import MAX_PAGE, PAGING, Exchange, Handler, Operation, Route, RouteTable, ready_reply
from hotset.api.visible import visible_models
from hotset.errors import ErrorKind, NotFoundError
from hotset.keys import LATEST, ModelRef
from hotset.status import ModelStatus

DOOR: Final = Door(protocol="hotset", codec="native", prefix=b"/models/", suffix=b"/predict")

DEFAULT_PAGE: Final = 100

_DOCS: Final = Path(__file__).with_name("docs.html")
_DOCS_HEADERS: Final = (
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'",
    ),
)

MetricsPage: TypeAlias = Callable[[], tuple[bytes, str]]
"""Gives the metrics page and its content type."""


class NativeRoutes:
    """Holds nothing of its own. Owned by the event loop."""

    def __init__(self, dataplane: DataPlane, *, metrics: MetricsPage, document: Callable[[], Any]) -> None:
        """``document`` gives the API document; it is asked for each time, as it lists these routes too."""
        self._dataplane = dataplane
        self._residency = dataplane.residency
        self._metrics = metrics
        self._document = document

    def table(self) -> RouteTable:
        """Return the routes. Verbs come before the model that they would otherwise be a part of."""
        return RouteTable("hotset", (*self._verbs(), *self._views(), *self._server()))

    def _verbs(self) -> tuple[Route, ...]:
        residency = self._residency
        predict = Operation(
            "POST",
            "Answer one request with a model, loading it if it is not in memory.",
            None,
            body="Payload",
            answer="Payload",
            streamed=True,
            fails=(403, 404, 413, 501, 503, 504, 507),
        )
        return (
            Route("/models/{model}/predict", (predict,), versioned=True),
            _verb("load", residency.load, "Load a version and answer when it is in memory."),
            _verb(
                "unload", residency.unload, "Unload a version, or all, and answer when the memory is free."
            ),
            _verb("pin", residency.pin, "Load a version and keep it in memory."),
            _verb("unpin", residency.unpin, "Let a pinned version be evicted again."),
        )

    def _views(self) -> tuple[Route, ...]:
        return (
            Route(
                "/models",
                (
                    Operation(
                        "GET",
                        "List models with what is in memory and on disk.",
                        self._list,
                        "ModelPage",
                        query=PAGING,
                    ),
                ),
            ),
            Route(
                "/models/{model}",
                (
                    Operation(
                        "GET",
                        "Show one model with every version, or one version of it.",
                        self._show,
                        "ModelStatus",
                        fails=(404, 503),
                    ),
                ),
                versioned=True,
            ),
        )

    def _server(self) -> tuple[Route, ...]:
        return (
            _get("/health/live", "Whether the process answers.", self._live, "Live", access=Access.OPEN),
            _get(
                "/health/ready",
                "Whether this replica should get requests.",
                self._ready,
                "Ready",
                fails=(503,),
                access=Access.OPEN,
            ),
            _get(
                "/status",
                "Show the catalog, tiers, workers and sync loop.",
                self._status,
                "Status",
                fails=(403,),
                access=Access.FIGURES,
            ),
            _get(
                "/metrics",
                "Metrics for Prometheus.",
                self._metrics_page,
                "",
                fails=(403,),
                access=Access.FIGURES,
            ),
            _get("/openapi.json", "This document.", self._openapi, "Object"),
            _get("/docs", "This document as a page to try it out.", self._docs, "", media="text/html"),
        )

    async def _list(self, exchange: Exchange) -> Reply:
        page = await visible_models(
            self._residency,
            exchange.grant,
            prefix=exchange.query.get("prefix", ""),
            limit=exchange.count("limit", default=DEFAULT_PAGE, most=MAX_PAGE),
            after=exchange.query.get("after", ""),
            deadline_s=exchange.deadline_s,
        )
        return json_reply(page)

    async def _show(self, exchange: Exchange) -> Reply:
        model = await self._residency.model(exchange.ref.name, deadline_s=exchange.deadline_s)
        return json_reply(model if exchange.ref.version == LATEST else _only(model, exchange.ref))

    async def _live(self, _exchange: Exchange) -> Reply:
        return json_reply({"live": True})

    async def _ready(self, _exchange: Exchange) -> Reply:
        return ready_reply(self._dataplane.readiness())

    async def _status(self, _exchange: Exchange) -> Reply:
        dataplane = self._dataplane
        requests = {
            "inside": dataplane.inside,
            "max_queue": dataplane.max_queue,
            "draining": dataplane.draining,
        }
        return json_reply({"server": self._residency.status(), "requests": requests})

    async def _metrics_page(self, _exchange: Exchange) -> Reply:
        page, content_type = self._metrics()
        return Reply(200, page, content_type.encode("latin-1"))

    async def _openapi(self, _exchange: Exchange) -> Reply:
        return json_reply(self._document())

    async def _docs(self, _exchange: Exchange) -> Reply:
        return Reply(200, _docs_page(), b"text/html; charset=utf-8", _DOCS_HEADERS)


@cache
def _docs_page() -> bytes:
    return _DOCS.read_bytes()


def _get(
    path: str,
    summary: str,
    handler: Handler,
    answer: str,
    *,
    fails: tuple[int, ...] = (),
    media: str = "text/plain",
    access: Access = Access.SEE,
) -> Route:
    return Route(path, (Operation("GET", summary, handler, answer, fails=fails, media=media, access=access),))


def _verb(name: str, call: Callable[..., Awaitable[ModelStatus]], summary: str) -> Route:
    async def handle(exchange: Exchange) -> Reply:
        return json_reply(await call(exchange.ref, deadline_s=exchange.deadline_s))

    operation = Operation(
        "POST", summary, handle, "ModelStatus", fails=(403, 404, 503, 507), access=Access.ADMIN
    )
    return Route(f"/models/{{model}}/{name}", (operation,), versioned=True)


def _only(model: ModelStatus, ref: ModelRef) -> ModelStatus:
    """Return the model with the one version that was asked for."""
    versions = model.asked(ref.version)
    if not versions:
        raise NotFoundError(
            f"no version {ref.version} of model {ref.name!r}; found: {[v.version for v in model.versions]}",
            kind=ErrorKind.VERSION_NOT_FOUND,
        )
    return replace(model, versions=versions)
