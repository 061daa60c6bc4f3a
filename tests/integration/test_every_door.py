"""The same models through every door of a real server: the same numbers, and what is wrong is told by its name, with 400."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import joblib
import numpy as np
import pyarrow as pa
import pytest
import tritonclient.grpc as triton
from skl2onnx import to_onnx
from sklearn.linear_model import LinearRegression
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from grpc_serving import free_port
from server_process import HttpAnswer, ServerProcess, running_server

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("every-door")]

ROWS = np.random.default_rng(5).normal(size=(60, 3))
LINEAR = LinearRegression().fit(ROWS, ROWS @ [1.0, -2.0, 0.5] + 3)
FEW = ROWS[:5]

LENGTH = "Inference-Header-Content-Length"
DEPTH, ELEMENTS = 20, 65_536
LIMITS = {"max_body_size": "1MiB", "max_json_depth": DEPTH, "max_tensor_elements": ELEMENTS}
NPY, NPZ, ARROW = "application/x-npy", "application/x-npz", "application/vnd.apache.arrow.stream"


@dataclass(frozen=True)
class Model:
    """How one of the models is asked."""

    name: str
    input: str
    datatype: str
    output: str
    rtol: float

    @property
    def dtype(self) -> str:
        return {"FP64": "<f8", "FP32": "<f4"}[self.datatype]


MODELS = (
    Model("linear", "input-0", "FP64", "predict", 1e-12),
    Model("graph", "X", "FP32", "variable", 1e-4),
)


GRAPH = MODELS[1]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, str]]:
    place = tmp_path_factory.mktemp("doors")
    for name in ("linear", "graph"):
        (place / "models" / name / "1").mkdir(parents=True)
    joblib.dump(LINEAR, place / "models/linear/1/model.joblib")
    graph = to_onnx(LINEAR, FEW[:1].astype(np.float32)).SerializeToString()
    (place / "models/graph/1/model.onnx").write_bytes(graph)
    (place / "models/linear/labels.yaml").write_text("stable: 1\n")
    (place / "models/graph/labels.yaml").write_text("stable: 1\n")
    port = free_port()
    with running_server(
        place / "disk", model_dir=place / "models", settle_time=0, grpc_port=port, **LIMITS
    ) as server:
        yield server, f"127.0.0.1:{port}"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A container as SageMaker runs it, with the linear model loaded."""
    place = tmp_path_factory.mktemp("sagemaker")
    (place / "linear").mkdir()
    joblib.dump(LINEAR, place / "linear/model.joblib")
    settings = {"sagemaker": True, "sagemaker_roots": [str(place)], **LIMITS}
    with running_server(place / "disk", **settings) as server:
        loaded = server.request("POST", "/models", {"model_name": "linear", "url": str(place / "linear")})
        assert loaded.status == 200, loaded.body
        yield server


# The same numbers

Ask = Callable[[ServerProcess, str, Model, str, np.ndarray], np.ndarray]
"""Gets the server, the address of its gRPC port, the model, ``1`` or ``stable`` or nothing for a version, and the rows."""


def good(answer: HttpAnswer) -> HttpAnswer:
    assert answer.status == 200, answer.body
    assert answer.version == 1
    return answer


def versioned(version: str) -> str:
    return f"/versions/{version}" if version else ""


def post(
    server: ServerProcess, model: Model, version: str, body: object, headers: Mapping[str, str] | None = None
) -> HttpAnswer:
    path = f"/models/{model.name}{versioned(version)}/predict"
    return good(server.request("POST", path, body, headers=headers))


def native_rows(server: ServerProcess, _: str, model: Model, version: str, rows: np.ndarray) -> np.ndarray:
    return np.array(post(server, model, version, {"instances": rows.tolist()}).json["predictions"])


def native_columns(server: ServerProcess, _: str, model: Model, version: str, rows: np.ndarray) -> np.ndarray:
    answer = post(server, model, version, {"inputs": {model.input: rows.tolist()}})
    return np.array(answer.json["outputs"])


def native_npy(server: ServerProcess, _: str, model: Model, version: str, rows: np.ndarray) -> np.ndarray:
    answer = post(server, model, version, npy(rows.astype(model.dtype)), {"Content-Type": NPY})
    assert answer.headers["content-type"] == NPY
    return np.load(io.BytesIO(answer.body))


def native_npz(server: ServerProcess, _: str, model: Model, version: str, rows: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    np.savez(file, **{model.input: rows.astype(model.dtype)})
    answer = post(server, model, version, file.getvalue(), {"Content-Type": NPZ})
    return np.load(io.BytesIO(answer.body))[model.output]


def native_arrow(server: ServerProcess, _: str, model: Model, version: str, rows: np.ndarray) -> np.ndarray:
    columns = {f"c{index}": rows[:, index].astype(model.dtype) for index in range(3)}
    answer = post(server, model, version, arrow(columns), {"Content-Type": ARROW})
    table = pa.ipc.open_stream(answer.body).read_all()
    return np.array(table.column(model.output).to_pylist())


def native_csv(server: ServerProcess, _: str, model: Model, version: str, rows: np.ndarray) -> np.ndarray:
    body = "\n".join(",".join(map(repr, row)) for row in rows.tolist()).encode()
    answer = post(server, model, version, body, {"Content-Type": "text/csv"})
    return np.array([float(line) for line in answer.body.split()])


def oip_json(server: ServerProcess, _: str, model: Model, version: str, rows: np.ndarray) -> np.ndarray:
    tensor = {"name": model.input, "datatype": model.datatype, "shape": [*rows.shape], "data": rows.tolist()}
    path = f"/v2/models/{model.name}{versioned(version)}/infer"
    (output,) = good(server.request("POST", path, {"inputs": [tensor]})).json["outputs"]
    assert output["name"] == model.output
    return np.array(output["data"]).reshape(output["shape"])


def oip_binary(server: ServerProcess, _: str, model: Model, version: str, rows: np.ndarray) -> np.ndarray:
    body, headers = binary_request(model, rows)
    path = f"/v2/models/{model.name}{versioned(version)}/infer"
    return read_binary(good(server.request("POST", path, body, headers=headers)))


def oip_raw(server: ServerProcess, _: str, model: Model, version: str, rows: np.ndarray) -> np.ndarray:
    if model.name == "linear":  # it takes any number, so bytes alone do not say which
        return oip_binary(server, _, model, version, rows)
    path = f"/v2/models/{model.name}{versioned(version)}/infer"
    headers = {LENGTH: "0", "Content-Type": "application/octet-stream"}
    return read_binary(
        good(server.request("POST", path, rows.astype(model.dtype).tobytes(), headers=headers))
    )


def tf_rows(server: ServerProcess, _: str, model: Model, version: str, rows: np.ndarray) -> np.ndarray:
    return np.array(tf_post(server, model, version, {"instances": rows.tolist()})["predictions"])


def tf_columns(server: ServerProcess, _: str, model: Model, version: str, rows: np.ndarray) -> np.ndarray:
    return np.array(tf_post(server, model, version, {"inputs": rows.tolist()})["outputs"])


def tf_regress(server: ServerProcess, _: str, model: Model, version: str, rows: np.ndarray) -> np.ndarray:
    examples = [{model.input: row} for row in rows.tolist()]
    return np.array(tf_post(server, model, version, {"examples": examples}, verb="regress")["results"])


def tf_post(server: ServerProcess, model: Model, version: str, body: object, *, verb: str = "predict") -> Any:
    word = f"/labels/{version}" if version.isalpha() else versioned(version)
    return good(server.request("POST", f"/v1/models/{model.name}{word}:{verb}", body)).json


def grpc_raw(_: ServerProcess, address: str, model: Model, version: str, rows: np.ndarray) -> np.ndarray:
    tensor = triton.InferInput(model.input, [*rows.shape], model.datatype)
    tensor.set_data_from_numpy(rows.astype(model.dtype))
    with triton.InferenceServerClient(address) as client:
        return client.infer(model.name, [tensor], model_version=version).as_numpy(model.output)


def grpc_explicit(_: ServerProcess, address: str, model: Model, version: str, rows: np.ndarray) -> np.ndarray:
    request = service_pb2.ModelInferRequest(model_name=model.name, model_version=version)
    tensor = request.inputs.add(name=model.input, datatype=model.datatype, shape=rows.shape)
    field_name = {"FP64": "fp64_contents", "FP32": "fp32_contents"}[model.datatype]
    getattr(tensor.contents, field_name).extend(rows.reshape(-1).tolist())
    with triton.InferenceServerClient(address) as client:
        (output,) = _infer(client, request).outputs
    return np.array(getattr(output.contents, field_name)).reshape(output.shape)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def arrow(columns: Mapping[str, Any]) -> bytes:
    table = pa.table(dict(columns))
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue()


def arrow_bomb(size: int) -> bytes:
    table = pa.table({"a": np.zeros(size // 8)})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as stream:
        stream.write_table(table)
    return sink.getvalue()


def npz_bomb(size: int) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, X=np.zeros(size // 4, "<f4"))
    return file.getvalue()


def binary_request(model: Model, rows: np.ndarray, **changes: Any) -> tuple[bytes, dict[str, str]]:
    data = rows.astype(model.dtype).tobytes()
    tensor = {
        "name": model.input,
        "datatype": model.datatype,
        "shape": [*rows.shape],
        "parameters": {"binary_data_size": len(data)},
    } | changes
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return head + data, {LENGTH: str(len(head))}


def read_binary(answer: HttpAnswer) -> np.ndarray:
    length = int(answer.headers[LENGTH.lower()])
    (output,) = json.loads(answer.body[:length])["outputs"]
    dtype = {"FP64": "<f8", "FP32": "<f4"}[output["datatype"]]
    return np.frombuffer(answer.body[length:], dtype).reshape(output["shape"])


DOORS: tuple[Ask, ...] = (
    native_rows, native_columns, native_npy, native_npz, native_arrow, native_csv, oip_json, oip_binary, oip_raw, tf_rows,
    tf_columns, tf_regress, grpc_raw, grpc_explicit,
)  # fmt: skip


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
@pytest.mark.parametrize("version", ["", "1", "stable"])
def test_the_same_numbers_through_every_door(
    served: tuple[ServerProcess, str], model: Model, version: str
) -> None:
    answers = {ask.__name__: ask(*served, model, version, FEW).reshape(-1) for ask in DOORS}
    first = answers["grpc_raw"]
    np.testing.assert_allclose(first, LINEAR.predict(FEW), rtol=model.rtol)
    for door, found in answers.items():
        # In JSON and CSV a float32 may have as few digits as tell it from its neighbours.
        np.testing.assert_array_equal(found.astype(first.dtype), first, err_msg=door)


def test_the_same_numbers_through_the_platforms_door(
    served: tuple[ServerProcess, str], platform: ServerProcess
) -> None:
    expected = native_rows(*served, MODELS[0], "", FEW)
    csv = "\n".join(",".join(map(repr, row)) for row in FEW.tolist()).encode()
    json_answer = platform.request("POST", "/models/linear/invoke", {"instances": FEW.tolist()})
    csv_answer = platform.request("POST", "/invocations", csv, headers={"Content-Type": "text/csv"})
    np.testing.assert_array_equal(json_answer.json["predictions"], expected)
    np.testing.assert_array_equal([float(line) for line in csv_answer.body.split()], expected)


# What is too much


def deep_body(template: bytes, levels: int) -> bytes:
    """Fill a template, whose own levels count too, so that it has so many."""
    before = template.partition(b"@")[0]
    own = sum(map(before.count, (b"{", b"["))) - sum(map(before.count, (b"}", b"]")))
    return template.replace(b"@", b"[" * (levels - own) + b"]" * (levels - own))


JSON_DOORS = {
    "native": ("/models/graph/predict", b'{"instances": @}'),
    "native, what is unknown": ("/models/graph/predict", b'{"instances": [[1.0, 2.0, 3.0]], "more": [@]}'),
    "oip": ("/v2/models/graph/infer", b'{"inputs": [{"name": "X", "more": @}]}'),
    "oip, parameters": ("/v2/models/graph/infer", b'{"inputs": [], "parameters": {"a": @}}'),
    "oip, data": ("/v2/models/graph/infer", b'{"inputs": [{"name": "X", "data": @}]}'),
    "tfserving": ("/v1/models/graph:predict", b'{"inputs": @}'),
    "classify": ("/v1/models/graph:classify", b'{"examples": [{"a": @}]}'),
    "oip, the index": ("/v2/repository/index", b'{"more": @}'),
    "oip, a load": ("/v2/repository/models/graph/load", b'{"parameters": {"a": @}}'),
    "sagemaker": ("/models/linear/invoke", b'{"inputs": @}'),
    "sagemaker, a load": ("/models", b'{"more": @}'),
}


@pytest.mark.parametrize("door", JSON_DOORS)
def test_json_may_nest_as_deep_as_the_setting_says(
    served: tuple[ServerProcess, str], platform: ServerProcess, door: str
) -> None:
    path, template = JSON_DOORS[door]
    server = platform if door.startswith("sagemaker") else served[0]
    words = f"more than {DEPTH} levels (max_json_depth)"
    found = server.request("POST", path, deep_body(template, DEPTH))
    assert words not in found.body.decode(), "one less is not too deep"
    refused = server.request("POST", path, deep_body(template, DEPTH + 1))
    assert (refused.status, refused.json["kind"]) == (400, "invalid_input")
    assert words in refused.json["error"]


def test_json_behind_which_there_are_binary_inputs_is_bounded_too(served: tuple[ServerProcess, str]) -> None:
    body, headers = binary_request(GRAPH, FEW, more=json.loads("[" * DEPTH + "]" * DEPTH))
    answer = served[0].request("POST", "/v2/models/graph/infer", body, headers=headers)
    assert (answer.status, "max_json_depth" in answer.json["error"]) == (400, True)


MANY = np.zeros((ELEMENTS // 3 + 1, 3))


@pytest.mark.parametrize("ask", DOORS, ids=lambda ask: ask.__name__)
def test_a_tensor_may_have_as_many_elements_as_the_setting_says(
    served: tuple[ServerProcess, str], ask: Ask
) -> None:
    with pytest.raises((AssertionError, InferenceServerException), match="max_tensor_elements"):
        ask(*served, GRAPH, "", MANY)
    ask(*served, GRAPH, "", MANY[:-1])


# What is wrong


@dataclass(frozen=True)
class Wrong:
    what: str
    path: str
    body: object
    says: str
    headers: Mapping[str, str] = field(default_factory=dict)
    statuses: tuple[int, ...] = (400,)


GOOD = {"name": "X", "datatype": "FP32", "shape": [1, 3], "data": [1.0, 2.0, 3.0]}
DEEP = b"[" * 50_000 + b"]" * 50_000
HUGE = 2**40


def oip_wrong() -> Iterator[Wrong]:
    path = "/v2/models/graph/infer"

    def inputs(*tensors: Mapping[str, Any]) -> dict[str, Any]:
        return {"inputs": list(tensors)}

    yield Wrong("name", path, inputs(GOOD | {"name": "other"}), "other")
    yield Wrong("dtype", path, inputs(GOOD | {"datatype": "FP64"}), "input 'X'")
    yield Wrong("no dtype", path, inputs(GOOD | {"datatype": "FP99"}), "FP99")
    yield Wrong("shape", path, inputs(GOOD | {"shape": [1, 2], "data": [1.0, 2.0]}), "input 'X'")
    yield Wrong("count", path, inputs(GOOD | {"shape": [2, 3]}), "input 'X'")
    yield Wrong("missing", path, inputs(), "X")
    yield Wrong("extra", path, inputs(GOOD, GOOD | {"name": "other"}), "other")
    yield Wrong("deep", path, b'{"inputs": %b}' % DEEP, "")
    yield Wrong("huge", path, inputs(GOOD | {"shape": [HUGE, HUGE]}), "input 'X'")
    yield Wrong("negative", path, inputs(GOOD | {"shape": [-1, 3]}), "input 'X'")
    yield Wrong(
        "NaN",
        path,
        b'{"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 3], "data": [NaN, 1, 2]}]}',
        "",
    )
    yield Wrong("no JSON", path, b"\xff\x00", "")
    yield Wrong("content type", path, b"a=1&b=2", "", {"Content-Type": "application/x-www-form-urlencoded"})
    body, headers = binary_request(GRAPH, FEW)
    yield Wrong("truncated binary", path, body[:-4], "input 'X'", headers)
    yield Wrong("more binary", path, body + b"\0", "", headers)
    yield Wrong("length beyond the body", path, body, LENGTH, {LENGTH: "99999999"})
    yield Wrong("length that is none", path, body, LENGTH, {LENGTH: "-1"})
    huge, headers = binary_request(GRAPH, FEW, shape=[HUGE, 3])
    yield Wrong("huge binary", path, huge, "input 'X'", headers)
    yield Wrong("raw, truncated", path, b"\0" * 13, "input 'X'", {LENGTH: "0"})
    nan = np.full((1, 3), np.nan)
    body, headers = binary_request(MODELS[0], nan)
    yield Wrong("NaN in binary", "/v2/models/linear/infer", body, "NaN", headers)


def native_wrong(path: str, name: str, *, takes_any: bool = False) -> Iterator[Wrong]:
    yield Wrong("name", path, {"inputs": {"other": [[1.0, 2.0, 3.0]]}}, "other")
    yield Wrong("dtype", path, {"instances": [["a", "b", "c"]]}, "input" if takes_any else "instances[0]")
    yield Wrong("shape", path, {"instances": [[1.0, 2.0]]}, name)
    yield Wrong("count", path, {"instances": [[1.0, 2.0, 3.0], [1.0]]}, "instances[1]")
    yield Wrong("missing", path, {}, "instances")
    yield Wrong("extra", path, {"inputs": {name: [[1.0, 2.0, 3.0]], "other": [1.0]}}, "other")
    yield Wrong("deep", path, b'{"instances": %b}' % DEEP, "")
    yield Wrong("deep inputs", path, b'{"inputs": %b}' % DEEP, "")
    yield Wrong("no JSON", path, b"\xff\x00", "")
    yield Wrong("huge number", path, b'{"instances": [[1e999, 1, 2]]}', "")


def binary_wrong(path: str) -> Iterator[Wrong]:
    good_npy = npy(FEW.astype("<f4"))
    huge = good_npy.replace(b"(5, 3)", b"(%d, 3)" % HUGE)[:200]
    yield Wrong("npy, truncated", path, good_npy[:-1], "", {"Content-Type": NPY})
    yield Wrong("npy, dtype", path, npy(FEW.astype("<f8")), "X", {"Content-Type": NPY})
    yield Wrong("npy, shape", path, npy(FEW[:, :2].astype("<f4")), "X", {"Content-Type": NPY})
    yield Wrong("npy, huge", path, huge, "", {"Content-Type": NPY})
    yield Wrong("npy, no more than its magic", path, good_npy[:8], "", {"Content-Type": NPY})
    yield Wrong("npz that is npy", path, good_npy, "", {"Content-Type": NPZ})
    yield Wrong("arrow, truncated", path, arrow({"a": [1.0]})[:40], "", {"Content-Type": ARROW})
    yield Wrong("arrow, count", path, arrow({"a": [1.0], "b": [1.0]}), "X", {"Content-Type": ARROW})
    yield Wrong("arrow, bomb", path, arrow_bomb(2 << 20), "max_body_size", {"Content-Type": ARROW})
    yield Wrong("npz, bomb", path, npz_bomb(2 << 20), "max_body_size", {"Content-Type": NPZ})
    yield Wrong("csv, count", path, b"1,2,3\n1\n", "", {"Content-Type": "text/csv"})
    yield Wrong("csv, text", path, b"1,2,a\n", "", {"Content-Type": "text/csv"})
    yield Wrong("gzip that is none", path, b"{}", "", {"Content-Encoding": "gzip"})


WRONG: dict[str, tuple[Wrong, ...]] = {
    "native": (*native_wrong("/models/graph/predict", "X"), *binary_wrong("/models/graph/predict")),
    "oip": tuple(oip_wrong()),
    "tfserving": tuple(native_wrong("/v1/models/graph:predict", "X")),
    "classify": (
        Wrong("missing", "/v1/models/graph:classify", {}, "examples"),
        Wrong("name", "/v1/models/graph:classify", {"examples": [{"other": 1.0, "more": 2.0}]}, "other"),
        Wrong("deep", "/v1/models/graph:regress", b'{"examples": %b}' % DEEP, ""),
        Wrong("shape", "/v1/models/graph:regress", {"examples": [{"X": [1.0]}]}, "X"),
    ),
}


def check_wrong(server: ServerProcess, wrong: Wrong) -> None:
    answer = server.request("POST", wrong.path, wrong.body, headers=dict(wrong.headers))
    assert answer.status in wrong.statuses, (wrong.what, answer.status, answer.body)
    assert answer.json["kind"] == "invalid_input", (wrong.what, answer.json)
    assert wrong.says in answer.json["error"], (wrong.what, answer.json)


@pytest.mark.parametrize("door", WRONG)
def test_what_is_wrong_is_400_and_named_and_the_server_untouched(
    served: tuple[ServerProcess, str], door: str
) -> None:
    server, _ = served
    for model in MODELS:
        native_rows(*served, model, "", FEW)  # ready does not mean that a child has started
    children = {child.pid for child in server.children()}
    assert children
    for wrong in WRONG[door]:
        check_wrong(server, wrong)
    assert children <= {child.pid for child in server.children()}
    for model in MODELS:
        np.testing.assert_allclose(
            native_rows(*served, model, "", FEW).reshape(-1), LINEAR.predict(FEW), rtol=1e-4
        )


def test_the_same_at_the_platforms_door(platform: ServerProcess) -> None:
    for wrong in native_wrong("/models/linear/invoke", "input-0", takes_any=True):
        if wrong.what != "name":  # the only input of such a model has no name of its own, so any will do
            check_wrong(platform, wrong)
    good(platform.request("POST", "/models/linear/invoke", {"instances": FEW.tolist()}))


def test_the_same_over_grpc(served: tuple[ServerProcess, str]) -> None:
    _, address = served

    def request(**changes: Any) -> Any:
        asked = service_pb2.ModelInferRequest(model_name="graph")
        asked.inputs.add(**({"name": "X", "datatype": "FP32", "shape": [1, 3]} | changes))
        return asked

    def raw(data: bytes, **changes: Any) -> Any:
        asked = request(**changes)
        asked.raw_input_contents.append(data)
        return asked

    def numbers(*values: float, **changes: Any) -> Any:
        asked = request(**changes)
        asked.inputs[0].contents.fp32_contents.extend(values)
        return asked

    row = struct.pack("<3f", 1, 2, 3)
    extra = raw(row)
    extra.inputs.add(name="other", datatype="FP32", shape=[1])
    extra.raw_input_contents.append(row[:4])
    nan = raw(struct.pack("<3d", *[float("nan")] * 3), name="input-0", datatype="FP64")
    nan.model_name = "linear"
    cases = {
        "name": (raw(row, name="other"), "other"),
        "dtype": (raw(row * 2, datatype="FP64"), "input 'X'"),
        "no dtype": (raw(row, datatype="FP99"), "FP99"),
        "shape": (raw(row[:8], shape=[1, 2]), "input 'X'"),
        "count": (raw(row, shape=[2, 3]), "input 'X'"),
        "truncated": (raw(row[:-1]), "input 'X'"),
        "missing": (service_pb2.ModelInferRequest(model_name="graph"), "X"),
        "extra": (extra, "other"),
        "huge": (raw(row, shape=[HUGE, HUGE]), "input 'X'"),
        "negative": (raw(row, shape=[-1, 3]), "input 'X'"),
        "no data": (request(), "input 'X'"),
        "count of numbers": (numbers(1, 2), "input 'X'"),
        "huge numbers": (numbers(1, 2, 3, shape=[HUGE, 3]), "input 'X'"),
        "NaN": (nan, "NaN"),
    }
    with triton.InferenceServerClient(address) as client:
        for what, (asked, says) in cases.items():
            with pytest.raises(InferenceServerException) as found:
                _infer(client, asked)
            assert found.value.status() == "StatusCode.INVALID_ARGUMENT", (what, found.value)
            assert says in found.value.message(), (what, found.value.message())
    np.testing.assert_allclose(grpc_raw(*served, GRAPH, "", FEW).reshape(-1), LINEAR.predict(FEW), rtol=1e-4)


def _infer(client: Any, request: Any) -> Any:
    import grpc

    try:
        return client._client_stub.ModelInfer(request)
    except grpc.RpcError as error:
        raise InferenceServerException(error.details(), status=str(error.code())) from error
