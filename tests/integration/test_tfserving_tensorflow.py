"""A SavedModel behind TensorFlow Serving's REST API: its signatures, its examples, its own numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from server_process import ServerProcess, running_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

LIMIT_S = 120

MAKER = """
import json, sys
import tensorflow as tf

class Model(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def half(self, x):
        return {"y": 0.5 * tf.reduce_sum(x, axis=1) + 2.0}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def grade(self, examples):
        found = tf.io.parse_example(examples, {"age": tf.io.FixedLenFeature([], tf.int64)})
        score = tf.sigmoid(tf.cast(found["age"], tf.float32) / 10.0 - 3.0)
        scores = tf.stack([1.0 - score, score], axis=1)
        return {"classes": tf.tile([["young", "old"]], [tf.shape(score)[0], 1]), "scores": scores}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="raw")])
    def reversed(self, raw):
        return {"raw_bytes": tf.strings.reduce_join(tf.reverse(tf.strings.bytes_split(raw).to_tensor(), [1]), axis=1)}

model = Model()
tf.saved_model.save(model, sys.argv[1], signatures={
    "serving_default": model.half, "grade": model.grade, "reversed": model.reversed,
})

def example(age):
    feature = tf.train.Feature(int64_list=tf.train.Int64List(value=[age]))
    return tf.train.Example(features=tf.train.Features(feature={"age": feature})).SerializeToString()

print(json.dumps({
    "half": model.half(tf.constant([[1.5, 2.0], [3.0, 4.25]]))["y"].numpy().tolist(),
    "scores": model.grade(tf.constant([example(20), example(70)]))["scores"].numpy().tolist(),
}))
"""


@dataclass(frozen=True)
class Served:
    server: ServerProcess
    answers: dict[str, Any]

    def post(self, verb: str, body: object) -> Any:
        answer = self.server.request("POST", f"/v1/models/half{verb}", body)
        assert answer.status == 200, answer.body
        return answer.json


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("tensorflow")
    version = directory / "models" / "half" / "123"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MAKER, str(version)],
        capture_output=True, text=True, check=False, timeout=LIMIT_S,
        env=dict(os.environ) | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    answers = json.loads(done.stdout.splitlines()[-1])
    models = str(Path(directory) / "models")
    settings = {"model_dir": models, "settle_time": 0, "request_timeout": LIMIT_S}
    with running_server(directory / "disk", **settings) as server:
        yield Served(server, answers)


def test_rows_and_columns(served: Served) -> None:
    rows = [[1.5, 2.0], [3.0, 4.25]]
    assert served.post(":predict", {"instances": rows}) == {"predictions": served.answers["half"]}
    assert served.post(":predict", {"inputs": {"x": rows}}) == {"outputs": served.answers["half"]}
    named = {"signature_name": "serving_default", "instances": [{"x": row} for row in rows]}
    assert served.post("/versions/123:predict", named) == {"predictions": served.answers["half"]}


def test_another_signature_and_its_bytes(served: Served) -> None:
    body = {"signature_name": "reversed", "instances": [{"b64": "AP8x"}]}
    assert served.post(":predict", body) == {"predictions": [{"b64": "Mf8A"}]}
    wrong = served.server.request(
        "POST", "/v1/models/half:predict", {"signature_name": "y", "instances": [[1.0, 2.0]]}
    )
    assert wrong.status == 400
    assert 'Serving signature name: "y" not found in signature def' in wrong.json["error"]


def test_examples_are_parsed_by_the_model(served: Served) -> None:
    body = {"signature_name": "grade", "examples": [{"age": 20}, {"age": [70]}]}
    results = served.post(":classify", body)["results"]
    assert [[label for label, _ in row] for row in results] == [["young", "old"]] * 2
    for row, scores in zip(results, served.answers["scores"], strict=True):
        assert [score for _, score in row] == pytest.approx(scores)
    assert served.post(":regress", {"examples": [{"x": [1.5, 2.0]}]})["results"] == pytest.approx(
        served.answers["half"][:1]
    )


def test_metadata_shows_every_signature(served: Served) -> None:
    metadata = served.server.request("GET", "/v1/models/half/metadata").json
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) == {"serving_default", "grade", "reversed"}
    assert metadata["model_spec"]["version"] == "123"
    dtypes = {
        name: {it["dtype"] for it in signature["inputs"].values()} for name, signature in signatures.items()
    }
    assert dtypes == {"serving_default": {"DT_FLOAT"}, "grade": {"DT_STRING"}, "reversed": {"DT_STRING"}}
