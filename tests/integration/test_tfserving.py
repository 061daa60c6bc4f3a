"""TensorFlow Serving's REST API of a real server, as its clients use it; the numbers are the frameworks' own."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skl2onnx import to_onnx
from sklearn.linear_model import LinearRegression, LogisticRegression

from model_files import write_predictor
from server_process import ServerProcess, running_server

pytestmark = pytest.mark.slow

ROWS = np.random.default_rng(3).normal(size=(40, 3))
NAMES = np.array(["oslo", "paris", "rome"])[np.argmax(ROWS, axis=1)]
CLASSIFIER = LogisticRegression().fit(ROWS, NAMES)
REGRESSOR = LinearRegression().fit(ROWS, ROWS.sum(axis=1))

ECHO = """
class Predictor:
    def load_model(self, disk_path):
        return disk_path

    def predict(self, payload):
        return [len(row) for row in payload["instances"]]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    directory = tmp_path_factory.mktemp("tfserving")
    root = directory / "models"
    for name, files in {
        "classifier/1": {"model.pkl": pickle.dumps(CLASSIFIER)},
        "classifier/2": {"model.pkl": pickle.dumps(CLASSIFIER)},
        "regressor/7": {"model.pkl": pickle.dumps(REGRESSOR)},
        "graph/1": {
            "model.onnx": to_onnx(
                CLASSIFIER, ROWS[:1].astype("float32"), options={"zipmap": False}
            ).SerializeToString()
        },
        "torn/1": {"model.pkl": b"torn"},
    }.items():
        (root / name).mkdir(parents=True)
        for file, content in files.items():
            (root / name / file).write_bytes(content)
    with running_server(directory / "disk", model_dir=str(root), settle_time=0) as server:
        yield server


def post(server: ServerProcess, path: str, body: object) -> Any:
    answer = server.request("POST", f"/v1/models/{path}", body)
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def test_rows_and_columns_give_the_frameworks_numbers(server: ServerProcess) -> None:
    few = ROWS[:4].tolist()
    expected = REGRESSOR.predict(ROWS[:4])
    assert post(server, "regressor:predict", {"instances": few})["predictions"] == pytest.approx(expected)
    assert post(server, "regressor:predict", {"inputs": few})["outputs"] == pytest.approx(expected)
    named = [{"input-0": row} for row in few]
    signature = {"signature_name": "serving_default", "instances": named}
    assert post(server, "regressor/versions/7:predict", signature)["predictions"] == pytest.approx(expected)
    native = server.request("POST", "/models/regressor/predict", {"instances": few})
    assert native.json["predictions"] == pytest.approx(expected), "through another door"


def test_a_model_of_floats_and_several_outputs(server: ServerProcess) -> None:
    few = ROWS[:2].tolist()
    rows = post(server, "graph:predict", {"instances": few})["predictions"]
    columns = post(server, "graph:predict", {"inputs": few})["outputs"]
    assert [row["label"] for row in rows] == columns["label"] == CLASSIFIER.predict(ROWS[:2]).tolist()
    np.testing.assert_allclose(columns["probabilities"], CLASSIFIER.predict_proba(ROWS[:2]), rtol=1e-4)
    only = {"signature_name": "probabilities", "instances": few}
    np.testing.assert_allclose(
        post(server, "graph:predict", only)["predictions"], columns["probabilities"], rtol=1e-6
    )


@pytest.mark.parametrize(("model", "feature"), [("classifier", "input-0"), ("graph", "X")])
def test_classify(server: ServerProcess, model: str, feature: str) -> None:
    body = {"examples": [{feature: row} for row in ROWS[:3].tolist()]}
    results = post(server, f"{model}:classify", body)["results"]
    expected = CLASSIFIER.predict_proba(ROWS[:3])
    np.testing.assert_allclose([[score for _, score in row] for row in results], expected, rtol=1e-4)
    labels = ["oslo", "paris", "rome"] if model == "classifier" else ["", "", ""]
    assert [[label for label, _ in row] for row in results] == [labels] * 3


def test_regress(server: ServerProcess) -> None:
    body = {"examples": [{"x": row} for row in ROWS[:3].tolist()]}
    assert post(server, "regressor:regress", body)["results"] == pytest.approx(REGRESSOR.predict(ROWS[:3]))
    refused = server.request("POST", "/v1/models/classifier:regress", body)
    assert (refused.status, refused.json["kind"]) == (400, "invalid_input")


def test_status_and_metadata(server: ServerProcess) -> None:
    rows = server.request("GET", "/v1/models/classifier").json["model_version_status"]
    assert [(row["version"], row["state"]) for row in rows] == [("2", "AVAILABLE"), ("1", "AVAILABLE")]
    assert server.request("POST", "/v1/models/torn:predict", {"instances": [[1.0]]}).status == 500
    (torn,) = server.request("GET", "/v1/models/torn").json["model_version_status"]
    assert (torn["state"], torn["status"]["error_code"]) == ("END", "INTERNAL")
    assert "torn" in torn["status"]["error_message"] or "unpickle" in torn["status"]["error_message"]
    metadata = server.request("GET", "/v1/models/graph/metadata").json
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) == {"serving_default", "label", "probabilities"}
    assert signatures["serving_default"]["inputs"]["X"]["dtype"] == "DT_FLOAT"
    assert signatures["label"]["outputs"]["label"]["dtype"] == "DT_STRING"


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [[1.0, 2.0]]},
        {"instances": [["a", "b", "c"]]},
        {"instances": [[1.0, 2.0, 3.0], [1.0]]},
        {"inputs": {"nonsense": 3, "other": 4}},
        {"instances": [{"a": 1}, [1]]},
        b'{"instances": [[NaN, 1, 2]]}',
        b"[" * 20_000,
        b"\x00\xff",
    ],
)
def test_what_does_not_fit_is_400_and_the_server_goes_on(server: ServerProcess, body: object) -> None:
    for model in ("classifier", "graph"):
        answer = server.request("POST", f"/v1/models/{model}:predict", body)
        if body != b'{"instances": [[NaN, 1, 2]]}' or model == "classifier":
            assert answer.status == 400, answer.body
        assert "error" in answer.json or answer.status == 200
    assert server.request("POST", "/v1/models/graph:predict", {"instances": ROWS[:1].tolist()}).status == 200


def test_many_at_once_on_few_connections(server: ServerProcess) -> None:
    """Pipelined on the connection's short path, predicted together, answered in order."""
    expected = REGRESSOR.predict(ROWS)

    async def ask() -> list[float]:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        for row in ROWS.tolist():
            body = json.dumps({"instances": [row]}).encode()
            head = f"POST /v1/models/regressor:predict HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
        found = []
        for _ in ROWS:
            head_bytes = await reader.readuntil(b"\r\n\r\n")
            length = int(head_bytes.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            found.append(json.loads(await reader.readexactly(length))["predictions"][0])
        writer.close()
        await writer.wait_closed()
        return found

    async def all_of_it() -> list[list[float]]:
        return await asyncio.gather(*(ask() for _ in range(4)))

    for found in asyncio.run(asyncio.wait_for(all_of_it(), 60)):
        assert found == pytest.approx(expected)


def test_the_users_code_is_asked_as_by_its_own_route(tmp_path: Path) -> None:
    (tmp_path / "models" / "paris" / "1").mkdir(parents=True)
    (tmp_path / "models" / "paris" / "1" / "file").write_text("x")
    predictor = write_predictor(tmp_path, ECHO)
    settings = {"model_dir": str(tmp_path / "models"), "settle_time": 0, "predictor": str(predictor)}
    body = {"instances": [[1, 2], [3]]}
    with running_server(tmp_path / "disk", **settings) as server:
        assert post(server, "paris:predict", body) == {"predictions": [2, 1]}
        assert server.request("POST", "/models/paris/predict", body).json == [2, 1]
        wrong = server.request("POST", "/v1/models/paris:predict", {"payload": 1})
        assert (wrong.status, wrong.json["error"]) == (400, "Missing 'inputs' or 'instances' key")
