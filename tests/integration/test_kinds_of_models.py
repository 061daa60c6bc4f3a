"""Every kind of model and of configuration that the first page promises, asked over HTTP through a real server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import joblib
import numpy as np
import pytest
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from load_client import Connection
from model_files import SLOW_PREDICTOR, write_predictor, write_regressor, write_value
from server_process import running_server, start_server

INSTANCES = {"instances": [[0.0]]}

EVERY_ARGUMENT = '''
import json
import pathlib
import threading


class Predictor:
    """Answers with all that it was given, and where it runs."""

    def __init__(self, config):
        self.greeting = config["greeting"]
        self.barrier = threading.Barrier(2)

    def load_model(self, disk_path):
        return json.loads((pathlib.Path(disk_path) / "value.json").read_text())

    def predict(self, model, payload, query_params, headers, model_name, model_version):
        if payload == "together":
            return {"others": self.barrier.wait(timeout=20) >= 0}
        return {
            "greeting": self.greeting,
            "model": model,
            "payload": payload.decode() if isinstance(payload, bytes) else payload,
            "query": query_params,
            "tenant": headers.get("x-tenant"),
            "name": model_name,
            "version": model_version,
        }
'''


def test_a_predictor_is_given_what_it_asks_for(bucket, tmp_path: Path) -> None:
    """The settings come from a file in YAML, a variable and a flag; each wins where it should."""
    for version in (1, 2, 10):
        write_value(bucket.root, "acme/paris", f"v{version}", {"city": "paris", "v": version})
    write_value(bucket.root, "acme/rome", 1, {"city": "rome"})
    (bucket.root / "acme" / "README.md").write_text("a stray file")
    (bucket.root / "acme" / "paris" / "notes.txt").write_text("another one")
    write_predictor(tmp_path, EVERY_ARGUMENT)
    config = tmp_path / "hotset.yaml"
    config.write_text(
        f"""
model_dir: {bucket.url}
name_depth: 2
predictor: {tmp_path}/predictor.py
predictor_config: {{greeting: hello}}
model_cache_size: {{models: 3, bytes: 1GiB}}
disk_model_cache_size: 10
sync_interval: 60s
settle_time: 5m
request_timeout: 20s
processes_per_replica: 3
threads_per_process: 4
"""
    )
    environment = {
        **bucket.server.environment,
        "HOTSET_SETTLE_TIME": "0",
        "HOTSET_PROCESSES_PER_REPLICA": "2",
    }
    with running_server(
        tmp_path / "disk", config=config, environment=environment, processes_per_replica=1
    ) as server:
        assert len(server.children()) == 2, "one, and one so that loads disturb nobody"
        answer = server.predict(
            "acme/paris/versions/2", {"rows": [1, 2]}, headers={"X-Tenant": "acme", "X-Other": "1"}
        )
        assert answer.json == {
            "greeting": "hello",
            "model": {"city": "paris", "v": 2},
            "payload": {"rows": [1, 2]},
            "query": {},
            "tenant": "acme",
            "name": "acme/paris",
            "version": 2,
        }
        assert (answer.version, answer.headers["x-model-name"]) == (2, "acme/paris")
        answer = server.request(
            "POST",
            "/models/acme/paris/predict?lang=fr&lang=it&empty=",
            "Grüße".encode(),
            headers={"Content-Type": "application/octet-stream"},
        )
        assert answer.version == 10, "versions are numbers and not text"
        assert answer.json["payload"] == "Grüße"
        assert answer.json["query"] == {"lang": "it", "empty": ""}
        assert answer.json["tenant"] is None
        assert server.predict("acme/rome").json["model"] == {"city": "rome"}
        assert set(server.models()) == {"acme/paris", "acme/rome"}
        missing = server.predict("acme/oslo")
        assert (missing.status, missing.json["kind"]) == (404, "model_not_found")
        missing = server.predict("acme/paris/versions/3")
        assert (missing.status, missing.json["kind"]) == (404, "version_not_found")
        assert server.tier("memory")["capacity_models"] == 3


async def test_two_processes_with_two_threads_each_run_python_code_side_by_side(tmp_path: Path) -> None:
    """Two calls of one model meet at a barrier, which only threads of one process can; both processes hold models."""
    models = tmp_path / "models"
    for number in range(4):
        write_value(models, f"m{number}", 1, number)
    with running_server(
        tmp_path / "disk",
        model_dir=models,
        settle_time=0,
        predictor=write_predictor(tmp_path, EVERY_ARGUMENT),
        predictor_config={"greeting": "hi"},
        processes_per_replica=2,
        threads_per_process=2,
        isolation="shared",
    ) as server:
        assert len(server.children()) == 2
        for number in range(4):
            assert server.predict(f"m{number}").json["model"] == number
        assert [worker["models"] for worker in server.status()["server"]["workers"]] == [2, 2]

        async def together() -> None:
            async with (
                Connection(server.host, server.port) as one,
                Connection(server.host, server.port) as two,
            ):
                calls = (connection.predict("m0", b'"together"') for connection in (one, two))
                answers = await asyncio.gather(*calls)
            assert [(it.status, it.json) for it in answers] == [(200, {"others": True})] * 2

        for _ in range(5):
            await together()
        assert server.terminate() == 0
        assert server.left_behind() == []


async def test_without_processes_models_live_in_threads_of_the_server(tmp_path: Path) -> None:
    models = tmp_path / "models"
    for number in range(6):
        write_value(models, f"m{number}", 1, {"value": {"is": number}})
    with running_server(
        tmp_path / "disk",
        model_dir=models,
        settle_time=0,
        predictor=write_predictor(tmp_path, SLOW_PREDICTOR),
        model_cache_size=3,
        processes_per_replica=0,
        threads_per_process=2,
    ) as server:
        assert server.children() == []
        async with Connection(server.host, server.port) as connection:
            for number in [*range(6), *range(6)]:
                answer = await connection.predict(f"m{number}")
                assert (answer.status, answer.json) == (200, {"is": number})
        assert server.tier("memory")["models"] == 3
        assert server.terminate() == 0


def test_frameworks_are_told_by_their_files(bucket, tmp_path: Path) -> None:
    """scikit-learn and ONNX side by side, versioned and not, through both protocols."""
    source = np.random.default_rng(1)
    inputs = source.normal(size=(60, 3)).astype(np.float32)
    classifier = LogisticRegression().fit(inputs, inputs[:, 0] > 0)
    scaler = StandardScaler().fit(inputs)
    for name, content in {"classifier/1/model.joblib": classifier, "scaler/model.joblib": scaler}.items():
        path = bucket.root / name
        path.parent.mkdir(parents=True)
        joblib.dump(content, path)
    onnx = bucket.root / "onnx-classifier" / "3"
    onnx.mkdir(parents=True)
    exported = to_onnx(classifier, inputs[:1], options={"zipmap": False})
    (onnx / "model.onnx").write_bytes(exported.SerializeToString())
    write_regressor(bucket.root, "regressor", 7, 42.5)
    few = inputs[:4].tolist()
    with (
        running_server(tmp_path / "disk", settle_time=0, **bucket.source) as server,
        httpx.Client(base_url=server.url, timeout=60) as http,
    ):

        def ask(model: str, **body: object) -> httpx.Response:
            answer = http.post(f"/models/{model}/predict", json=body)
            assert answer.status_code == 200, answer.text
            return answer

        assert ask("regressor", instances=[[1.0]]).json() == {"predictions": [42.5]}
        assert (
            ask("classifier", instances=few).json()["predictions"] == classifier.predict(inputs[:4]).tolist()
        )
        shares = ask("classifier", instances=few, outputs=["predict_proba"]).json()["predictions"]
        np.testing.assert_allclose(shares, classifier.predict_proba(inputs[:4]), rtol=1e-6)
        scaled = ask("scaler", instances=few, outputs=["transform"])
        assert scaled.headers["x-model-version"] == "1", "a model without versions has the one version 1"
        np.testing.assert_allclose(scaled.json()["predictions"], scaler.transform(inputs[:4]), rtol=1e-6)

        metadata = http.get("/v2/models/onnx-classifier").json()
        (declared,) = metadata["inputs"]
        assert (declared["datatype"], declared["shape"]) == ("FP32", [-1, 3])
        tensor = {**declared, "shape": [4, 3], "data": few}
        answer = http.post(
            "/v2/models/onnx-classifier/versions/3/infer", json={"id": "a1", "inputs": [tensor]}
        )
        assert answer.status_code == 200, answer.text
        outputs = {output["name"]: output for output in answer.json()["outputs"]}
        assert answer.json()["id"] == "a1"
        assert outputs["label"]["data"] == classifier.predict(inputs[:4]).astype(int).tolist()
        np.testing.assert_allclose(
            np.reshape(outputs["probabilities"]["data"], (4, 2)),
            classifier.predict_proba(inputs[:4]),
            rtol=1e-4,
        )
        wrong = http.post("/v2/models/onnx-classifier/infer", json={"inputs": [{**tensor, "shape": [4, 4]}]})
        assert wrong.status_code == 400
        assert declared["name"] in wrong.json()["error"]


def test_a_static_list_is_served_from_several_places(bucket, tmp_path: Path) -> None:
    write_regressor(bucket.root, "paris", "files", 75.0)
    write_regressor(tmp_path, "here", "rome", 6.0)
    config = tmp_path / "hotset.yaml"
    config.write_text(
        f"models:\n  eu/paris: {bucket.url}/paris/files\n  rome: {tmp_path}/here/rome\nsettle_time: 0s\npreload: all\n"
    )
    with running_server(tmp_path / "disk", config=config, environment=bucket.server.environment) as server:
        assert server.tier("memory")["models"] == 2, "ready means that what is to be preloaded is there"
        assert server.predict("eu/paris", INSTANCES).json == {"predictions": [75.0]}
        assert server.predict("rome", INSTANCES).json == {"predictions": [6.0]}
        refused = server.predict("rome/versions/1", INSTANCES)
        assert (refused.status, refused.json["kind"]) == (400, "version_not_allowed")
        assert server.predict("berlin", INSTANCES).status == 404
        assert server.loads == 2


def test_unversioned_and_versioned_models_mix_and_bad_ones_hide_nobody(bucket, tmp_path: Path) -> None:
    write_regressor(bucket.root, "plain", "", 1.0)
    write_regressor(bucket.root, "numbered", "3", 3.0)
    write_regressor(bucket.root, "numbered", "v12", 12.0)
    write_regressor(bucket.root, "broken", "1", 0.0)
    (bucket.root / "broken" / "1" / "model.pkl").write_bytes(b"not a pickle")
    (bucket.root / "stray.txt").write_text("beside the models")
    with running_server(tmp_path / "disk", settle_time=0, **bucket.source) as server:
        assert server.predict("plain", INSTANCES).json == {"predictions": [1.0]}
        assert server.predict("numbered", INSTANCES).json == {"predictions": [12.0]}
        assert server.predict("numbered/versions/3", INSTANCES).json == {"predictions": [3.0]}
        failed = server.predict("broken", INSTANCES)
        assert (failed.status, failed.json["kind"]) == (500, "load_failed")
        again = server.predict("broken", INSTANCES)
        assert (again.status, again.json["kind"]) == (500, "load_failed")
        assert len(server.events("load_failed")) == 1, "a failure is remembered until a retry is due"
        catalog = server.status()["server"]["catalog"]
        assert catalog["rejects"] == 1
        assert catalog["examples"][0]["path"] == "stray.txt"


@pytest.mark.parametrize(
    ("source", "line", "said"),
    [
        ("class Predictor:\n    def predict(self, model): ...\n", 1, "load_model"),
        ("class Predictor:\n    def load_model(self, disk_path) ...\n", 2, "SyntaxError"),
        (
            "class Predictor:\n    def load_model(self, disk_path): ...\n    def predict(self, modle): ...\n",
            3,
            "modle",
        ),
    ],
)
def test_a_predictor_that_does_not_fit_is_refused_at_start(
    source: str, line: int, said: str, tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir()
    predictor = write_predictor(tmp_path, source)
    server = start_server(tmp_path / "disk", model_dir=tmp_path / "models", predictor=predictor)
    assert server.process.wait(60) == 1
    message = server.log.read_text()
    assert f"{predictor}:{line}:" in message
    assert said in message
    assert "Traceback" not in message


def test_two_replicas_do_not_share_a_disk_path(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    with running_server(tmp_path / "disk", model_dir=tmp_path / "models") as server:
        second = start_server(tmp_path / "disk", model_dir=tmp_path / "models")
        assert second.process.wait(60) == 1
        assert str(server.pid) in second.log.read_text()
        assert server.request("GET", "/health/ready").status == 200
