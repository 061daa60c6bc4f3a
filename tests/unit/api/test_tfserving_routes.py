"""TensorFlow Serving's routes: its shapes, its words, its statuses."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from hotset.api.tfserving_routes import signature_defs
from hotset.errors import ErrorKind
from hotset.keys import ModelRef
from hotset.payload import Signature, TensorSpec
from hotset.status import ModelStatus, VersionState, VersionStatus
from unit.api.scripted import Bench

OK = {"error_code": "OK", "error_message": ""}


async def test_the_versions_of_a_model_the_newest_first(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/models/paris")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    rows = answer.json()["model_version_status"]
    assert rows == [{"version": version, "state": "AVAILABLE", "status": OK} for version in ("7", "2", "1")]


@pytest.mark.parametrize("path", ["/v1/models/paris", "/v1/models/paris/metadata", "/v1/models"])
async def test_a_status_that_is_posted_is_malformed(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.post(path)
    assert (answer.status_code, answer.json()["error"]) == (400, f"Malformed request: POST {path}")


async def test_one_version(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/models/acme%2Frome/versions/3")
    assert answer.json() == {"model_version_status": [{"version": "3", "state": "AVAILABLE", "status": OK}]}


async def test_available_means_servable_and_resident_is_the_strict_question(
    client: httpx.AsyncClient,
) -> None:
    async def state(query: str) -> Any:
        answer = await client.get(f"/v1/models/oslo{query}")
        return answer.json()["model_version_status"][0]["state"]

    assert await state("") == "AVAILABLE"
    assert await state("?resident=true") == "START"
    assert (await client.get("/v1/models/oslo?resident=2")).status_code == 400


@pytest.mark.parametrize(
    ("state", "failure", "shown", "resident"),
    [
        (VersionState.READY, None, "AVAILABLE", "AVAILABLE"),
        (VersionState.LOADING, None, "LOADING", "LOADING"),
        (VersionState.UNLOADING, None, "AVAILABLE", "UNLOADING"),
        (VersionState.UNAVAILABLE, None, "AVAILABLE", "START"),
        (VersionState.UNAVAILABLE, ErrorKind.LOAD_FAILED, "END", "END"),
        (VersionState.UNAVAILABLE, ErrorKind.TOO_LARGE, "END", "END"),
    ],
)
async def test_states(
    bench: Bench,
    client: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    state: VersionState,
    failure: ErrorKind | None,
    shown: str,
    resident: str,
) -> None:
    version = VersionStatus("paris", 7, state, "disk", reason="why", failure=failure)

    async def model(name: str, *, deadline_s: float) -> ModelStatus:
        return ModelStatus(name, 7, versions=(version,))

    monkeypatch.setattr(bench.residency, "model", model)
    for query, expected in (("", shown), ("?resident=1", resident)):
        row = (await client.get(f"/v1/models/paris{query}")).json()["model_version_status"][0]
        assert row["state"] == expected
    code = {None: "OK", ErrorKind.LOAD_FAILED: "INTERNAL", ErrorKind.TOO_LARGE: "RESOURCE_EXHAUSTED"}[failure]
    assert row["status"] == {"error_code": code, "error_message": "why" if failure else ""}


async def test_metadata_has_the_protocols_shape(client: httpx.AsyncClient) -> None:
    tensors = {
        "inputs": {
            "input-0": {
                "dtype": "DT_DOUBLE",
                "tensor_shape": {
                    "dim": [{"size": "-1", "name": ""}, {"size": "3", "name": ""}],
                    "unknown_rank": False,
                },
                "name": "input-0:0",
            }
        },
        "outputs": {
            "predict": {
                "dtype": "DT_DOUBLE",
                "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False},
                "name": "predict:0",
            }
        },
    }
    default = {**tensors, "method_name": "tensorflow/serving/predict", "defaults": {}}
    for path, version in (("paris", "7"), ("paris/versions/2", "2")):
        answer = await client.get(f"/v1/models/{path}/metadata")
        assert answer.json() == {
            "model_spec": {"name": "paris", "signature_name": "", "version": version},
            "metadata": {"signature_def": {"signature_def": {"serving_default": default}}},
        }


def test_where_there_are_several_outputs_each_has_a_signature() -> None:
    outputs = (TensorSpec("a", "FP32", (-1,)), TensorSpec("b", "BYTES", (-1,)))
    defs = signature_defs(Signature("onnx", (TensorSpec("x", "UINT8", ()),), outputs))
    assert {name: sorted(it["outputs"]) for name, it in defs.items()} == {
        "serving_default": ["a", "b"],
        "a": ["a"],
        "b": ["b"],
    }
    assert defs["a"]["outputs"]["a"]["dtype"] == "DT_FLOAT"
    assert defs["b"]["outputs"]["b"]["dtype"] == "DT_STRING"
    assert defs["a"]["inputs"]["x"] == {
        "dtype": "DT_UINT8",
        "tensor_shape": {"dim": [], "unknown_rank": False},
        "name": "x:0",
    }


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("POST", "/v1/models/atlantis:predict", 404, "Servable not found for request: Latest(atlantis)"),
        ("POST", "/v1/models/paris/versions/9:classify", 404, "Servable not found for request: Specific(paris, 9)"),
        ("POST", "/v1/models/paris/labels/canary:regress", 400, "Unrecognized servable version label: canary"),
        ("POST", "/v1/models/paris/labels/9:predict", 400, "Unrecognized servable version label: 9"),
        ("GET", "/v1/models/atlantis", 404, "Could not find any versions of model atlantis"),
        ("GET", "/v1/models/paris/versions/9", 404, "Could not find version 9 of model paris"),
        ("GET", "/v1/models/paris/labels/canary", 400, "Unrecognized servable version label: canary"),
        ("GET", "/v1/models/atlantis/metadata", 404, "Servable not found for request: Latest(atlantis)"),
        ("GET", "/v1/models/paris/labels/canary/metadata", 400, "Unrecognized servable version label: canary"),
        ("GET", "/v1/models", 400, "Missing model name in request."),
        ("POST", "/v1/foo", 400, "Malformed request: POST /v1/foo"),
        ("GET", "/v1/", 400, "Malformed request: GET /v1/"),
    ],
)  # fmt: skip
async def test_the_words_and_statuses_that_clients_match(
    client: httpx.AsyncClient, method: str, path: str, status: int, words: str
) -> None:
    answer = await client.request(method, path)
    assert (answer.status_code, answer.json()["error"]) == (status, words)
    assert answer.headers["content-type"] == "application/json"


async def test_latest_may_stand_where_a_label_does(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/models/paris/labels/latest:predict", content=b"{}")
    assert answer.headers["x-model-version"] == "7"


async def test_what_is_exhausted_is_429_with_a_time(bench: Bench, client: httpx.AsyncClient) -> None:
    full = fill_queue(bench)
    answer = await client.post("/v1/models/paris:predict", content=b"{}")
    full()
    assert (answer.status_code, answer.json()["kind"]) == (429, "overloaded")
    assert "retry-after" in answer.headers


def fill_queue(bench: Bench) -> Any:
    """Fill the queue; return what empties it."""
    count = bench.dataplane.max_queue
    for _ in range(count):
        bench.dataplane.enter(ModelRef("paris"))
    return lambda: [bench.dataplane.leave() for _ in range(count)]


def test_a_model_that_names_its_signatures_shows_those() -> None:
    other = Signature("tensorflow", (TensorSpec("w", "BYTES", ()),), name="words")
    defs = signature_defs(
        Signature("tensorflow", (TensorSpec("x", "FP32", ()),), name="mean", others=(other,))
    )
    assert {name: list(it["inputs"]) for name, it in defs.items()} == {"mean": ["x"], "words": ["w"]}
