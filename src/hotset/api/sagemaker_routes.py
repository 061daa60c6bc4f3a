"""The contract of SageMaker's multi-model containers: load, list, show, unload and invoke the models that it brings.

On where the platform says so, and then the only way models come and go; hotset's own routes for that are off, as they
have the same paths. 507 is how the platform hears that it has to unload others before it tries again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol
from urllib.parse import quote

import msgspec

from hotset.api.auth import Access, check_model
from hotset.api.dataplane import DataPlane
from hotset.api.errors import HttpError, HttpKind, error_reply
from hotset.api.predictions import Door
from hotset.api.reply import RawHeader, Reply, json_reply
from hotset.api.routes import MAX_PAGE, Exchange, Operation, Parameter, Route, RouteTable, ready_reply
from hotset.body_limits import check_depth
from hotset.errors import ErrorKind, HotsetError, InvalidInputError, NotFoundError

PROTOCOL: Final = "sagemaker"
DOOR: Final = Door(protocol=PROTOCOL, codec="native", prefix=b"/models/", suffix=b"/invoke")
INVOCATIONS: Final = b"/invocations"
TARGET_HEADER: Final = "X-Amzn-SageMaker-Target-Model"

DEFAULT_PAGE: Final = 100

_TARGET: Final = TARGET_HEADER.lower().encode()

_PAGING: Final = (
    Parameter("next_page_token", "string", "The nextPageToken of the page before."),
    Parameter("limit", "integer", f"At most so many models, 1 to {MAX_PAGE}."),
)
_NO_ROOM: Final = frozenset(
    {
        ErrorKind.NO_ROOM,
        ErrorKind.MEMORY_PRESSURE,
        ErrorKind.OVERLOADED,
        ErrorKind.OUT_OF_MEMORY,
        ErrorKind.TOO_LARGE,
        ErrorKind.DISK_FULL,
    }
)
_INVOKE_FAILS: Final = (404, 413, 501, 503, 504, 507)


class _Load(msgspec.Struct):
    model_name: str
    url: str


_LOAD: Final = msgspec.json.Decoder(_Load)


class Given(Protocol):
    """What holds the models that the platform brings; ``residency.given`` implements it. Owned by the event loop."""

    @property
    def loaded(self) -> Mapping[str, str]:
        """The directories of the models that are loaded, by name."""
        ...

    async def load(self, name: str, url: str) -> bool:
        """Load a model from a directory; False, and nothing is done, if there is one of that name already.

        Raises:
            HotsetError: it cannot be loaded, and then nothing of it is left.
        """
        ...

    async def unload(self, name: str) -> None:
        """Forget a model; return when its memory was given back.

        Raises:
            NotFoundError: it is not loaded.
        """
        ...


class SageMakerRoutes:
    """Holds nothing of its own. Owned by the event loop."""

    def __init__(self, dataplane: DataPlane, given: Given) -> None:
        self._dataplane = dataplane
        self._given = given

    def table(self) -> RouteTable:
        """Return the routes, in the order in which they are tried."""
        invoke = Operation(
            "POST", "Answer one request with a loaded model.", None, "Payload", "Payload", fails=_INVOKE_FAILS
        )
        routes = (
            Route(
                "/ping",
                (
                    Operation(
                        "GET",
                        "Whether it takes requests.",
                        self._ping,
                        "Ready",
                        fails=(503,),
                        access=Access.OPEN,
                    ),
                ),
            ),
            Route("/invocations", (self._invocations(),)),
            Route("/models/{model}/invoke", (invoke,), versioned=True),
            Route("/models", self._models()),
            Route("/models/{model}", self._model()),
        )
        return RouteTable(PROTOCOL, routes)

    def _models(self) -> tuple[Operation, ...]:
        return (
            Operation(
                "POST",
                "Load a model from a directory, and answer when it is in memory.",
                self._load,
                "SageMakerModel",
                body="SageMakerLoad",
                fails=(404, 409, 503, 507),
                access=Access.PLATFORM,
            ),
            Operation("GET", "List the loaded models.", self._list, "SageMakerModels", query=_PAGING),
        )

    def _model(self) -> tuple[Operation, ...]:
        return (
            Operation("GET", "Show a loaded model.", self._show, "SageMakerModel", fails=(404,)),
            Operation(
                "DELETE",
                "Unload a model, and answer when its memory is free.",
                self._unload,
                "Object",
                fails=(404, 503),
                access=Access.PLATFORM,
            ),
        )

    def _invocations(self) -> Operation:
        return Operation(
            "POST",
            f"Answer one request with the model that {TARGET_HEADER} names, or the only one there is.",
            None,
            "Payload",
            "Payload",
            fails=_INVOKE_FAILS,
        )

    async def _ping(self, _exchange: Exchange) -> Reply:
        return ready_reply(self._dataplane.readiness())

    async def _load(self, exchange: Exchange) -> Reply:
        check_depth(exchange.body, "the body")
        try:
            asked = _LOAD.decode(exchange.body)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise InvalidInputError(
                f"expected a JSON object with 'model_name' and 'url', found another: {error}"
            ) from error
        check_model(exchange.grant, asked.model_name)
        try:
            is_new = await self._given.load(asked.model_name, asked.url)
        except HotsetError as error:
            if error.kind not in _NO_ROOM:
                raise
            return error_reply(error, status=507)
        if not is_new:
            raise HttpError(
                f"the model {asked.model_name!r} is loaded already; unload it first",
                kind=HttpKind.ALREADY_LOADED,
            )
        return json_reply(_row(asked.model_name, asked.url))

    async def _list(self, exchange: Exchange) -> Reply:
        limit = exchange.count("limit", default=DEFAULT_PAGE, most=MAX_PAGE)
        after = exchange.query.get("next_page_token", "")
        loaded = self._given.loaded
        names = sorted(name for name in loaded if name > after and exchange.grant.covers(name))
        page: dict[str, Any] = {"models": [_row(name, loaded[name]) for name in names[:limit]]}
        if len(names) > limit:
            page["nextPageToken"] = names[limit - 1]
        return json_reply(page)

    async def _show(self, exchange: Exchange) -> Reply:
        name = exchange.ref.name
        url = self._given.loaded.get(name)
        if url is None:
            raise NotFoundError(f"no model {name!r} is loaded")
        return json_reply(_row(name, url))

    async def _unload(self, exchange: Exchange) -> Reply:
        await self._given.unload(exchange.ref.name)
        return json_reply({})

    def invocation(self, headers: Iterable[RawHeader]) -> bytes:
        """Return the path that ``POST /invocations`` stands for: that of the model which it names.

        Raises:
            InvalidInputError: it names none, and there is not just one.
        """
        name = next((value for header, value in headers if header == _TARGET), None)
        if name is None:
            loaded = list(self._given.loaded)
            if len(loaded) != 1:
                raise InvalidInputError(
                    f"expected the header {TARGET_HEADER} with a model's name; models loaded: {len(loaded)}"
                )
            name = loaded[0].encode()
        return b"%b%b%b" % (DOOR.prefix, quote(name, safe="").encode("ascii"), DOOR.suffix)


def _row(name: str, url: str) -> dict[str, str]:
    return {"modelName": name, "modelUrl": url}
