"""A tiny S3-like server of one object that answers wrongly on purpose: each request by the next scripted fault."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

Headers = Mapping[str, str]
Fault = Callable[[str, Headers, asyncio.StreamWriter], Awaitable[None]]

BODY = bytes(range(256)) * 1024
ETAG = hashlib.md5(BODY, usedforsecurity=False).hexdigest()
_LISTING = '<?xml version="1.0"?><ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated>{}</ListBucketResult>'
_ENTRY = (
    "<Contents><Key>{}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
    "<ETag>{}</ETag><Size>{}</Size></Contents>"
)


def listing(*keys: str, etag: str = f"&quot;{ETAG}&quot;", size: int = len(BODY)) -> bytes:
    return _LISTING.format("".join(_ENTRY.format(key, etag, size) for key in keys)).encode()


def response(status: str, body: bytes = b"", *, length: int | None = None, **headers: str) -> bytes:
    """Return an HTTP answer; ``length`` is what it announces, if that is to be a lie."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return (
        "\r\n".join(
            [*lines, "Connection: close", "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT", "", ""]
        ).encode()
        + body
    )


def answers(data: bytes) -> Fault:
    """A fault that is one fixed answer, after which the connection ends."""

    async def fault(_target: str, _headers: Headers, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return fault


def whole(etag: str = f'"{ETAG}"', body: bytes = BODY) -> Fault:
    """The object as it should be, ranges and conditions ignored."""
    return answers(response("200 OK", body, ETag=etag))


async def hangs(_target: str, _headers: Headers, _writer: asyncio.StreamWriter) -> None:
    """Never answer; the server's end cancels it."""
    await asyncio.Event().wait()


async def hangs_midway(_target: str, _headers: Headers, writer: asyncio.StreamWriter) -> None:
    writer.write(response("200 OK", BODY[:1000], length=len(BODY), ETag=f'"{ETAG}"'))
    await writer.drain()
    await asyncio.Event().wait()


class FaultServer:
    """Answers every request by ``fault``, which a test may exchange at any time. Owned by the event loop."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.requests: list[tuple[str, Headers]] = []
        self.endpoint = ""

    @property
    def options(self) -> Mapping[str, str]:
        return {"endpoint": self.endpoint, "skip_signature": "true", "region": "us-east-1"}

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {
                name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)
            }
            self.requests.append((head[0], headers))
            await self.fault(head[0], headers, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()


@asynccontextmanager
async def fault_server(fault: Fault) -> AsyncIterator[FaultServer]:
    server = FaultServer(fault)
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(asyncio.CancelledError):
            await server.handle(reader, writer)
        tasks.discard(task)

    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    server.endpoint = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
