from __future__ import annotations

from typing import Any

import httpx
import pytest

from hotset.errors import CapacityError
from hotset.keys import ModelRef
from hotset.status import Readiness
from unit.api.scripted import Bench, ScriptedModel

VERBS = ("load", "unload", "pin", "unpin")


def names(answer: httpx.Response) -> list[str]:
    return [model["name"] for model in answer.json()["models"]]


async def test_the_list_shows_models_with_their_versions(client: httpx.AsyncClient) -> None:
    answer = await client.get("/models")

    assert names(answer) == ["acme/rome", "oslo", "paris"]
    assert answer.json()["next"] is None
    oslo = answer.json()["models"][1]
    assert oslo["latest"] == 1
    assert oslo["versions"][0]["tier"] == "disk"
    assert oslo["versions"][0]["state"] == "UNAVAILABLE"
    assert oslo["versions"][0]["leases"] == 0


async def test_the_list_is_paged_and_filtered(bench: Bench, client: httpx.AsyncClient) -> None:
    bench.residency.scripted = {f"city-{number}": ScriptedModel([1]) for number in range(5)}

    first = await client.get("/models", params={"limit": 2, "prefix": "city"})
    second = await client.get("/models", params={"limit": 3, "after": first.json()["next"]})
    none = await client.get("/models", params={"prefix": "town"})

    assert names(first) == ["city-0", "city-1"]
    assert names(second) == ["city-2", "city-3", "city-4"]
    assert none.json() == {"models": [], "next": None}


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "x", "", "9" * 30, "²"])
async def test_a_wrong_limit_is_named(client: httpx.AsyncClient, limit: str) -> None:
    answer = await client.get("/models", params={"limit": limit})
    assert answer.status_code == 400
    assert "'limit'" in answer.json()["error"]


async def test_one_model_and_one_version_of_it(client: httpx.AsyncClient) -> None:
    whole = (await client.get("/models/paris")).json()
    one = (await client.get("/models/paris/versions/2")).json()
    slashed = (await client.get("/models/acme%2Frome")).json()

    assert [version["version"] for version in whole["versions"]] == [1, 2, 7]
    assert [version["version"] for version in one["versions"]] == [2]
    assert slashed["name"] == "acme/rome"


async def test_an_unknown_model_or_version_is_404(client: httpx.AsyncClient) -> None:
    model = await client.get("/models/atlantis")
    version = await client.get("/models/paris/versions/9")
    assert (model.status_code, model.json()["kind"]) == (404, "model_not_found")
    assert (version.status_code, version.json()["kind"]) == (404, "version_not_found")


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("middle", "ref"),
    [
        ("paris", ModelRef("paris")),
        ("paris/versions/2", ModelRef("paris", 2)),
        ("acme/rome", ModelRef("acme/rome")),
        ("acme%2Frome", ModelRef("acme/rome")),
    ],
)
async def test_a_verb_answers_with_the_status(
    bench: Bench, client: httpx.AsyncClient, verb: str, middle: str, ref: ModelRef
) -> None:
    answer = await client.post(f"/models/{middle}/{verb}")
    assert answer.status_code == 200
    assert answer.json()["name"] == ref.name
    assert bench.residency.verbs == [(verb, ref)]


@pytest.mark.parametrize("verb", VERBS)
async def test_an_escaped_slash_is_never_a_verb(bench: Bench, client: httpx.AsyncClient, verb: str) -> None:
    bench.residency.scripted[f"acme/{verb}"] = ScriptedModel([1])
    shown = await client.get(f"/models/acme%2F{verb}")
    await client.post(f"/models/acme%2F{verb}/{verb}")
    assert shown.json()["name"] == f"acme/{verb}"
    assert bench.residency.verbs == [(verb, ModelRef(f"acme/{verb}"))]


@pytest.mark.parametrize("verb", VERBS)
async def test_verbs_are_for_this_machine_only(bench: Bench, verb: str) -> None:
    transport = httpx.ASGITransport(app=bench.app, client=("10.0.0.7", 1234))
    async with httpx.AsyncClient(transport=transport, base_url="http://hotset") as stranger:
        answer = await stranger.post(f"/models/paris/{verb}")
        allowed = await stranger.post("/models/paris/predict")
    assert (answer.status_code, answer.json()["kind"]) == (403, "forbidden")
    assert "10.0.0.7" in answer.json()["error"]
    assert allowed.status_code == 200
    assert not bench.residency.verbs


async def test_a_verb_that_fails_says_why(bench: Bench, client: httpx.AsyncClient) -> None:
    bench.residency.verb_errors.append(CapacityError("paris needs 9 bytes, expected at most 5"))
    answer = await client.post("/models/paris/load")
    assert (answer.status_code, answer.json()["kind"]) == (507, "too_large")


async def test_a_verb_of_another_method_is_405(client: httpx.AsyncClient) -> None:
    answer = await client.get("/models/paris/load")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["kind"] == "method_not_allowed"
    assert "expected POST" in answer.json()["error"]


async def test_health_follows_readiness_and_drain(bench: Bench, client: httpx.AsyncClient) -> None:
    async def ready() -> tuple[int, Any]:
        answer = await client.get("/health/ready")
        return answer.status_code, answer.json()

    assert await ready() == (200, {"ready": True})
    bench.residency.ready_now = Readiness(ready=False, reason="the store was not listed yet")
    assert await ready() == (503, {"ready": False, "reason": "the store was not listed yet"})
    bench.residency.ready_now = Readiness(ready=True)
    bench.dataplane.drain()
    assert (await ready())[0] == 503
    live = await client.get("/health/live")
    assert (live.status_code, live.json()) == (200, {"live": True})


async def test_status_shows_the_server_and_the_queue(client: httpx.AsyncClient) -> None:
    shown = (await client.get("/status")).json()
    assert shown["server"]["version"] == "1.2.3"
    assert shown["server"]["tiers"][0]["capacity_models"] == 2
    assert shown["server"]["workers"][0]["pid"] == 7
    assert shown["requests"] == {"inside": 0, "max_queue": 100, "draining": False}


async def test_the_metrics_page_has_its_own_content_type(client: httpx.AsyncClient) -> None:
    answer = await client.get("/metrics")
    assert answer.content == b"hotset_up 1\n"
    assert answer.headers["content-type"] == "text/plain; version=1.0.0"


@pytest.mark.parametrize("path", ["/", "/nothing", "/models/", "/v3/models", "/health"])
async def test_a_path_without_a_route_is_json_too(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.headers["content-type"] == "application/json"
    if path == "/models/":
        assert (answer.status_code, answer.json()["kind"]) == (400, "invalid_input")
    else:
        assert (answer.status_code, answer.json()["kind"]) == (404, "route_not_found")
        assert "/openapi.json" in answer.json()["error"]


async def test_head_is_get_without_a_body_to_look_at(client: httpx.AsyncClient) -> None:
    assert (await client.head("/models")).status_code == 200


async def test_below_a_root_path(bench: Bench) -> None:
    transport = httpx.ASGITransport(app=bench.app, root_path="/ml")
    async with httpx.AsyncClient(transport=transport, base_url="http://hotset") as client:
        assert (await client.post("/ml/models/paris/predict")).status_code == 200
        assert (await client.get("/ml/models/paris")).json()["name"] == "paris"
