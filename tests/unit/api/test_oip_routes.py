from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import httpx
import pytest

from hotset.errors import LoadFailedError, PredictFailedError
from hotset.keys import ModelKey, ModelRef
from hotset.status import Executions
from unit.api.scripted import Bench, ScriptedModel


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
async def test_the_server_lists_only_what_it_has(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.json() == {
        "name": "hotset",
        "version": "1.2.3",
        "extensions": [
            "binary_tensor_data",
            "model_configuration",
            "model_repository",
            "model_repository(unload_dependents)",
            "statistics",
        ],
    }


async def test_health_has_status_and_body(bench: Bench, client: httpx.AsyncClient) -> None:
    assert (await client.get("/v2/health/live")).json() == {"live": True}
    assert (await client.get("/v2/health/ready")).json() == {"ready": True}
    bench.dataplane.drain()
    assert (await client.get("/v2/health/ready")).status_code == 503


@pytest.mark.parametrize("path", ["/v2/models/paris", "/v2/models/paris/versions/2"])
async def test_metadata_has_the_protocols_shape(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).json() == {
        "name": "paris",
        "versions": ["1", "2", "7"],
        "platform": "sklearn",
        "inputs": [{"name": "input-0", "datatype": "FP64", "shape": [-1, 3]}],
        "outputs": [{"name": "predict", "datatype": "FP64", "shape": [-1]}],
    }


async def test_ready_means_servable_and_resident_is_the_strict_question(client: httpx.AsyncClient) -> None:
    loose = await client.get("/v2/models/oslo/ready")
    strict = await client.get("/v2/models/oslo/ready", params={"resident": "true"})
    wrong = await client.get("/v2/models/oslo/ready", params={"resident": "maybe"})

    assert (loose.status_code, loose.json()) == (200, {"name": "oslo", "ready": True})
    assert (strict.status_code, strict.json()["ready"]) == (503, False)
    assert (wrong.status_code, wrong.json()["kind"]) == (400, "invalid_input")


async def test_unknown_names_and_versions_are_said_in_the_words_that_clients_match(
    client: httpx.AsyncClient,
) -> None:
    unknown = "Request for unknown model: 'atlantis' is not found"
    assert (await client.get("/v2/models/atlantis")).json()["error"] == unknown
    assert (await client.get("/v2/models/atlantis/ready")).json()["error"] == unknown
    assert (await client.post("/v2/models/atlantis/infer")).json()["error"] == unknown
    assert (await client.post("/v2/repository/models/atlantis/load")).json()["error"] == unknown
    version = await client.post("/v2/models/paris/versions/9/infer")
    assert version.json()["error"].endswith("version 9 is not found")


async def test_a_failed_load_is_said_in_the_words_that_clients_match(
    bench: Bench, client: httpx.AsyncClient
) -> None:
    bench.model("oslo").lease_steps = deque([LoadFailedError("the file is torn")])
    answer = await client.post("/v2/models/oslo/infer")
    assert answer.status_code == 500
    assert answer.json() == {"error": "failed to load 'oslo', the file is torn", "kind": "load_failed"}


@pytest.mark.parametrize("verb", ["load", "unload"])
@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"parameters": {}}', b'{"parameters": {"unload_dependents": false}}']
)
async def test_the_repository_verbs(bench: Bench, client: httpx.AsyncClient, verb: str, body: bytes) -> None:
    answer = await client.post(f"/v2/repository/models/acme/rome/{verb}", content=body)
    assert (answer.status_code, answer.json()) == (200, {"name": "acme/rome", verb: True})
    versioned = await client.post(f"/v2/repository/models/acme/rome/versions/3/{verb}", content=body)
    assert versioned.status_code == 200
    assert bench.residency.verbs == [(verb, ModelRef("acme/rome")), (verb, ModelRef("acme/rome", 3))]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[]", 400),
        (b"{", 400),
        (b'{"parameters": 3}', 400),
        (b'{"parameters": {"config": "{}"}}', 501),
        (b'{"parameters": {"file:1/model.onnx": "x"}}', 501),
    ],
)
async def test_a_load_that_brings_something_else_is_refused(
    bench: Bench, client: httpx.AsyncClient, body: bytes, status: int
) -> None:
    answer = await client.post("/v2/repository/models/paris/load", content=body)
    assert answer.status_code == status
    assert not bench.residency.verbs


async def test_repository_verbs_are_for_this_machine_only(bench: Bench) -> None:
    transport = httpx.ASGITransport(app=bench.app, client=("10.0.0.7", 1234))
    async with httpx.AsyncClient(transport=transport, base_url="http://hotset") as stranger:
        assert (await stranger.post("/v2/repository/models/paris/unload")).status_code == 403
        assert (await stranger.post("/v2/repository/index")).status_code == 200


async def test_the_index_has_a_row_for_each_version(client: httpx.AsyncClient) -> None:
    rows: list[dict[str, Any]] = (await client.post("/v2/repository/index")).json()
    assert [(row["name"], row["version"]) for row in rows] == [
        ("acme/rome", "3"),
        ("oslo", "1"),
        ("paris", "1"),
        ("paris", "2"),
        ("paris", "7"),
    ]
    assert rows[1] == {"name": "oslo", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"}


async def test_the_index_can_be_narrowed_to_what_is_in_memory(client: httpx.AsyncClient) -> None:
    rows = (await client.post("/v2/repository/index", content=b'{"ready": true}')).json()
    assert {row["name"] for row in rows} == {"acme/rome", "paris"}
    wrong = await client.post("/v2/repository/index", content=b'{"ready": 1}')
    assert (wrong.status_code, wrong.json()["kind"]) == (400, "invalid_input")


@pytest.mark.parametrize(
    "body", [b'{"ready": "\xc5"}', b'{"a":' * 10_000, b"\x00", b"[]", b'{"parameters": 3}']
)
@pytest.mark.parametrize("path", ["index", "models/paris/load", "models/paris/unload"])
async def test_a_body_that_is_none_is_the_clients_fault(
    client: httpx.AsyncClient, path: str, body: bytes
) -> None:
    answer = await client.post(f"/v2/repository/{path}", content=body)
    if path == "index" and body.endswith(b"3}"):
        assert answer.status_code == 200
    else:
        assert (answer.status_code, answer.json()["kind"]) == (400, "invalid_input")


async def test_the_index_is_paged_by_a_link(bench: Bench, client: httpx.AsyncClient) -> None:
    bench.residency.scripted = {f"city {number}": ScriptedModel([1]) for number in range(5)}
    seen: list[str] = []
    answer = await client.post("/v2/repository/index?limit=2&prefix=city")
    while "next" in answer.links:
        seen += [row["name"] for row in answer.json()]
        answer = await client.post(answer.links["next"]["url"])
    seen += [row["name"] for row in answer.json()]
    assert seen == [f"city {number}" for number in range(5)]


async def test_where_not_all_is_known_an_index_is_a_page(bench: Bench, client: httpx.AsyncClient) -> None:
    bench.residency.lists_all = False
    bench.residency.scripted = {f"city-{number:05}": ScriptedModel([1]) for number in range(1500)}
    answer = await client.post("/v2/repository/index")
    assert len(answer.json()) == 1000
    rest = await client.post(answer.links["next"]["url"])
    assert len(rest.json()) == 500
    assert "next" not in rest.links


async def test_a_long_index_is_whole(bench: Bench, client: httpx.AsyncClient) -> None:
    bench.residency.scripted = {f"city-{number:05}": ScriptedModel([1]) for number in range(2500)}
    rows = (await client.post("/v2/repository/index")).json()
    assert [row["name"] for row in rows] == sorted(bench.residency.scripted)
    bench.residency.scripted = {}
    assert (await client.post("/v2/repository/index")).json() == []


async def test_an_escaped_slash_is_never_a_verb(bench: Bench, client: httpx.AsyncClient) -> None:
    bench.residency.scripted["acme/ready"] = ScriptedModel([4])
    assert (await client.get("/v2/models/acme%2Fready")).json()["versions"] == ["4"]
    assert (await client.get("/v2/models/acme%2Fready/ready")).json()["ready"] is True


@pytest.mark.parametrize("path", ["/v2/models/paris/config", "/v2/models/paris/versions/2/config"])
async def test_the_configuration_of_a_model(client: httpx.AsyncClient, path: str) -> None:
    found = (await client.get(path)).json()
    assert (found["name"], found["platform"], found["max_batch_size"]) == ("paris", "sklearn", 64)
    assert found["input"] == [{"name": "input-0", "data_type": "TYPE_FP64", "dims": [3]}]


def counts_of(answer: httpx.Response) -> dict[tuple[str, str], tuple[int, int]]:
    """Return answered and failed of each version in an answer."""
    assert answer.status_code == 200
    return {
        (it["name"], it["version"]): (it["inference_count"], it["inference_stats"]["fail"]["count"])
        for it in answer.json()["model_stats"]
    }


async def test_statistics_of_a_model_of_a_version_and_of_all(bench: Bench, client: httpx.AsyncClient) -> None:
    bench.model("paris").steps = deque([PredictFailedError("no")])
    for path in ("paris", "paris", "paris/versions/2", "oslo"):
        await client.post(f"/v2/models/{path}/infer")

    paris = {("paris", "1"): (0, 0), ("paris", "2"): (1, 0), ("paris", "7"): (1, 1)}
    assert counts_of(await client.get("/v2/models/paris/stats")) == paris
    assert counts_of(await client.get("/v2/models/paris/versions/2/stats")) == {("paris", "2"): (1, 0)}
    used = {key: counts for key, counts in paris.items() if any(counts)}
    assert counts_of(await client.get("/v2/models/stats")) == {**used, ("oslo", "1"): (1, 0)}


async def test_the_wait_for_a_model_is_its_queue(bench: Bench, client: httpx.AsyncClient) -> None:
    """All but what the workers say of their executions, and never less than what was waited."""
    bench.model("oslo").lease_steps = deque([lambda: asyncio.sleep(0.01)])
    bench.residency.executed = {
        ModelKey("oslo", 1): (Executions(1, 1, 3600.0),),
        ModelKey("paris", 7): (Executions(1, 1, 1e-9),),
    }
    for name in ("oslo", "paris"):
        await client.post(f"/v2/models/{name}/infer")
        stats = (await client.get(f"/v2/models/{name}/stats")).json()["model_stats"][-1]["inference_stats"]
        assert stats["queue"]["count"] == 1
        assert (stats["queue"]["ns"] >= 5_000_000) == (name == "oslo")
        assert stats["compute_infer"]["count"] == 1
        if name == "paris":
            assert stats["queue"]["ns"] + 1 == pytest.approx(stats["success"]["ns"], abs=2)


async def test_statistics_of_what_there_is_not(bench: Bench, client: httpx.AsyncClient) -> None:
    missing = await client.get("/v2/models/atlantis/stats")
    assert (missing.status_code, missing.json()["kind"]) == (404, "model_not_found")
    version = await client.get("/v2/models/paris/versions/9/stats")
    assert (version.status_code, version.json()["kind"]) == (404, "version_not_found")
    assert (await client.get("/v2/models/stats")).json() == {"model_stats": []}
    await client.post("/v2/models/oslo/infer")
    del bench.residency.scripted["oslo"]
    assert (await client.get("/v2/models/stats")).json() == {"model_stats": []}


@pytest.mark.parametrize(
    "path",
    [
        "logging",
        "trace/setting",
        "models/paris/trace/setting",
        "systemsharedmemory/status",
        "systemsharedmemory/region/_x/register",
        "cudasharedmemory/region/a/b/unregister",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_extensions_that_there_are_not_say_so(
    client: httpx.AsyncClient, method: str, path: str
) -> None:
    answer = await client.request(method, f"/v2/{path}")
    assert (answer.status_code, answer.json()["kind"]) == (501, "unsupported")
    assert "does not have the extension" in answer.json()["error"]
