"""The Open Inference Protocol (KServe, Triton) over REST: metadata, readiness, statistics, the model repository.

A thin edge in the protocol's words. Clients match on parts of its error texts and on exact body shapes, so what
looks like a choice of wording here is the contract; the tests hold the texts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from hotset.api.auth import Access
from hotset.api.dataplane import DataPlane
from hotset.api.oip_documents import configuration, index_rows
from hotset.api.oip_statistics import OipStatistics
from hotset.api.predictions import Door
from hotset.api.reply import JSON, Reply, json_reply, to_json
from hotset.api.routes import (
    MAX_PAGE,
    PAGING,
    Exchange,
    Handler,
    Operation,
    Parameter,
    Route,
    RouteTable,
    ready_reply,
)
from hotset.api.visible import visible_models, visible_pages
from hotset.body_limits import check_depth
from hotset.errors import ErrorKind, HotsetError, InvalidInputError, UnsupportedError
from hotset.keys import ModelRef
from hotset.payload import ANY_NUMBER, TensorSpec
from hotset.status import ModelPage, ModelStatus

EXTENSIONS: Final = (
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "statistics",
)

_OVERRIDES: Final = ("config", "file:")

_RESIDENT: Final = Parameter(
    "resident", "boolean", "Ask whether it is in memory, not whether it can be served."
)


def explain(error: HotsetError, ref: ModelRef) -> str | None:
    """Say it in the words that the protocol's clients look for."""
    if error.kind is ErrorKind.MODEL_NOT_FOUND:
        return f"Request for unknown model: '{ref.name}' is not found"
    if error.kind is ErrorKind.VERSION_NOT_FOUND:
        said = f"Request for unknown model: '{ref.name}' version {ref.version} is not found"
        # Of a label the rest is worth telling: what the store's file says, and which versions there are.
        return str(error) if isinstance(ref.version, str) and str(error).startswith(said) else said
    if error.kind is ErrorKind.LOAD_FAILED:
        return f"failed to load '{ref.name}', {error}"
    return None


DOOR: Final = Door(protocol="oip", codec="oip", prefix=b"/v2/models/", suffix=b"/infer", explain=explain)


class OipRoutes:
    """Holds nothing of its own. Owned by the event loop."""

    def __init__(self, dataplane: DataPlane, *, version: str, max_batch: int) -> None:
        """``max_batch`` is how many rows are predicted at once at most, where a model says nothing else."""
        self._dataplane = dataplane
        self._residency = dataplane.residency
        self._version = version
        self._max_batch = max_batch
        self._statistics = OipStatistics(dataplane)

    def table(self) -> RouteTable:
        """Return the routes. Verbs come before the model that they would otherwise be a part of."""
        return RouteTable("oip", (*self._server(), *_absent(), *self._repository(), *self._models()), explain)

    def _server(self) -> tuple[Route, ...]:
        return (
            _get("/v2", "Name, version and extensions of the server.", self._metadata, "OipServer"),
            _get("/v2/", "Name, version and extensions of the server.", self._metadata, "OipServer"),
            _get("/v2/health/live", "Whether the process answers.", self._live, "Live", access=Access.OPEN),
            _get(
                "/v2/health/ready",
                "Whether this replica should get requests.",
                self._ready,
                "Ready",
                (503,),
                access=Access.OPEN,
            ),
        )

    def _repository(self) -> tuple[Route, ...]:
        index = Operation(
            "POST",
            "List versions with their state in memory; a Link header leads to the next page.",
            self._index,
            "OipIndex",
            body="OipIndexRequest",
            query=PAGING,
        )
        return (
            Route("/v2/repository/index", (index,)),
            _verb("load", self._residency.load, "Load a model's latest version."),
            _verb("unload", self._residency.unload, "Unload every version of a model."),
        )

    def _models(self) -> tuple[Route, ...]:
        infer = Operation(
            "POST",
            "Answer one request with a model, loading it if it is not in memory.",
            None,
            body="OipInferRequest",
            answer="OipInferResponse",
            binary=True,
            fails=(403, 404, 413, 501, 503, 504, 507),
        )
        return (
            _get(
                "/v2/models/stats", "Statistics of all models that were asked.", self._all_stats, "OipStats"
            ),
            Route("/v2/models/{model}/infer", (infer,), versioned=True),
            Route("/v2/models/{model}/ready", (self._ready_operation(),), versioned=True),
            _get(
                "/v2/models/{model}/config",
                "Configuration of a model, as far as its signature tells it.",
                self._config,
                "OipConfig",
                (404, 503, 504, 507),
                versioned=True,
            ),
            _get(
                "/v2/models/{model}/stats",
                "Statistics of a model's versions, or of one.",
                self._stats,
                "OipStats",
                (404, 503),
                versioned=True,
            ),
            _get(
                "/v2/models/{model}",
                "Versions, inputs and outputs of a model.",
                self._model,
                "OipModel",
                (404, 503, 504, 507),
                versioned=True,
            ),
        )

    def _ready_operation(self) -> Operation:
        return Operation(
            "GET",
            "Whether a model can be served, in memory or not.",
            self._model_ready,
            "OipModelReady",
            query=(_RESIDENT,),
            fails=(404, 503),
        )

    async def _metadata(self, _exchange: Exchange) -> Reply:
        return json_reply({"name": "hotset", "version": self._version, "extensions": EXTENSIONS})

    async def _live(self, _exchange: Exchange) -> Reply:
        return json_reply({"live": True})

    async def _ready(self, _exchange: Exchange) -> Reply:
        return ready_reply(self._dataplane.readiness())

    async def _model(self, exchange: Exchange) -> Reply:
        metadata = await self._residency.metadata(exchange.ref, deadline_s=exchange.deadline_s)
        signature = metadata.signature
        return json_reply(
            {
                "name": metadata.name,
                "versions": [str(version) for version in metadata.versions],
                "platform": signature.platform,
                "inputs": [_tensor(spec) for spec in signature.inputs],
                "outputs": [_tensor(spec) for spec in signature.outputs],
            }
        )

    async def _config(self, exchange: Exchange) -> Reply:
        metadata = await self._residency.metadata(exchange.ref, deadline_s=exchange.deadline_s)
        return json_reply(configuration(metadata.name, metadata.signature, max_batch=self._max_batch))

    async def _stats(self, exchange: Exchange) -> Reply:
        rows = await self._statistics.of(exchange.ref, deadline_s=exchange.deadline_s)
        return json_reply({"model_stats": rows})

    async def _all_stats(self, exchange: Exchange) -> Reply:
        return json_reply({"model_stats": await self._statistics.of_all(exchange.grant)})

    async def _model_ready(self, exchange: Exchange) -> Reply:
        ref = exchange.ref
        readiness = await self._residency.ready(
            ref, resident=exchange.flag("resident"), deadline_s=exchange.deadline_s
        )
        if readiness.ready:
            return json_reply({"name": ref.name, "ready": True})
        return json_reply({"name": ref.name, "ready": False, "reason": readiness.reason}, status=503)

    async def _index(self, exchange: Exchange) -> Reply:
        only_ready = _wants_ready(exchange.body)
        prefix, after = exchange.query.get("prefix", ""), exchange.query.get("after", "")
        deadline_s = exchange.deadline_s
        if "limit" in exchange.query or not self._residency.knows_all:
            limit = exchange.count("limit", default=MAX_PAGE, most=MAX_PAGE)
            page = await visible_models(
                self._residency,
                exchange.grant,
                prefix=prefix,
                limit=limit,
                after=after,
                deadline_s=deadline_s,
            )
            return json_reply(
                list(index_rows(page, only_ready=only_ready)), headers=_next_link(page, prefix, limit)
            )
        whole = await self._whole_index(exchange, prefix, after, only_ready=only_ready)
        return Reply(200, whole, JSON)

    async def _whole_index(self, exchange: Exchange, prefix: str, after: str, *, only_ready: bool) -> bytes:
        """Encode page by page: in one go it would hold the event loop up."""
        pages = visible_pages(
            self._residency,
            exchange.grant,
            prefix=prefix,
            limit=MAX_PAGE,
            after=after,
            deadline_s=exchange.deadline_s,
        )
        lists = [to_json(list(index_rows(page, only_ready=only_ready)))[1:-1] async for page in pages]
        return b"[" + b",".join(filter(None, lists)) + b"]"


def _get(
    path: str,
    summary: str,
    handler: Handler,
    answer: str,
    fails: tuple[int, ...] = (),
    *,
    versioned: bool = False,
    access: Access = Access.SEE,
) -> Route:
    operation = Operation("GET", summary, handler, answer, fails=fails, access=access)
    return Route(path, (operation,), versioned=versioned)


def _absent() -> Iterator[Route]:
    """What Triton has and this server has not: told so, and not that there is no such route."""
    for path, what in (
        ("/v2/logging", "logging"),
        ("/v2/trace/setting", "tracing"),
        ("/v2/models/{model}/trace/setting", "tracing"),
        ("/v2/systemsharedmemory/{action}", "system shared memory"),
        ("/v2/cudasharedmemory/{action}", "CUDA shared memory"),
    ):
        yield Route(path, tuple(_refused(method, what) for method in ("GET", "POST")))


def _refused(method: str, what: str) -> Operation:
    async def handle(_exchange: Exchange) -> Reply:
        raise UnsupportedError(
            f"this server does not have the extension for {what}; GET /v2 lists those it has"
        )

    return Operation(method, f"Triton's extension for {what}: answers 501.", handle, "Error", status=501)


def _verb(name: str, call: Callable[..., Awaitable[ModelStatus]], summary: str) -> Route:
    async def handle(exchange: Exchange) -> Reply:
        _refuse_overrides(exchange.body)
        await call(exchange.ref, deadline_s=exchange.deadline_s)
        return json_reply({"name": exchange.ref.name, name: True})

    operation = Operation(
        "POST",
        summary,
        handle,
        "Object",
        body="OipRepositoryRequest",
        fails=(403, 404, 501, 503, 507),
        access=Access.ADMIN,
    )
    return Route(f"/v2/repository/models/{{model}}/{name}", (operation,), versioned=True)


def _object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in ``body``; none at all counts as an empty one."""
    if not body.strip():
        return {}
    check_depth(body, "the body")
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInputError(f"expected an empty body or a JSON object, found another: {error}") from error


def _wants_ready(body: bytes) -> bool:
    value = _object(body).get("ready", False)
    if not isinstance(value, bool):
        raise InvalidInputError(f"expected true or false for 'ready', found: {str(value)[:40]!r}")
    return value


def _refuse_overrides(body: bytes) -> None:
    """Look at a load's parameters; those that only hint are ignored."""
    parameters = _object(body).get("parameters") or {}
    if not isinstance(parameters, dict):
        raise InvalidInputError(f"expected an object for 'parameters', found: {str(parameters)[:40]!r}")
    refuse_overrides(parameters)


def refuse_overrides(parameters: Iterable[str]) -> None:
    """Refuse a load whose parameters have these names, if one of them is a configuration or a file.

    Raises:
        UnsupportedError: one is.
    """
    for name in parameters:
        if name.startswith(_OVERRIDES):
            raise UnsupportedError(
                f"expected the model's files in the store, found them in the request: parameter {name[:40]!r}"
            )


def _next_link(page: ModelPage, prefix: str, limit: int) -> list[tuple[bytes, bytes]]:
    if page.next is None:
        return []
    query = urlencode({"prefix": prefix, "limit": limit, "after": page.next})
    return [(b"link", f'</v2/repository/index?{query}>; rel="next"'.encode("ascii"))]


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype or ANY_NUMBER, "shape": list(spec.shape)}
