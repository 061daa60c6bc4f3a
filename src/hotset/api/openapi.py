"""The API document (OpenAPI 3.1), built from the route tables, so that it cannot miss a route."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from hotset.api.auth import Access
from hotset.api.errors import HTTP_STATUS, STATUS
from hotset.api.headers import TIMEOUT_HEADER
from hotset.api.routes import Operation, Route, RouteTable
from hotset.status import ModelPage, ModelStatus, ServerStatus

Json = dict[str, Any]

_REF: Final = "#/components/schemas/"
_STRING: Final[Json] = {"type": "string"}
_OBJECT: Final[Json] = {"type": "object"}
_BYTES: Final[Json] = {"application/octet-stream": {}}
_PARTS: Final[Json] = {"application/x-ndjson": {}, "text/event-stream": {}, **_BYTES, "text/plain": {}}
_FLAG: Final[Json] = {"type": "boolean"}

_WORDS: Final[Mapping[int, str]] = {
    200: "Done.",
    400: "The request is wrong; the message names the field.",
    401: "A token is missing, or it is not known.",
    403: "Only from the server's own machine, or not with this token.",
    404: "No such model or version.",
    408: "The body did not arrive in time.",
    409: "A model of that name is loaded already.",
    413: "The body is too large.",
    429: "The queue or the memory is full: try again after the seconds in Retry-After.",
    500: "The model failed, or the server did.",
    501: "Not implemented, or the body is compressed in a way that is not known here.",
    503: "Not now: try again after the seconds in Retry-After.",
    504: "The prediction took longer than its deadline.",
    507: "The model is larger than the capacity, or the disk is full.",
}


def document(tables: Iterable[RouteTable], *, version: str) -> Json:
    """Return the document of all routes in ``tables``."""
    paths: Json = {}
    for table in tables:
        for route in table.routes:
            for path in route.paths:
                paths[path] = _path_item(route, path, tag=table.protocol)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "hotset",
            "version": version,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "security": [{}, {"token": []}],
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _path_item(route: Route, path: str, *, tag: str) -> Json:
    return {operation.method.lower(): _operation(operation, path, tag=tag) for operation in route.operations}


def _operation(operation: Operation, path: str, *, tag: str) -> Json:
    item: Json = {
        "operationId": f"{operation.method.lower()}:{path}",
        "summary": operation.summary,
        "tags": [tag],
        "parameters": _parameters(operation, path),
        "responses": _responses(operation),
    }
    if operation.body:
        content = {"application/json": {"schema": _ref(operation.body)}}
        item["requestBody"] = {"content": content | (_BYTES if operation.binary else {})}
    return item


def _parameters(operation: Operation, path: str) -> list[Json]:
    found = [
        {"name": name, "in": "path", "required": True, "schema": _STRING}
        for name in ("model", "version", "label", "action")
        if f"{{{name}}}" in path
    ]
    found += [
        {"name": query.name, "in": "query", "schema": {"type": query.type}, "description": query.help}
        for query in operation.query
    ]
    timeout = {"type": "number", "exclusiveMinimum": 0}
    return [*found, {"name": TIMEOUT_HEADER, "in": "header", "schema": timeout}]


def _responses(operation: Operation) -> Json:
    content: Json = (
        {"application/json": {"schema": _ref(operation.answer)}}
        if operation.answer
        else {operation.media: {}}
    )
    responses: Json = {str(operation.status): {"description": _WORDS[operation.status], "content": content}}
    if operation.binary:
        content |= _BYTES
    if operation.streamed:
        content |= _PARTS
    error: Json = {"application/json": {"schema": _ref("Error")}}
    refused = set() if operation.access is Access.OPEN else {401, 403}
    for status in sorted(({400, 408, 413, 500, 501, *operation.fails} | refused) - {operation.status}):
        responses[str(status)] = {"description": _WORDS[status], "content": error}
    return responses


def _ref(name: str) -> Json:
    return {"$ref": _REF + name}


def _schemas() -> Json:
    _, records = msgspec.json.schema_components(
        [ModelPage, ModelStatus, ServerStatus], ref_template=_REF + "{name}"
    )
    return {**records, **_own_schemas(), **_oip_schemas(), **_tf_schemas(), **_sagemaker_schemas()}


def _own_schemas() -> Json:
    return {
        "Error": _record(error=_STRING, kind={"type": "string", "enum": kinds()}),
        "Object": _OBJECT,
        "Payload": {"description": "What the model takes and gives; any JSON, or any content type."},
        "Live": _record(live=_FLAG),
        "Ready": _record(ready=_FLAG),
        "Status": _record(
            server=_ref("ServerStatus"),
            requests=_record(inside={"type": "integer"}, max_queue={"type": "integer"}, draining=_FLAG),
        ),
    }


def _oip_schemas() -> Json:
    tensor = _record(name=_STRING, shape=_list({"type": "integer"}), datatype=_STRING)
    configured = _record(name=_STRING, data_type=_STRING, dims=_list({"type": "integer"}))
    filled = _record(name=_STRING, shape=_list({"type": "integer"}), datatype=_STRING, data={"type": "array"})
    return {
        "OipServer": _record(name=_STRING, version=_STRING, extensions=_list(_STRING)),
        "OipModel": _record(
            name=_STRING,
            versions=_list(_STRING),
            platform=_STRING,
            inputs=_list(tensor),
            outputs=_list(tensor),
        ),
        "OipConfig": _record(
            name=_STRING,
            platform=_STRING,
            backend=_STRING,
            version_policy=_OBJECT,
            max_batch_size={"type": "integer"},
            input=_list(configured),
            output=_list(configured),
            model_transaction_policy=_record(decoupled=_FLAG),
        ),
        "OipStats": _record(model_stats=_list(_oip_statistics())),
        "OipModelReady": _record(name=_STRING, ready=_FLAG),
        "OipIndexRequest": {"type": "object", "properties": {"ready": _FLAG}},
        "OipIndex": _list(_record(name=_STRING, version=_STRING, state=_STRING, reason=_STRING)),
        "OipRepositoryRequest": {"type": "object", "properties": {"parameters": _OBJECT}},
        "OipInferRequest": {
            "type": "object",
            "properties": {
                "id": _STRING,
                "parameters": _OBJECT,
                "inputs": _list(filled),
                "outputs": _list({"type": "object", "properties": {"name": _STRING}, "required": ["name"]}),
            },
            "required": ["inputs"],
        },
        "OipInferResponse": _record(model_name=_STRING, model_version=_STRING, outputs=_list(filled)),
    }


def _oip_statistics() -> Json:
    number: Json = {"type": "integer"}
    duration = _record(count=number, ns=number)
    names = (
        "success",
        "fail",
        "queue",
        "compute_input",
        "compute_infer",
        "compute_output",
        "cache_hit",
        "cache_miss",
    )
    return _record(
        name=_STRING,
        version=_STRING,
        last_inference=number,
        inference_count=number,
        execution_count=number,
        inference_stats=_record(**dict.fromkeys(names, duration)),
        batch_stats=_list(_OBJECT),
        memory_usage=_list(_record(type=_STRING, id=number, byte_size=number)),
    )


def _tf_schemas() -> Json:
    signature_name: Json = {"signature_name": _STRING}
    examples: Json = {**signature_name, "context": _OBJECT, "examples": _list(_OBJECT)}
    state = _record(version=_STRING, state=_STRING, status=_record(error_code=_STRING, error_message=_STRING))
    return {
        "TfPredict": {
            "type": "object",
            "properties": {**signature_name, "instances": {"type": "array"}, "inputs": {}},
        },
        "TfExamples": {"type": "object", "properties": examples, "required": ["examples"]},
        "TfStatus": _record(model_version_status=_list(state)),
        "TfMetadata": _record(
            model_spec=_record(name=_STRING, signature_name=_STRING, version=_STRING), metadata=_OBJECT
        ),
    }


def _sagemaker_schemas() -> Json:
    model = _record(modelName=_STRING, modelUrl=_STRING)
    properties: Json = {"models": _list(_ref("SageMakerModel")), "nextPageToken": _STRING}
    return {
        "SageMakerLoad": _record(model_name=_STRING, url=_STRING),
        "SageMakerModel": model,
        "SageMakerModels": {"type": "object", "properties": properties, "required": ["models"]},
    }


def _record(**properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def kinds() -> list[str]:
    """Return every kind that can stand in an error body."""
    return [kind.value for kind in (*STATUS, *HTTP_STATUS)]
