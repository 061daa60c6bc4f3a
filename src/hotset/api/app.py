"""The ASGI application: the prediction routes in front, Starlette behind them with all others.

A replica has one, which ``server.py`` gives to uvicorn. It holds no state of its own; there is no middleware, because
every layer would be paid for by every prediction.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from hotset.api import cortex_routes, native_routes, oip_routes, openapi, sagemaker_routes, tfserving_routes
from hotset.api.address import raw_path
from hotset.api.auth import OPEN_GATE, Access, ApartGate, Gate
from hotset.api.body import BodyReader
from hotset.api.cortex_routes import CortexRoutes, Offered
from hotset.api.dataplane import DataPlane
from hotset.api.errors import error_reply
from hotset.api.native_routes import MetricsPage, NativeRoutes
from hotset.api.oip_routes import OipRoutes
from hotset.api.pile import Pile
from hotset.api.predictions import Predictions
from hotset.api.reply import Receive, Scope, Send, send_reply
from hotset.api.routes import ACTION, MODEL, Endpoint, RouteTable, Surroundings, no_such_route
from hotset.api.sagemaker_routes import INVOCATIONS, Given, SageMakerRoutes
from hotset.api.tfserving_routes import TfServingRoutes
from hotset.errors import HotsetError
from hotset.keys import MAX_NAME_BYTES
from hotset.shared.room import Room

DOORS: Final = (native_routes.DOOR, oip_routes.DOOR, *tfserving_routes.DOORS)


class App:
    """Owned by the event loop; an ASGI 3 callable. Stop it with the data plane's ``drain``."""

    def __init__(
        self,
        dataplane: DataPlane,
        *,
        metrics: MetricsPage,
        version: str,
        max_body_bytes: int,
        body_timeout_s: float,
        gate: Gate = OPEN_GATE,
        most_name: int = MAX_NAME_BYTES,
        has_admin_port: bool = False,
        max_batch: int = 64,
        room: Room | None = None,
        pile: Pile | None = None,
        given: Given | None = None,
        handler: Offered | None = None,
    ) -> None:
        """``given``: the models are those that SageMaker brings, and its routes take the place of our own for them.

        ``room`` is where large bodies go that children share, and ``pile`` counts those that lie in the server.
        ``handler``: requests to ``/`` go to a handler written for Cortex; the models that it can ask for.
        ``has_admin_port``: what is the admin's answers by ``admin`` alone, on a port of its own.
        """
        bodies = BodyReader(limit_bytes=max_body_bytes, limit_s=body_timeout_s, room=room, pile=pile)
        self.bodies: Final = bodies
        doors = DOORS if given is None else (*DOORS, sagemaker_routes.DOOR)
        if handler is not None:
            doors = (*doors, cortex_routes.DOORS["POST"])  # all other methods come by ``__call__``
        self.predictions: Final = Predictions(
            dataplane, bodies=bodies, doors=doors, gate=gate, most_name=most_name
        )
        self._platform = None if given is None else SageMakerRoutes(dataplane, given)
        self._has_handler = handler is not None
        native = NativeRoutes(dataplane, metrics=metrics, document=self.document).table()
        self.tables: Final[tuple[RouteTable, ...]] = (
            *((native,) if self._platform is None else (self._platform.table(), _for_predictions(native))),
            OipRoutes(dataplane, version=version, max_batch=max_batch).table(),
            *TfServingRoutes(dataplane).tables(),
            *(() if handler is None else (CortexRoutes(handler).table(),)),
        )
        self._version = version
        self.gate: Final = ApartGate(gate) if has_admin_port else gate
        self._others = _starlette(self.tables, Surroundings(dataplane, bodies, self.gate, most_name))
        self._admins = _starlette(self.tables, Surroundings(dataplane, bodies, gate, most_name))
        self.no_predictions: Final = Predictions(dataplane, bodies=bodies, doors=(), gate=gate)

    def document(self) -> openapi.Json:
        """Return the API document."""
        return openapi.document(self.tables, version=self._version)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._others(scope, receive, send)
            return
        path = raw_path(scope)
        door = self.predictions.door(path)
        if path == b"/" and self._has_handler:
            door = cortex_routes.DOORS.get(scope["method"])
        if door is not None:
            await self.predictions.serve(door, path, scope, receive, send)
            return
        if self._platform is not None and path == INVOCATIONS and scope["method"] == "POST":
            await self._invoke(self._platform, scope, receive, send)
            return
        await self._others(_as_sent(scope, path), receive, send)

    async def admin(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application of a port for the admin: every route but the predictions."""
        if scope["type"] == "http":
            scope = _as_sent(scope, raw_path(scope))
        await self._admins(scope, receive, send)

    async def _invoke(self, platform: SageMakerRoutes, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a prediction whose model stands in a header and not in the path."""
        try:
            self.gate.admit(scope, Access.PREDICT)  # before it is told how many models there are
            path = platform.invocation(scope["headers"])
        except HotsetError as error:
            await send_reply(error_reply(error), send)
            return
        await self.predictions.serve(sagemaker_routes.DOOR, path, scope, receive, send)


def _as_sent(scope: Scope, path: bytes) -> Scope:
    """Starlette matches on the path as it was sent, so that an escaped slash stays part of a name."""
    return {**scope, "path": path.decode("latin-1"), "raw_path": path, "root_path": ""}


def _for_predictions(native: RouteTable) -> RouteTable:
    """Return our own routes without those that list, load and unload models."""
    routes = tuple(
        route
        for route in native.routes
        if not route.path.startswith("/models") or all(it.handler is None for it in route.operations)
    )
    return replace(native, routes=routes)


def _starlette(tables: tuple[RouteTable, ...], around: Surroundings) -> Starlette:
    routes = [
        StarletteRoute(
            route.path.replace(MODEL, "{model:path}").replace(ACTION, "{action:path}"),
            Endpoint(route, table, around=around),
        )
        for table in tables
        for route in table.routes
        if any(operation.handler for operation in route.operations)
    ]
    return Starlette(routes=routes, exception_handlers={404: _not_found})


async def _not_found(request: Request, _error: Exception) -> Response:
    method, path = request.method, request.scope["path"]
    malformed = tfserving_routes.malformed(method, path)
    reply = no_such_route(method, path) if malformed is None else error_reply(malformed)
    return Response(reply.body, reply.status, media_type=reply.content_type.decode())
