"""TensorFlow Serving's REST API: predict, classify, regress, and the status and metadata of models.

A thin edge in that server's words: clients match on parts of its error texts, on its statuses and on exact body shapes.
A version counts as available when it is servable, in memory or not, for clients wait for that before they first ask.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from hotset.api.auth import Access
from hotset.api.dataplane import DataPlane
from hotset.api.errors import STATUS
from hotset.api.predictions import Door
from hotset.api.reply import Reply, json_reply
from hotset.api.routes import Exchange, Operation, Parameter, Route, RouteTable
from hotset.errors import ErrorKind, HotsetError, InvalidInputError, NotFoundError
from hotset.keys import LATEST, ModelRef
from hotset.payload import Signature, TensorSpec
from hotset.status import ModelStatus, VersionState, VersionStatus

PROTOCOL: Final = "tfserving"

_DEFAULT_SIGNATURE: Final = "serving_default"
_FAILS: Final = (403, 404, 413, 429, 501, 503, 504, 507)
_RESIDENT: Final = Parameter("resident", "boolean", "Show what is in memory, not what can be served.")

_STATUS: Final[Mapping[ErrorKind, int]] = {
    ErrorKind.OVERLOADED: 429,
    ErrorKind.NO_ROOM: 429,
    ErrorKind.MEMORY_PRESSURE: 429,
    ErrorKind.OUT_OF_MEMORY: 429,
}
"""What is exhausted has a status of its own in this protocol; it comes with ``Retry-After`` all the same."""

_CODES: Final[Mapping[int, str]] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
    507: "RESOURCE_EXHAUSTED",
}
"""The names that a version's status has for the errors of these statuses; of all others it is INTERNAL."""

_DTYPES: Final[Mapping[str | None, str]] = {
    None: "DT_DOUBLE",
    "BOOL": "DT_BOOL",
    **{f"UINT{bits}": f"DT_UINT{bits}" for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": f"DT_INT{bits}" for bits in (8, 16, 32, 64)},
    "FP16": "DT_HALF",
    "BF16": "DT_BFLOAT16",
    "FP32": "DT_FLOAT",
    "FP64": "DT_DOUBLE",
    "BYTES": "DT_STRING",
}
"""An input that takes any number is shown as double, because clients build their tensors from what is shown."""


def status_of(error: HotsetError, ref: ModelRef) -> int | None:
    """Return the status that the protocol's clients expect; None where it is the usual one."""
    if error.kind is ErrorKind.VERSION_NOT_FOUND and _is_label(ref):
        return 400
    return _STATUS.get(error.kind)


def explain(error: HotsetError, ref: ModelRef) -> str | None:
    """Say what is not found in the words that the protocol's clients look for."""
    if error.kind is ErrorKind.MODEL_NOT_FOUND:
        return f"Servable not found for request: {_request(ref)}"
    if error.kind is ErrorKind.VERSION_NOT_FOUND:
        return _unknown_label(error, ref) or f"Servable not found for request: {_request(ref)}"
    return None


def explain_status(error: HotsetError, ref: ModelRef) -> str | None:
    """The same for the status routes, which have words of their own."""
    if error.kind is ErrorKind.MODEL_NOT_FOUND:
        return f"Could not find any versions of model {ref.name}"
    if error.kind is ErrorKind.VERSION_NOT_FOUND:
        return _unknown_label(error, ref) or f"Could not find version {ref.version} of model {ref.name}"
    return None


def wrong_method(method: str, path: str, _allowed: str) -> InvalidInputError:
    """That server knows no 405: to it a path with another method is another path."""
    return InvalidInputError(f"Malformed request: {method} {path[:200]}")


def _is_label(ref: ModelRef) -> bool:
    return isinstance(ref.version, str) and ref.version != LATEST


def _unknown_label(error: HotsetError, ref: ModelRef) -> str | None:
    """Say that a label is none, and then what the store's file says and which versions there are."""
    if not _is_label(ref):
        return None
    said = f"Unrecognized servable version label: {ref.version}"
    rest = str(error).partition(" is not found. ")[2]
    return f"{said}. {rest}" if rest else said


def _request(ref: ModelRef) -> str:
    return f"Latest({ref.name})" if ref.version == LATEST else f"Specific({ref.name}, {ref.version})"


def _door(codec: str, verb: str) -> Door:
    return Door(
        protocol=PROTOCOL,
        codec=codec,
        prefix=b"/v1/models/",
        suffix=b":" + verb.encode(),
        explain=explain,
        status=status_of,
        labelled=True,
        wrong_method=wrong_method,
    )


DOORS: Final = (
    _door("tfserving", "predict"),
    _door("tfserving.classify", "classify"),
    _door("tfserving.regress", "regress"),
)


class TfServingRoutes:
    """Holds nothing of its own. Owned by the event loop."""

    def __init__(self, dataplane: DataPlane) -> None:
        self._residency = dataplane.residency

    def tables(self) -> tuple[RouteTable, ...]:
        """Return the routes, in the order in which they are tried."""
        metadata = Operation(
            "GET",
            "Signatures of a model, loading it if that never was.",
            self._metadata,
            "TfMetadata",
            fails=_FAILS,
        )
        status = Operation(
            "GET",
            "The states of a model's versions.",
            self._status,
            "TfStatus",
            query=(_RESIDENT,),
            fails=(404, 429, 503),
        )
        missing = Operation(
            "GET",
            "Not a route: a model's name is missing.",
            _no_name,
            "Error",
            status=400,
            access=Access.OPEN,
        )
        models = "/v1/models/{model}"
        words = RouteTable(
            PROTOCOL,
            (
                *_predictions(),
                Route(f"{models}/metadata", (metadata,), versioned=True, labelled=True),
            ),
            explain,
            status_of,
            wrong_method,
        )
        statuses = RouteTable(
            PROTOCOL,
            (
                Route("/v1/models", (missing,)),
                Route(models, (status,), versioned=True, labelled=True),
            ),
            explain_status,
            status_of,
            wrong_method,
        )
        return words, statuses

    async def _status(self, exchange: Exchange) -> Reply:
        model = await self._residency.model(exchange.ref.name, deadline_s=exchange.deadline_s)
        resident = exchange.flag("resident")
        rows = [_row(version, resident=resident) for version in _asked(model, exchange.ref)]
        return json_reply({"model_version_status": rows})

    async def _metadata(self, exchange: Exchange) -> Reply:
        ref = exchange.ref
        metadata = await self._residency.metadata(ref, deadline_s=exchange.deadline_s)
        signatures = {"signature_def": signature_defs(metadata.signature)}
        return json_reply(
            {
                "model_spec": {"name": metadata.name, "signature_name": "", "version": str(metadata.version)},
                "metadata": {"signature_def": signatures},
            }
        )


def malformed(method: str, path: str) -> InvalidInputError | None:
    """Return what to say of a path that no route has, if it is one of this protocol's."""
    if not path.startswith("/v1/"):
        return None
    return wrong_method(method, path, "")


def _predictions() -> Iterable[Route]:
    verbs = (
        ("predict", "Answer one request with a model, loading it if it is not in memory.", "TfPredict"),
        ("classify", "Give labels with scores for examples.", "TfExamples"),
        ("regress", "Give a number for each example.", "TfExamples"),
    )
    for verb, summary, body in verbs:
        operation = Operation("POST", summary, None, body=body, answer="Object", fails=_FAILS)
        yield Route(f"/v1/models/{{model}}:{verb}", (operation,), versioned=True, labelled=True)


async def _no_name(_exchange: Exchange) -> Reply:
    raise InvalidInputError("Missing model name in request.")


def _asked(model: ModelStatus, ref: ModelRef) -> list[VersionStatus]:
    """Return the versions that are asked for, the newest first."""
    asked = model.asked(ref.version)
    if not asked:
        raise NotFoundError(f"no version {ref.version}", kind=ErrorKind.VERSION_NOT_FOUND)
    return [*reversed(asked)]


def _row(version: VersionStatus, *, resident: bool) -> dict[str, Any]:
    code, message = "OK", ""
    if version.failure is not None:
        code, message = _CODES.get(STATUS[version.failure], "INTERNAL"), version.reason
    state = _state(version, resident=resident)
    return {
        "version": str(version.version),
        "state": state,
        "status": {"error_code": code, "error_message": message},
    }


def _state(version: VersionStatus, *, resident: bool) -> str:
    """A version that left memory, or is leaving it, is loaded again by the next request: it never ended."""
    state = version.state
    if state is VersionState.READY:
        return "AVAILABLE"
    if version.failure is not None:
        return "END"
    if state is VersionState.LOADING:
        return "LOADING"
    if not resident:
        return "AVAILABLE"
    return "UNLOADING" if state is VersionState.UNLOADING else "START"


def signature_defs(signature: Signature) -> dict[str, Any]:
    """Return what ``signature_name`` may be: the model's own, else the default one and one for each of several outputs."""
    if signature.name:
        return {it.name: _signature_def(it, it.outputs) for it in (signature, *signature.others)}
    found = {_DEFAULT_SIGNATURE: _signature_def(signature, signature.outputs)}
    if len(signature.outputs) > 1:
        found.update({spec.name: _signature_def(signature, (spec,)) for spec in signature.outputs})
    return found


def _signature_def(signature: Signature, outputs: Iterable[TensorSpec]) -> dict[str, Any]:
    return {
        "inputs": _tensors(signature.inputs),
        "outputs": _tensors(outputs),
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    }


def _tensors(specs: Iterable[TensorSpec]) -> dict[str, Any]:
    return {spec.name: _tensor(spec) for spec in specs}


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    sizes = [{"size": str(size), "name": ""} for size in spec.shape]
    return {
        "dtype": _DTYPES.get(spec.datatype, "DT_INVALID"),
        "tensor_shape": {"dim": sizes, "unknown_rank": False},
        "name": f"{spec.name}:0",
    }
