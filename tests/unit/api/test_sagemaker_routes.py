"""SageMaker's routes over a scripted holder of models."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from hotset.api.app import App
from hotset.errors import CapacityError, HotsetError, LoadFailedError, NotFoundError, OverloadedError
from hotset.errors import ErrorKind as Kind
from unit.api.scripted import Bench


class ScriptedGiven:
    def __init__(self) -> None:
        self.loaded: dict[str, str] = {}
        self.error: Exception | None = None

    async def load(self, name: str, url: str) -> bool:
        if self.error is not None:
            raise self.error
        if name in self.loaded:
            return False
        self.loaded[name] = url
        return True

    async def unload(self, name: str) -> None:
        if name not in self.loaded:
            raise NotFoundError(f"no model {name!r} is loaded")
        del self.loaded[name]


@pytest.fixture
def given() -> ScriptedGiven:
    return ScriptedGiven()


@pytest.fixture
def app(bench: Bench, given: ScriptedGiven) -> App:
    return App(
        bench.dataplane,
        metrics=lambda: (b"", "text/plain"),
        version="1.2.3",
        max_body_bytes=1000,
        body_timeout_s=30.0,
        given=given,
    )


@pytest.fixture
async def client(app: App) -> AsyncIterator[httpx.AsyncClient]:
    """From another machine, as the platform is."""
    transport = httpx.ASGITransport(app=app, client=("169.254.255.130", 1234))
    async with httpx.AsyncClient(transport=transport, base_url="http://hotset") as client:
        yield client


def load(name: str = "paris") -> dict[str, str]:
    return {"model_name": name, "url": f"/opt/ml/models/{name}/model"}


async def test_load_list_show_and_unload(client: httpx.AsyncClient) -> None:
    row = {"modelName": "paris", "modelUrl": "/opt/ml/models/paris/model"}
    loaded = await client.post("/models", json=load())
    assert (loaded.status_code, loaded.json()) == (200, row)
    assert (await client.get("/models")).json() == {"models": [row]}
    assert (await client.get("/models/paris")).json() == row
    assert (await client.delete("/models/paris")).status_code == 200
    for answer in (await client.get("/models/paris"), await client.delete("/models/paris")):
        assert (answer.status_code, answer.json()["kind"]) == (404, "model_not_found")


async def test_a_name_that_is_taken_is_a_conflict(client: httpx.AsyncClient) -> None:
    await client.post("/models", json=load())
    again = await client.post("/models", json=load())
    assert (again.status_code, again.json()["kind"]) == (409, "already_loaded")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OverloadedError("full", kind=Kind.NO_ROOM), 507),
        (OverloadedError("full"), 507),
        (CapacityError("large"), 507),
        (CapacityError("disk", kind=Kind.DISK_FULL), 507),
        (HotsetError("memory", kind=Kind.OUT_OF_MEMORY), 507),
        (LoadFailedError("torn"), 500),
        (NotFoundError("no directory"), 404),
    ],
)
async def test_what_a_load_can_answer(
    given: ScriptedGiven, client: httpx.AsyncClient, error: HotsetError, status: int
) -> None:
    given.error = error
    answer = await client.post("/models", json=load())
    assert (answer.status_code, answer.json()) == (status, {"error": str(error), "kind": error.kind.value})


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"model_name": 1, "url": "/"}', b"[" * 900])
async def test_a_load_that_is_malformed(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/models", content=body)
    assert (answer.status_code, answer.json()["kind"]) == (400, "invalid_input")


async def test_pages_lead_to_each_other(given: ScriptedGiven, client: httpx.AsyncClient) -> None:
    given.loaded = {f"m{number:03}": "/" for number in range(250)}
    names: list[str] = []
    query: dict[str, Any] = {}
    while True:
        page = (await client.get("/models", params=query)).json()
        names += [row["modelName"] for row in page["models"]]
        if "nextPageToken" not in page:
            break
        query = {"next_page_token": page["nextPageToken"]}
    assert names == sorted(given.loaded)


async def test_ping_says_whether_it_takes_requests(bench: Bench, client: httpx.AsyncClient) -> None:
    assert (await client.get("/ping")).status_code == 200
    bench.dataplane.drain()
    assert (await client.get("/ping")).status_code == 503


async def test_invoke_is_a_prediction(bench: Bench, client: httpx.AsyncClient) -> None:
    answer = await client.post("/models/paris/invoke", content=b"1,2", headers={"content-type": "text/csv"})
    assert answer.json() == {"model": "paris", "version": 7}
    call = bench.residency.calls[0]
    assert (call["codec"], call["content_type"]) == ("native", "text/csv")
    assert bench.observers["sagemaker"].good
    assert (await client.post("/models/atlantis/invoke")).status_code == 404


@pytest.mark.parametrize("name", ["acme/rome", "paris"])
async def test_invocations_with_a_name(bench: Bench, client: httpx.AsyncClient, name: str) -> None:
    answer = await client.post("/invocations", headers={"X-Amzn-SageMaker-Target-Model": name}, content=b"x")
    assert answer.headers["x-model-name"] == name
    assert bench.residency.calls[0]["body"] == b"x"


async def test_invocations_with_what_is_no_name(client: httpx.AsyncClient) -> None:
    for name in ("", "..", "a b/", "é"):
        answer = await client.post(
            "/invocations", headers={"X-Amzn-SageMaker-Target-Model": name.encode("latin-1")}
        )
        assert answer.status_code in {400, 404}, name
    assert (await client.get("/invocations")).status_code == 404


async def test_invocations_without_a_name_mean_the_only_model(
    given: ScriptedGiven, client: httpx.AsyncClient
) -> None:
    assert (await client.post("/invocations")).status_code == 400
    given.loaded = {"paris": "/"}
    assert (await client.post("/invocations")).headers["x-model-name"] == "paris"
    given.loaded = {"paris": "/", "oslo": "/"}
    assert (await client.post("/invocations")).status_code == 400


async def test_our_own_routes_are_there_but_for_those_of_models(app: App, client: httpx.AsyncClient) -> None:
    paths = app.document()["paths"]
    assert set(paths["/models"]) == {"get", "post"}
    assert set(paths["/models/{model}"]) == {"get", "delete"}
    assert "/models/{model}/load" not in paths
    assert "/models/{model}/predict" in paths
    for path in ("/health/live", "/status", "/metrics", "/openapi.json", "/v2"):
        assert (await client.get(path)).status_code == 200
