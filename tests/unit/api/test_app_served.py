"""The application under a real server and clients that do not behave, over raw sockets.

Behind any ASGI server (uvicorn as it is), and with hotset's own connection: what a client sees is the same.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import httpx
import pytest
import uvicorn

from hotset.connection import MOST_CONNECTIONS, Connection
from hotset.exchange import Targets
from hotset.server import Listener
from unit.api.scripted import Bench
from waiting import until

PROTOCOLS = ("asgi", "hotset")


@asynccontextmanager
async def serving(
    bench: Bench, protocol: str = "hotset", *, most: int = MOST_CONNECTIONS
) -> AsyncIterator[int]:
    # With the protocol named, asyncio turns Nagle's delay off on what is accepted; with 0 it does not.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    predictions = bench.app.predictions
    own = partial(Connection, predictions=predictions, targets=Targets(predictions), most=most)
    config = uvicorn.Config(
        bench.app,
        http="httptools" if protocol == "asgi" else own,  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
    )
    bench.listener = server = Listener(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await until(lambda: server.started)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, 20)
        listener.close()


@pytest.fixture(params=PROTOCOLS)
async def port(bench: Bench, request: pytest.FixtureRequest) -> AsyncIterator[int]:
    async with serving(bench, request.param) as port:
        yield port


class RawClient:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 10)
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines if line)
        body = await asyncio.wait_for(self._reader.readexactly(int(headers["content-length"])), 10)
        return int(first.split(" ")[1]), headers, body

    async def line(self) -> bytes:
        return await asyncio.wait_for(self._reader.readline(), 10)

    async def closed(self) -> bool:
        return await asyncio.wait_for(self._reader.read(), 10) == b""


@asynccontextmanager
async def raw(port: int) -> AsyncIterator[RawClient]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def head(path: str, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: hotset", *headers, "", ""]
    return "\r\n".join(lines).encode()


PREDICT = "/models/paris/predict"


async def test_a_real_client_gets_a_real_answer(port: int) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        answer = await client.post("/v2/models/acme%2Frome/infer", json={"inputs": []})
        shown = await client.get("/models/acme%2Frome")
        missing = await client.head("/nothing")
    assert answer.json() == {"model": "acme/rome", "version": 3}
    assert answer.headers["x-model-name"] == "acme/rome"
    assert shown.json()["name"] == "acme/rome"
    assert missing.status_code == 404


async def test_pipelined_requests_are_answered_in_order(port: int) -> None:
    async with raw(port) as client:
        paths = [f"/models/paris/versions/{version}/predict" for version in (1, 2, 7, 1)]
        client.send(b"".join(head(path, "Content-Length: 2") + b"{}" for path in paths))
        answers = [await client.answer() for _ in paths]
    assert [json.loads(body)["version"] for _, _, body in answers] == [1, 2, 7, 1]


async def test_a_body_in_single_bytes_is_put_together(bench: Bench, port: int) -> None:
    async with raw(port) as client:
        client.send(head(PREDICT, "Content-Length: 5"))
        for byte in b"12345":
            client.send(bytes([byte]))
            await client.writer.drain()
            await asyncio.sleep(0)
        status, _, _ = await client.answer()
    assert status == 200
    assert bench.residency.calls[0]["body"] == b"12345"


async def test_chunked_over_the_limit_is_413_and_the_connection_lives_on(port: int) -> None:
    chunk = b"1000\r\n" + b"x" * 0x1000 + b"\r\n"
    async with raw(port) as client:
        client.send(head(PREDICT, "Transfer-Encoding: chunked") + chunk * 30 + b"0\r\n\r\n")
        status, headers, body = await client.answer()
        assert (status, json.loads(body)["kind"]) == (413, "body_too_large")
        assert headers["content-type"] == "application/json"
        client.send(head(PREDICT, "Content-Length: 0"))
        assert (await client.answer())[0] == 200


async def test_a_length_over_the_limit_is_413_before_a_byte_of_body(port: int) -> None:
    async with raw(port) as client:
        client.send(head(PREDICT, "Content-Length: 100001", "Expect: 100-continue"))
        status, _, _ = await client.answer()
    assert status == 413


async def test_a_length_that_promises_too_much_ends_with_the_connection(bench: Bench, port: int) -> None:
    async with raw(port) as client:
        client.send(head(PREDICT, "Content-Length: 50") + b"only this")
    async with raw(port) as client:
        client.send(head(PREDICT, "Content-Length: 0"))
        assert (await client.answer())[0] == 200
    assert bench.residency.leases_given == 1


async def test_a_client_that_leaves_during_predict_costs_nobody_a_lease(bench: Bench, port: int) -> None:
    go = asyncio.Event()
    bench.model("paris").steps = deque([go.wait])
    async with raw(port) as client:
        client.send(head(PREDICT, "Content-Length: 0"))
        await until(lambda: bench.residency.leased == 1)
        client.writer.transport.abort()
    go.set()
    await until(lambda: bench.residency.leased == 0)
    async with raw(port) as client:
        client.send(head(PREDICT, "Content-Length: 0"))
        assert (await client.answer())[0] == 200


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_body_that_stalls_is_408_and_the_connection_is_closed(protocol: str) -> None:
    bench = Bench(body_timeout_s=0.05)
    async with serving(bench, protocol) as port, raw(port) as client:
        client.send(head(PREDICT, "Content-Length: 5") + b"12")
        status, headers, body = await client.answer()
        assert (status, headers["connection"]) == (408, "close")
        assert json.loads(body)["kind"] == "body_timeout"
        assert await client.closed()
    assert bench.residency.leases_given == 0


async def test_a_name_with_every_kind_of_byte_never_breaks_the_server(port: int) -> None:
    async with raw(port) as client:
        for byte in range(256):
            client.send(head(f"/models/a%{byte:02x}b/predict", "Content-Length: 0"))
            status, _, body = await client.answer()
            assert status in {400, 404}, byte
            assert json.loads(body)["kind"] in {"invalid_input", "model_not_found"}


async def test_unusual_targets_get_json(port: int) -> None:
    for line in ("GET http://hotset/models HTTP/1.1", "OPTIONS * HTTP/1.1", "GET //models HTTP/1.1"):
        async with raw(port) as client:
            client.send(f"{line}\r\nHost: hotset\r\n\r\n".encode())
            status, headers, _ = await client.answer()
            assert headers["content-type"] == "application/json", line
            assert status in {200, 404}, line
