"""What every prediction route promises, whatever its protocol. Run on each door that the application has."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from hotset.api.app import DOORS
from hotset.api.errors import STATUS
from hotset.api.predictions import Door
from hotset.errors import ErrorKind, HotsetError
from hotset.keys import ModelRef
from hotset.payload import Encoded
from hotset.status import Demand
from unit.api.scripted import Bench, ScriptedModel
from waiting import until

PARIS = ModelRef("paris")


@pytest.fixture(params=DOORS, ids=lambda door: door.protocol)
def door(request: pytest.FixtureRequest) -> Door:
    return request.param


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench(max_body_bytes=1000, max_queue=2)
    yield bench
    assert bench.residency.leased == 0, "a lease was not released"
    assert bench.dataplane.inside == 0


@pytest.fixture
async def client(bench: Bench) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=bench.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://hotset") as client:
        yield client


def url(door: Door, middle: str) -> str:
    return f"{door.prefix.decode()}{middle}{door.suffix.decode()}"


def check_error(answer: httpx.Response, kind: str, status: int) -> str:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"error", "kind"}
    assert body["kind"] == kind
    return str(body["error"])


async def test_the_answer_says_which_version_it_is_from(
    door: Door, bench: Bench, client: httpx.AsyncClient
) -> None:
    answer = await client.post(url(door, "paris"), content=b"[1]", headers={"content-type": "text/x"})

    assert answer.status_code == 200
    assert answer.content == b'{"model":"paris","version":7}'
    assert answer.headers["content-type"] == "application/json"
    assert (answer.headers["x-model-name"], answer.headers["x-model-version"]) == ("paris", "7")
    assert "server-timing" not in answer.headers
    call = bench.residency.calls[0]
    assert (call["codec"], call["body"], call["content_type"]) == (door.codec, b"[1]", "text/x")


@pytest.mark.parametrize(
    ("middle", "name", "version"),
    [
        ("paris/versions/2", "paris", "2"),
        ("paris/versions/v2", "paris", "2"),
        ("acme/rome", "acme/rome", "3"),
        ("acme%2Frome", "acme/rome", "3"),
        ("acme/rome/versions/3", "acme/rome", "3"),
    ],
)
async def test_names_with_slashes_and_versions(
    door: Door, client: httpx.AsyncClient, middle: str, name: str, version: str
) -> None:
    answer = await client.post(url(door, middle))
    assert (answer.headers["x-model-name"], answer.headers["x-model-version"]) == (name, version)


async def test_a_name_beyond_ascii_is_percent_encoded_in_the_header(
    door: Door, bench: Bench, client: httpx.AsyncClient
) -> None:
    bench.residency.scripted["zürich 東"] = ScriptedModel([1])
    answer = await client.post(url(door, "zürich 東"))
    assert answer.status_code == 200
    assert answer.headers["x-model-name"] == "z%C3%BCrich%20%E6%9D%B1"


async def test_a_miss_says_where_the_time_went(door: Door, client: httpx.AsyncClient) -> None:
    answer = await client.post(url(door, "oslo"))
    assert answer.headers["server-timing"] == "fetch;dur=250.0, load;dur=500.0"


async def test_any_content_type_and_header_of_the_codec_goes_out(
    door: Door, bench: Bench, client: httpx.AsyncClient
) -> None:
    bench.model("paris").encoded = Encoded(b"\x00\x01", "image/png", (("X-Note", "é"),))
    answer = await client.post(url(door, "paris"))
    assert (answer.content, answer.headers["content-type"]) == (b"\x00\x01", "image/png")
    assert answer.headers.raw[-1] == (b"x-note", b"\xe9")


async def test_a_model_that_wants_them_gets_query_and_headers(
    door: Door, bench: Bench, client: httpx.AsyncClient
) -> None:
    bench.model("paris").wants = frozenset({"headers", "query_params"})
    await client.post(url(door, "paris") + "?a=1&b=%20", headers={"X-User": "me"})
    call = bench.residency.calls[0]
    assert call["query_string"] == "a=1&b=%20"
    assert ("x-user", "me") in call["headers"]


async def test_the_binary_extensions_length_reaches_the_codec(
    door: Door, bench: Bench, client: httpx.AsyncClient
) -> None:
    await client.post(url(door, "paris"), headers={"Inference-Header-Content-Length": "9"})
    assert bench.residency.calls[0]["headers"] == (("inference-header-content-length", "9"),)


@pytest.mark.parametrize("kind", list(ErrorKind))
async def test_every_kind_of_error_has_its_status_and_names_the_version(
    door: Door, bench: Bench, client: httpx.AsyncClient, kind: ErrorKind
) -> None:
    twice = [HotsetError("what happened", kind=kind) for _ in range(2)]
    bench.model("paris").steps = deque(twice)

    answer = await client.post(url(door, "paris"))

    check_error(answer, kind.value, door.status(twice[0], PARIS) or STATUS[kind])
    assert (answer.headers["x-model-name"], answer.headers["x-model-version"]) == ("paris", "7")
    assert ("retry-after" in answer.headers) == (STATUS[kind] == 503)
    assert bench.observers[door.protocol].bad == [kind]


async def test_an_unknown_model_and_version_are_named(door: Door, client: httpx.AsyncClient) -> None:
    answer = await client.post(url(door, "atlantis"))
    assert "atlantis" in check_error(answer, "model_not_found", 404)
    answer = await client.post(url(door, "paris/versions/9"))
    assert re.search(r"version 9|, 9\)", check_error(answer, "version_not_found", 404))


async def test_an_unexpected_error_shows_nothing_and_is_logged(
    door: Door, bench: Bench, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    bench.model("paris").steps = deque([ZeroDivisionError("secret")])
    with caplog.at_level(logging.ERROR):
        answer = await client.post(url(door, "paris"))
    assert "secret" not in check_error(answer, "internal", 500)
    assert "secret" in caplog.text


@pytest.mark.parametrize("middle", ["%2E%2E/x", "a//b", "%ff", "paris/versions/-1", "paris/versions/", ""])
async def test_a_malformed_name_is_refused_and_counted(
    door: Door, bench: Bench, client: httpx.AsyncClient, middle: str
) -> None:
    check_error(await client.post(url(door, middle)), "invalid_input", 400)
    assert bench.observers[door.protocol].bad == [ErrorKind.INVALID_INPUT]
    assert bench.residency.leases_given == 0


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
async def test_only_post(door: Door, bench: Bench, client: httpx.AsyncClient, method: str) -> None:
    answer = await client.request(method, url(door, "paris"))
    if door.protocol == "tfserving":  # as that server has it
        said = check_error(answer, "invalid_input", 400)
        assert said == f"Malformed request: {method} {url(door, 'paris')}"
    else:
        assert "expected POST" in check_error(answer, "method_not_allowed", 405)
        assert answer.headers["allow"] == "POST"
    assert bench.residency.leases_given == 0


async def test_head_is_refused_without_a_body(door: Door, client: httpx.AsyncClient) -> None:
    answer = await client.head(url(door, "paris"))
    assert (answer.status_code, answer.content) == (400 if door.protocol == "tfserving" else 405, b"")


async def test_a_body_too_large_is_refused_chunked_or_declared(
    door: Door, bench: Bench, client: httpx.AsyncClient
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b"x" * 100

    for content in (b"x" * 1001, chunks()):
        answer = await client.post(url(door, "paris"), content=content)
        assert "at most 1000 bytes" in check_error(answer, "body_too_large", 413)
    assert (await client.post(url(door, "paris"), content=b"x" * 1000)).status_code == 200
    assert bench.observers[door.protocol].bad == [ErrorKind.INVALID_INPUT] * 2


async def test_how_bodies_are_compressed_reaches_the_worker(
    door: Door, bench: Bench, client: httpx.AsyncClient
) -> None:
    await client.post(url(door, "paris"), headers={"content-encoding": "gzip", "accept-encoding": "deflate"})
    assert bench.residency.calls[0]["headers"] == (
        ("content-encoding", "gzip"),
        ("accept-encoding", "deflate"),
    )


async def test_a_compression_that_is_not_known_is_refused(door: Door, client: httpx.AsyncClient) -> None:
    answer = await client.post(url(door, "paris"), headers={"content-encoding": "br"})
    assert "br" in check_error(answer, "unsupported", 501)


async def test_the_clients_own_timeout_counts(door: Door, bench: Bench, client: httpx.AsyncClient) -> None:
    await client.post(url(door, "paris"))
    await client.post(url(door, "paris"), headers={"X-Request-Timeout": "0.5"})
    ours, theirs = (call["deadline_s"] for call in bench.residency.calls)
    assert theirs < ours - 20

    answer = await client.post(url(door, "paris"), headers={"X-Request-Timeout": "soon"})
    assert "X-Request-Timeout" in check_error(answer, "invalid_input", 400)


async def test_past_the_queues_bound_the_body_is_not_even_read(
    door: Door, bench: Bench, client: httpx.AsyncClient
) -> None:
    go = asyncio.Event()
    bench.model("paris").steps = deque([go.wait, go.wait])
    inside = [asyncio.create_task(client.post(url(door, "paris"))) for _ in range(2)]
    await until(lambda: bench.dataplane.inside == 2)

    async def unread() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    answer = await client.post(url(door, "paris"), content=unread())

    full = HotsetError("full", kind=ErrorKind.OVERLOADED)
    check_error(answer, "overloaded", door.status(full, PARIS) or 503)
    assert answer.headers["retry-after"] == "1"
    go.set()
    assert [answer.status_code for answer in await asyncio.gather(*inside)] == [200, 200]


async def test_past_the_bound_of_its_model_a_request_is_told_when_to_come_back(
    door: Door, bench: Bench, client: httpx.AsyncClient
) -> None:
    go = asyncio.Event()
    bench.model("paris").steps = deque([go.wait])
    inside = asyncio.create_task(client.post(url(door, "paris")))
    await until(lambda: bench.dataplane.inside == 1)
    bench.residency.demands["paris"] = Demand(99)

    answer = await client.post(url(door, "paris"))

    full = HotsetError("full", kind=ErrorKind.OVERLOADED)
    check_error(answer, "overloaded", door.status(full, PARIS) or 503)
    assert answer.headers["retry-after"] == "1"
    assert (await client.post(url(door, "acme/rome"))).status_code == 200
    go.set()
    assert (await inside).status_code == 200


async def test_while_draining_new_requests_go_elsewhere(
    door: Door, bench: Bench, client: httpx.AsyncClient
) -> None:
    bench.dataplane.drain()
    answer = await client.post(url(door, "paris"))
    check_error(answer, "shutting_down", 503)
    assert "retry-after" in answer.headers


async def test_a_client_that_leaves_before_its_body_is_whole_gets_no_lease(door: Door, bench: Bench) -> None:
    sent: list[Any] = []
    messages = deque([{"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return messages.popleft()

    async def send(message: Any) -> None:
        sent.append(message)

    path = url(door, "paris")
    scope = {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b""}
    await bench.app(scope, receive, send)

    assert not sent
    assert bench.residency.leases_given == 0


async def test_a_path_that_only_looks_like_a_prediction_is_none(
    door: Door, bench: Bench, client: httpx.AsyncClient
) -> None:
    almost = door.prefix.decode() + door.suffix.decode().lstrip("/")
    answer = await client.post(almost)
    assert not bench.residency.calls
    if door.suffix.startswith(b"/"):
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    else:
        assert "a model's name is empty" in check_error(answer, "invalid_input", 400)
