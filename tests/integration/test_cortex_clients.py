"""``onnx_client`` and ``tensorflow_client`` of handlers written for Cortex, on models that the frameworks have saved."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest
import yaml

from server_process import running_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

MAKE_ONNX: Final = """
import sys
from pathlib import Path
import onnx
from onnx import TensorProto, helper

for factor in (1, 2):
    weights = helper.make_tensor("weights", TensorProto.FLOAT, [3, 1], [factor, factor, factor])
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["rows", "weights"], ["total"])],
        "total",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("total", TensorProto.FLOAT, ["batch", 1])],
        [weights],
    )
    folder = Path(sys.argv[1], str(factor))
    folder.mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, folder / "model.onnx")
"""

MAKE_TENSORFLOW: Final = """
import sys
import tensorflow as tf

class Totals(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="rows")])
    def total(self, rows):
        return {"total": tf.reduce_sum(rows, axis=1)}

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="rows")])
    def twice(self, rows):
        return {"total": 2 * tf.reduce_sum(rows, axis=1), "name": tf.fill([tf.shape(rows)[0]], "zürich")}

model = Totals()
tf.saved_model.save(model, sys.argv[1], signatures={"serving_default": model.total, "twice": model.twice})
"""

ONNX_HANDLER: Final = """
class ONNXPredictor:
    def __init__(self, onnx_client, config):
        self.client = onnx_client

    def predict(self, payload, query_params):
        outputs = self.client.predict(payload["rows"], query_params["model"], query_params.get("version", "latest"))
        return [output.tolist() for output in outputs]
"""

TENSORFLOW_HANDLER: Final = """
class Handler:
    def __init__(self, tensorflow_client, config):
        self.client = tensorflow_client

    def handle_post(self, payload):
        return self.client.predict({"rows": payload})
"""


def _make(script: str, directory: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", script, str(directory)], check=True, capture_output=True, timeout=120
    )


def _project(directory: Path, handler: str, **section: object) -> Path:
    (directory / "handler.py").write_text(handler)
    file = directory / "cortex.yaml"
    file.write_text(yaml.safe_dump({"name": "totals", "predictor": {"path": "handler.py", **section}}))
    return file


@pytest.mark.skipif(find_spec("onnxruntime") is None, reason="needs ONNX Runtime")
def test_onnx_models_answer_their_handler_and_every_other_door(tmp_path: Path) -> None:
    _make(MAKE_ONNX, tmp_path / "models" / "sum")
    file = _project(tmp_path, ONNX_HANDLER, type="onnx", models={"dir": "models", "cache_size": 1})
    with running_server(tmp_path / "disk", cortex=file, settle_time=0) as server:
        asked = {"rows": [[1, 2, 3], [0, 0, 1]]}
        assert server.request("POST", "/?model=sum", asked).json == [[[12.0], [2.0]]]
        assert server.request("POST", "/?model=sum&version=1", asked).json == [[[6.0], [1.0]]]
        one = server.request(
            "POST", "/?model=sum", {"rows": [1, 2, 3]}
        )  # a single example, as Cortex took it
        assert one.json == [[[12.0]]]
        assert server.predict("sum", {"instances": asked["rows"]}).json == {"predictions": [[12.0], [2.0]]}
        wrong = server.request("POST", "/?model=sum", {"rows": [["a", 2, 3]]})
        assert (wrong.status, wrong.json["kind"]) == (400, "invalid_input")


@pytest.mark.skipif(find_spec("tensorflow") is None, reason="needs TensorFlow")
def test_a_single_tensorflow_model_answers_with_the_signature_that_cortex_yaml_names(tmp_path: Path) -> None:
    _make(MAKE_TENSORFLOW, tmp_path / "model")
    models = {"path": "model", "signature_key": "twice"}
    file = _project(tmp_path, TENSORFLOW_HANDLER, type="tensorflow", models=models)
    with running_server(tmp_path / "disk", cortex=file, settle_time=0) as server:
        answer = server.request("POST", "/", [[1, 2, 3], [0, 0, 1]])
        assert answer.json == {"total": [12.0, 2.0], "name": ["zürich", "zürich"]}
        assert answer.headers["x-model-name"] == "totals"
