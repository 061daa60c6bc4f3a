"""A small HTTP/1.1 client for load: one keep-alive connection an object, bare asyncio streams, no pool and no retry.

Much cheaper than a full client, so that on a small machine the server and not its client is what is measured.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Self

from server_process import HttpAnswer

REQUEST_LIMIT_S = 120.0


class ConnectionEndedError(Exception):
    """The server closed the connection. ``answered`` is False if a request had been sent and got no answer."""


class Connection:
    """One connection, one request at a time. ``open``, then ``ask``, then ``close``; or as a context manager."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            return

    async def predict(self, model: str, body: bytes = b"{}") -> HttpAnswer:
        return await self.ask("POST", f"/models/{model}/predict", body)

    async def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> HttpAnswer:
        more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        head = (
            f"{method} {path} HTTP/1.1\r\nhost: {self._host}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n{more}\r\n"
        )
        try:
            async with asyncio.timeout(REQUEST_LIMIT_S):
                self._writer.write(head.encode() + body)
                return await self._answer()
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise ConnectionEndedError(f"{method} {path}: {error!r}") from error

    async def _answer(self) -> HttpAnswer:
        head = await self._reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = await self._reader.readexactly(int(headers["content-length"]))
        return HttpAnswer(int(first.split(" ", 2)[1]), headers, body)


async def spread(
    host: str, port: int, *, connections: int, work: Iterable[Callable[[Connection], Awaitable[None]]]
) -> None:
    """Do each piece of work on whichever of the connections is free; the first failure ends all."""
    waiting = iter(work)

    async def one() -> None:
        async with Connection(host, port) as connection:
            for piece in waiting:
                await piece(connection)

    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(one())


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that ``share`` of all are not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


async def timed(call: Awaitable[HttpAnswer]) -> tuple[HttpAnswer, float]:
    began = time.perf_counter()
    answer = await call
    return answer, time.perf_counter() - began


def rows(count: int = 1) -> bytes:
    """The body that asks a one-feature regressor for ``count`` predictions."""
    return json.dumps({"instances": [[0.0]] * count}).encode()


def prediction(answer: HttpAnswer) -> Any:
    """The first prediction of a framework's model."""
    return answer.json["predictions"][0]
