"""Ordinary routes as a table: what there is, what it takes, who answers. Dispatch, OpenAPI and tests all read it.

A protocol's file lists ``Route`` records; ``Endpoint`` runs one of them: it checks the method and who asks, reads
the address, the query and the body, calls the handler and turns whatever it raises into the error body. Handlers
see an ``Exchange`` and give a ``Reply``; they never see ASGI.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import parse_qsl

from hotset.api.address import check_length, model_ref, raw_path
from hotset.api.auth import Access, Gate, check_model
from hotset.api.body import BodyReader, ClientGoneError
from hotset.api.dataplane import DataPlane
from hotset.api.errors import HttpError, HttpKind, WrongMethod, cut_off_reply, error_reply, wrong_method
from hotset.api.headers import read_headers
from hotset.api.predictions import Explain, StatusOf, own_status, own_words, told
from hotset.api.reply import Receive, Reply, Scope, Send, json_reply, send_reply
from hotset.errors import HotsetError, InvalidInputError, UnsupportedError
from hotset.keys import MAX_NAME_BYTES, ModelRef
from hotset.status import Readiness
from hotset.tokens import EVERYTHING, Grant

MODEL: Final = "{model}"
ACTION: Final = "{action}"
"""The rest of a path below which there is nothing."""

MAX_PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request: the model it names (``ModelRef("")`` where the route has none), its query, body and deadline.

    ``grant`` is what whoever asks may see; a model that the route names was looked at already.
    """

    ref: ModelRef
    query: Mapping[str, str]
    body: bytes
    deadline_s: float
    grant: Grant = EVERYTHING

    def flag(self, name: str) -> bool:
        """Return a yes-or-no query parameter; absent means no.

        Raises:
            InvalidInputError: it is neither.
        """
        value = self.query.get(name, "false").lower()
        if value not in {"true", "1", "false", "0"}:
            raise InvalidInputError(
                f"expected true or false for the query parameter {name!r}, found: {value[:40]!r}"
            )
        return value in {"true", "1"}

    def count(self, name: str, *, default: int, most: int) -> int:
        """Return a whole number from 1 to ``most``.

        Raises:
            InvalidInputError: it is not one.
        """
        value = self.query.get(name)
        if value is None:
            return default
        if value.isascii() and value.isdigit() and len(value) < 10 and 1 <= int(value) <= most:
            return int(value)
        raise InvalidInputError(
            f"expected a number from 1 to {most} for the query parameter {name!r}, found: {value[:40]!r}"
        )


Handler: TypeAlias = Callable[[Exchange], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter, as the API document shows it. ``type`` is a JSON Schema type."""

    name: str
    type: str
    help: str


PAGING: Final = (
    Parameter("prefix", "string", "Only models whose names start with this."),
    Parameter("limit", "integer", f"At most so many models, 1 to {MAX_PAGE}."),
    Parameter("after", "string", "Only models whose names sort behind this one."),
)
"""The parameters of every route that lists models."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of a route. Without a handler it is answered by the prediction routes in front of all others.

    ``body`` and ``answer`` name schemas of the API document; an empty ``answer`` is not JSON but of the type ``media``.
    ``binary`` ones have another form for both, that of bytes, and the answer of ``streamed`` ones may come in parts.
    ``fails`` are the statuses that it can answer beside those of every route.
    """

    method: str
    summary: str
    handler: Handler | None
    answer: str = ""
    body: str = ""
    query: tuple[Parameter, ...] = ()
    fails: tuple[int, ...] = ()
    status: int = 200
    access: Access = Access.SEE
    media: str = "text/plain"
    binary: bool = False
    streamed: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """One path. ``versioned`` ones exist a second time with ``/versions/{version}`` behind the model.

    ``labelled`` ones exist once more, with ``/labels/{label}``.
    """

    path: str
    operations: tuple[Operation, ...]
    versioned: bool = False
    labelled: bool = False

    @property
    def paths(self) -> tuple[str, ...]:
        """Every path that it answers, as the API document writes them."""
        places = ["", *["/versions/{version}"] * self.versioned, *["/labels/{label}"] * self.labelled]
        return tuple(self.path.replace(MODEL, f"{MODEL}{place}") for place in places)


@dataclass(frozen=True, slots=True)
class RouteTable:
    """All ordinary routes of one protocol, in the order in which they are tried."""

    protocol: str
    routes: tuple[Route, ...]
    explain: Explain = own_words
    status: StatusOf = own_status
    wrong_method: WrongMethod = wrong_method


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every endpoint needs and none owns."""

    dataplane: DataPlane
    bodies: BodyReader
    gate: Gate
    most_name: int = MAX_NAME_BYTES


class Endpoint:
    """One route as an ASGI callable. It expects ``scope["path"]`` still percent-encoded."""

    def __init__(self, route: Route, table: RouteTable, *, around: Surroundings) -> None:
        prefix, found, suffix = route.path.partition(MODEL)
        self._names_model = bool(found)
        self._prefix = prefix.encode()
        self._suffix = suffix.encode()
        self._versioned = route.versioned
        self._labelled = route.labelled
        self._operations = {operation.method: operation for operation in route.operations}
        self._table = table
        self._around = around

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ref: ModelRef | None = None
        try:
            operation, handler = self._choose(scope)
            grant = self._around.gate.admit(scope, operation.access)
            ref = self._ref(scope)
            if ref is not None:
                check_length(ref.name, self._around.most_name)
                check_model(grant, ref.name)
            reply = await handler(await self._exchange(ref or ModelRef(""), grant, scope, receive))
        except ClientGoneError:
            return
        except asyncio.CancelledError:
            if not self._around.dataplane.draining:
                raise
            reply = cut_off_reply()
        except HotsetError as error:
            reply = told(error, ref, explain=self._table.explain, status=self._table.status)
        except Exception as error:  # noqa: BLE001 - the last border: it is logged and answered
            reply = error_reply(error)
        await send_reply(reply, send)

    def _choose(self, scope: Scope) -> tuple[Operation, Handler]:
        method = scope["method"]
        operation = self._operations.get("GET" if method == "HEAD" else method)
        if operation is None or operation.handler is None:
            raise self._table.wrong_method(method, scope["path"], ", ".join(self._operations))
        return operation, operation.handler

    def _ref(self, scope: Scope) -> ModelRef | None:
        if not self._names_model:
            return None
        return model_ref(
            raw_path(scope),
            prefix=self._prefix,
            suffix=self._suffix,
            versioned=self._versioned,
            labelled=self._labelled,
        )

    async def _exchange(self, ref: ModelRef, grant: Grant, scope: Scope, receive: Receive) -> Exchange:
        headers = read_headers(scope["headers"])
        if headers.is_compressed:
            raise UnsupportedError("expected a body that is not compressed; only predictions may be")
        body = b""
        if scope["method"] == "POST":
            body = await self._around.bodies.read(receive, declared=headers.length)
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        deadline_s = self._around.dataplane.deadline(headers.timeout_s)
        return Exchange(ref, query, body, deadline_s, grant)


def no_such_route(method: str, path: str) -> Reply:
    """Return the answer for a path that no route has."""
    return error_reply(
        HttpError(
            f"no such route: {method} {path[:200]}; GET /openapi.json lists those there are",
            kind=HttpKind.ROUTE_NOT_FOUND,
        )
    )


def ready_reply(readiness: Readiness) -> Reply:
    """Return the health answer that load balancers and the clients of every protocol understand."""
    if readiness.ready:
        return json_reply({"ready": True})
    return json_reply({"ready": False, "reason": readiness.reason}, status=503)
