"""A proxy before a real S3 server that does wrong on purpose: each request goes through the fault that is set.

It runs in a thread of its own, so that a test may start real servers beside it. ``fault`` may be exchanged at any time;
``away`` closes the port, so that connections are refused. Knows nothing of pytest.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})
START_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Call:
    """One request to the store; ``path`` is decoded, and has the bucket before the key. Header names are lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> str:
        return urlsplit(self.target).query

    @property
    def is_listing(self) -> bool:
        return "list-type" in self.query

    @property
    def access_key(self) -> str:
        """Who says to ask: the id of the key that the request is signed with."""
        _, _, rest = self.headers.get("authorization", "").partition("Credential=")
        return rest.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the caller gets. ``length`` is announced in the place of the body's own; ``pause_s`` lies between its parts."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    length: int | None = None
    part_bytes: int = 1 << 30
    pause_s: float = 0.0


class DroppedError(Exception):
    """Raised by a fault: the connection ends without an answer."""


Forward: TypeAlias = Callable[[Call], Awaitable[Answer]]
Fault: TypeAlias = Callable[[Call, Forward], Awaitable[Answer]]


async def as_it_is(call: Call, forward: Forward) -> Answer:
    """No fault."""
    return await forward(call)


async def hangs(_call: Call, _forward: Forward) -> Answer:
    """Never answers."""
    await asyncio.Event().wait()
    raise DroppedError


async def drops(_call: Call, _forward: Forward) -> Answer:
    raise DroppedError


def refuses(status: int, code: str = "", **headers: str) -> Fault:
    """Answers with an error as S3 does; ``Retry_After="2"`` is a header."""
    body = f"<Error><Code>{code}</Code><Message>on purpose</Message></Error>".encode() if code else b""

    async def fault(_call: Call, _forward: Forward) -> Answer:
        return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)

    return fault


def delays(seconds: float) -> Fault:
    """Right, but late."""

    async def fault(call: Call, forward: Forward) -> Answer:
        await asyncio.sleep(seconds)
        return await forward(call)

    return fault


def trickles(*, part_bytes: int, pause_s: float) -> Fault:
    """Right, but a little at a time."""

    async def fault(call: Call, forward: Forward) -> Answer:
        return replace(await forward(call), part_bytes=part_bytes, pause_s=pause_s)

    return fault


def truncates(keep: float = 0.5) -> Fault:
    """Announces the whole body, sends a part of it, and closes."""

    async def fault(call: Call, forward: Forward) -> Answer:
        answer = await forward(call)
        return replace(answer, body=answer.body[: int(len(answer.body) * keep)], length=len(answer.body))

    return fault


def scrambles(change: Callable[[bytes], bytes]) -> Fault:
    """Sends other bytes, and says of them what is said of the right ones."""

    async def fault(call: Call, forward: Forward) -> Answer:
        answer = await forward(call)
        return replace(answer, body=change(answer.body))

    return fault


def only(fault: Fault, *, where: Callable[[Call], bool]) -> Fault:
    """The fault for some requests; the others get what is right."""

    async def chosen(call: Call, forward: Forward) -> Answer:
        return await (fault if where(call) else as_it_is)(call, forward)

    return chosen


def first(count: int, fault: Fault) -> Fault:
    """The fault for so many requests; those behind them get what is right."""
    left = [count]

    async def counted(call: Call, forward: Forward) -> Answer:
        left[0] -= 1
        return await (fault if left[0] >= 0 else as_it_is)(call, forward)

    return counted


class FaultyStore:
    """``fault`` and ``target`` may be set from any thread; ``calls`` has the time and the request of each."""

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target).netloc
        self.fault: Fault = as_it_is
        self.calls: list[tuple[float, Call]] = []
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._port = 0
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def environment(self, of_target: Mapping[str, str]) -> Mapping[str, str]:
        """What a server needs to ask here instead."""
        return {**of_target, "AWS_ENDPOINT_URL": self.endpoint}

    # From the test's thread

    def away(self) -> None:
        """Close the port and every connection: from now on they are refused."""
        self._run(self._close())

    def back(self) -> None:
        self._run(self._open())

    def reset(self) -> None:
        """End every connection; new ones are taken."""
        self._run(self._end_connections())

    @contextmanager
    def failing(self, fault: Fault) -> Iterator[None]:
        self.fault = fault
        try:
            yield
        finally:
            self.fault = as_it_is

    def _run(self, work: Awaitable[None]) -> None:
        async def run() -> None:
            await work

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(START_LIMIT_S)

    # In the proxy's own thread

    def serve(self) -> None:
        """Run until ``end``; in a thread of its own."""
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.run_until_complete(self._close())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _open(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._port)
            self._port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        await self._end_connections()

    async def _end_connections(self) -> None:
        for task in self._connections:
            task.cancel()
        if self._connections:
            await asyncio.wait(set(self._connections))

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while await self._answer_one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, DroppedError):
            writer.transport.abort()
        finally:
            self._connections.discard(task)
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection can go on."""
        call = await _read_call(reader)
        self.calls.append((time.monotonic(), call))
        answer = await self.fault(call, self._forward)
        length = len(answer.body) if answer.length is None else answer.length
        lines = [f"HTTP/1.1 {answer.status} Status", f"Content-Length: {length}"]
        lines += [f"{name}: {value}" for name, value in answer.headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        if call.method != "HEAD":
            for start in range(0, len(answer.body), answer.part_bytes):
                writer.write(answer.body[start : start + answer.part_bytes])
                await writer.drain()
                await asyncio.sleep(answer.pause_s)
        await writer.drain()
        return call.method == "HEAD" or length == len(answer.body)

    async def _forward(self, call: Call) -> Answer:
        host, _, port = self.target.partition(":")
        try:
            reader, writer = await asyncio.open_connection(host, int(port))
        except OSError as error:
            raise DroppedError from error
        try:
            lines = [f"{call.method} {call.target} HTTP/1.1", "connection: close"]
            lines += [f"{name}: {value}" for name, value in call.headers.items() if name != "connection"]
            writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + call.body)
            await writer.drain()
            return _parsed(await reader.read(), is_head=call.method == "HEAD")
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _read_call(reader: asyncio.StreamReader) -> Call:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ", 2)
    headers = {}
    for line in filter(None, head[1:]):
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Call(method, target, headers, body)


def _parsed(data: bytes, *, is_head: bool) -> Answer:
    head, _, body = data.partition(b"\r\n\r\n")
    first_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    if headers.get("transfer-encoding", "") == "chunked":
        body = _dechunked(body)
    length = int(headers.get("content-length", 0)) if is_head else None
    kept = {name: value for name, value in headers.items() if name not in HOP_BY_HOP}
    return Answer(int(first_line.split(" ", 2)[1]), kept, body, length=length)


def _dechunked(data: bytes) -> bytes:
    found = []
    while True:
        size, _, data = data.partition(b"\r\n")
        count = int(size.partition(b";")[0], 16)
        if not count:
            return b"".join(found)
        found.append(data[:count])
        data = data[count + 2 :]


@contextmanager
def faulty_store(target: str) -> Iterator[FaultyStore]:
    """Stand before the S3 server at ``target``, such as http://127.0.0.1:9000."""
    store = FaultyStore(target)
    thread = threading.Thread(target=store.serve, name="faulty store")
    thread.start()
    try:
        store.back()
        yield store
    finally:
        store.end()
        thread.join()
