"""All of the inference service that is not a prediction: health, metadata, the model repository. A thin edge."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, TypeAlias

from hotset.api.address import check_length
from hotset.api.auth import OPEN_GATE, Access, Gate, check_model
from hotset.api.dataplane import DataPlane
from hotset.api.grpc.callers import admit, metadata_of
from hotset.api.grpc.statuses import as_ours, cut_off, refuse
from hotset.api.oip_documents import configuration, index_rows
from hotset.api.oip_routes import EXTENSIONS, refuse_overrides
from hotset.api.oip_statistics import OipStatistics
from hotset.api.routes import MAX_PAGE
from hotset.api.visible import visible_models, visible_pages
from hotset.errors import InvalidInputError, NotFoundError
from hotset.keys import MAX_NAME_BYTES, ModelRef, parse_ref
from hotset.messages.fields import MalformedError
from hotset.messages.pool import decoded, message_class
from hotset.payload import ANY_NUMBER, TensorSpec
from hotset.status import ModelPage
from hotset.tokens import Grant


class Call(NamedTuple):
    """One request, decoded: ``ref`` is the model that it names (``ModelRef("")`` where the method has none)."""

    request: Any
    ref: ModelRef
    deadline_s: float
    context: Any
    grant: Grant


Handler: TypeAlias = Callable[[Call], Awaitable[bytes]]
"""Returns the answer, encoded."""

Unary: TypeAlias = Callable[[bytes, Any], Awaitable[bytes]]
"""What grpcio calls: bytes to bytes."""


class Management:
    """Holds nothing of its own. Owned by the event loop."""

    def __init__(
        self,
        dataplane: DataPlane,
        *,
        version: str,
        max_batch: int,
        gate: Gate = OPEN_GATE,
        most_name: int = MAX_NAME_BYTES,
    ) -> None:
        self._dataplane: Final = dataplane
        self._residency: Final = dataplane.residency
        self._gate: Final = gate
        self._most_name: Final = most_name
        self._version: Final = version
        self._max_batch: Final = max_batch
        self._statistics: Final = OipStatistics(dataplane)

    def methods(self) -> dict[str, Unary]:
        """Return the methods by their names."""
        return {
            "ServerLive": self._unary("ServerLiveRequest", self._live, access=Access.OPEN),
            "ServerReady": self._unary("ServerReadyRequest", self._ready, access=Access.OPEN),
            "ServerMetadata": self._unary("ServerMetadataRequest", self._metadata),
            "ModelReady": self._unary("ModelReadyRequest", self._model_ready, ref=_versioned),
            "ModelMetadata": self._unary("ModelMetadataRequest", self._model, ref=_versioned),
            "ModelConfig": self._unary("ModelConfigRequest", self._config, ref=_versioned),
            "ModelStatistics": self._unary("ModelStatisticsRequest", self._stats, ref=_versioned_or_none),
            "RepositoryIndex": self._unary("RepositoryIndexRequest", self._index),
            "RepositoryModelLoad": self._unary(
                "RepositoryModelLoadRequest", self._load, ref=_named, access=Access.ADMIN
            ),
            "RepositoryModelUnload": self._unary(
                "RepositoryModelUnloadRequest", self._unload, ref=_named, access=Access.ADMIN
            ),
        }

    def _unary(
        self,
        name: str,
        handler: Handler,
        *,
        ref: Callable[[Any], ModelRef] = lambda _request: ModelRef(""),
        access: Access = Access.SEE,
    ) -> Unary:
        message = message_class(name)

        async def serve(body: bytes, context: Any) -> bytes:
            named: ModelRef | None = None
            try:
                grant = admit(self._gate, context, access)
                request = decoded(message, body)
                named = ref(request)
                if named.name:
                    check_length(named.name, self._most_name)
                    check_model(grant, named.name)
                deadline_s = self._dataplane.deadline(context.time_remaining())
                return await handler(Call(request, named, deadline_s, context, grant))
            except asyncio.CancelledError:
                if not self._dataplane.draining:
                    raise
                return refuse(context, cut_off())
            except MalformedError as error:
                return refuse(context, InvalidInputError(str(error)))
            except Exception as error:  # noqa: BLE001 - the last border: it is logged and answered
                return refuse(context, as_ours(error), named)

        return serve

    async def _live(self, _call: Call) -> bytes:
        return _encoded("ServerLiveResponse", live=True)

    async def _ready(self, _call: Call) -> bytes:
        return _encoded("ServerReadyResponse", ready=self._dataplane.readiness().ready)

    async def _metadata(self, _call: Call) -> bytes:
        return _encoded("ServerMetadataResponse", name="hotset", version=self._version, extensions=EXTENSIONS)

    async def _model_ready(self, call: Call) -> bytes:
        """A model that there is not is one that is not ready: clients ask this to see whether it has come."""
        try:
            readiness = await self._residency.ready(call.ref, resident=False, deadline_s=call.deadline_s)
        except NotFoundError:
            return _encoded("ModelReadyResponse", ready=False)
        return _encoded("ModelReadyResponse", ready=readiness.ready)

    async def _model(self, call: Call) -> bytes:
        metadata = await self._residency.metadata(call.ref, deadline_s=call.deadline_s)
        signature = metadata.signature
        return _encoded(
            "ModelMetadataResponse",
            name=metadata.name,
            versions=map(str, metadata.versions),
            platform=signature.platform,
            inputs=map(_tensor, signature.inputs),
            outputs=map(_tensor, signature.outputs),
        )

    async def _config(self, call: Call) -> bytes:
        metadata = await self._residency.metadata(call.ref, deadline_s=call.deadline_s)
        config = configuration(metadata.name, metadata.signature, max_batch=self._max_batch)
        return _encoded("ModelConfigResponse", config=config)

    async def _stats(self, call: Call) -> bytes:
        """Of a model, or without a name of all that were asked."""
        if call.ref.name:
            rows = await self._statistics.of(call.ref, deadline_s=call.deadline_s)
        else:
            rows = await self._statistics.of_all(call.grant)
        return _encoded("ModelStatisticsResponse", model_stats=rows)

    async def _index(self, call: Call) -> bytes:
        """All models; or, where a list of all would cost the store much, one page, and metadata asks for others."""
        residency, grant, deadline_s = self._residency, call.grant, call.deadline_s
        asked = dict(metadata_of(call.context))
        prefix, after = asked.get("prefix", ""), asked.get("after", "")
        if residency.knows_all:
            pages = visible_pages(
                residency, grant, prefix=prefix, limit=MAX_PAGE, after=after, deadline_s=deadline_s
            )
            return b"".join([_index_page(page, call) async for page in pages])
        page = await visible_models(
            residency, grant, prefix=prefix, limit=MAX_PAGE, after=after, deadline_s=deadline_s
        )
        if page.next is not None:
            call.context.set_trailing_metadata((("next", page.next),))
        return _index_page(page, call)

    async def _load(self, call: Call) -> bytes:
        refuse_overrides(call.request.parameters)
        await self._residency.load(call.ref, deadline_s=call.deadline_s)
        return _encoded("RepositoryModelLoadResponse", model_name=call.ref.name, isLoaded=True)

    async def _unload(self, call: Call) -> bytes:
        await self._residency.unload(call.ref, deadline_s=call.deadline_s)
        return _encoded("RepositoryModelUnloadResponse", model_name=call.ref.name, isUnloaded=True)


def _versioned(request: Any) -> ModelRef:
    return parse_ref(request.name, request.version)


def _versioned_or_none(request: Any) -> ModelRef:
    return _versioned(request) if request.name or request.version else ModelRef("")


def _named(request: Any) -> ModelRef:
    """Return the model of a load or an unload: Triton's second field, or KServe's, which is Triton's first."""
    return parse_ref(request.model_name or request.repository_name)


def _index_page(page: ModelPage, call: Call) -> bytes:
    """Encode one page; those of one list can be joined as they are."""
    rows = list(index_rows(page, only_ready=call.request.ready))
    return _encoded("RepositoryIndexResponse", models=rows)


def _encoded(name: str, /, **fields: Any) -> bytes:
    encoded: bytes = message_class(name)(**fields).SerializeToString()
    return encoded


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype or ANY_NUMBER, "shape": spec.shape}
