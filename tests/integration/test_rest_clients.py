"""The Open Inference Protocol over REST of a real server, asked by clients as they are, each in a process of its own.

The checks are in ``tests/rest_clients``, one file for each client.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from client_process import KSERVE_PYTHON, run_client
from server_process import ServerProcess, running_server

TYPES = {
    "BOOL": TensorProto.BOOL,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}
BF16_PREDICTOR = """
import ml_dtypes


class Predictor:
    def load_model(self, disk_path):
        return None

    def predict(self, model, payload):
        return {"wide": payload["x"], "narrow": payload["x"].astype(ml_dtypes.bfloat16)}
"""
ECHO_PREDICTOR = """
class Predictor:
    def load_model(self, disk_path):
        return None

    def predict(self, model, payload):
        return payload
"""

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("rest-clients")]


def write_identity(path: Path, tensors: dict[str, tuple[str, str, int]], width: object) -> None:
    """Write an ONNX model that answers each input, by its output's name, as it is."""
    shape = [None, width]
    graph = helper.make_graph(
        [helper.make_node("Identity", [one], [other]) for one, other, _ in tensors.values()],
        "identity",
        [helper.make_tensor_value_info(one, kind, shape) for one, _, kind in tensors.values()],
        [helper.make_tensor_value_info(other, kind, shape) for _, other, kind in tensors.values()],
    )
    path.mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path / "model.onnx")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    place = tmp_path_factory.mktemp("rest")
    models = place / "models"
    write_identity(
        models / "types" / "1", {name: (f"in_{name}", f"out_{name}", it) for name, it in TYPES.items()}, 3
    )
    for name in ("large", "spare"):
        write_identity(models / name / "1", {"x": ("x", "y", TensorProto.DOUBLE)}, 4)
    for name, code in (("bf16", BF16_PREDICTOR), ("echo", ECHO_PREDICTOR)):
        (models / name / "1").mkdir(parents=True)
        (models / name / "1" / "predictor.py").write_text(code)
    with running_server(
        place / "disk", model_dir=models, settle_time=0, max_body_size="16MiB", threads_per_process=2
    ) as server:
        yield server


@pytest.mark.parametrize("script", ["triton_sync", "triton_aio"])
def test_a_client_as_it_is(server: ServerProcess, script: str) -> None:
    run_client(f"rest_clients/{script}", f"127.0.0.1:{server.port}")
    assert server.process.poll() is None
    assert not [line for line in server.lines() if "unexpectedly" in str(line.get("message"))]


@pytest.mark.skipif(KSERVE_PYTHON not in os.environ, reason="`make test-kserve` has what it needs")
def test_kserves_client(server: ServerProcess) -> None:
    python = os.environ[KSERVE_PYTHON]
    run_client("rest_clients/kserve_client", f"127.0.0.1:{server.port}", python=python)


def test_a_raw_request(server: ServerProcess) -> None:
    array = np.arange(8.0).reshape(2, 4)
    head = {"Inference-Header-Content-Length": "0", "Content-Type": "application/octet-stream"}
    answer = server.request("POST", "/v2/models/large/infer", array.tobytes(), headers=head)
    assert answer.status == 200, answer.body
    length = int(answer.headers["inference-header-content-length"])
    assert json.loads(answer.body[:length])["outputs"][0]["shape"] == [2, 4]
    assert answer.body[length:] == array.tobytes()
    torn = server.request("POST", "/v2/models/large/infer", array.tobytes()[:-1], headers=head)
    assert (torn.status, "input 'x'" in torn.json["error"]) == (400, True)


def test_metadata_of_a_model_that_was_loaded_once_does_not_load_it(server: ServerProcess) -> None:
    server.request("POST", "/v2/repository/models/spare/load")
    server.request("POST", "/v2/repository/models/spare/unload")
    loads = server.loads
    for path in ("", "/config", "/versions/1", "/versions/1/config", "/stats", "/ready"):
        assert server.request("GET", f"/v2/models/spare{path}").status == 200
    assert server.loads == loads
    (row,) = [it for it in server.request("POST", "/v2/repository/index").json if it["name"] == "spare"]
    assert row["state"] == "UNAVAILABLE"
