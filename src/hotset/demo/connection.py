"""One keep-alive connection to the server: small and quick, so that what the demo measures is the server."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ANSWER_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, and how long it took from the first byte sent. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """Owned by one task: one ``ask`` at a time. It connects when it must; ``close`` at the end."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: bytes = b"") -> Answer:
        """Send a request and return its answer.

        Raises:
            OSError: the server is not there, ended in the middle, or took longer than ``ANSWER_LIMIT_S``.
        """
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                return await self._ask(method, path, body)
        except (asyncio.IncompleteReadError, ValueError) as error:
            raise ConnectionError(f"the server ended its answer early: {error}") from error
        finally:
            if self._streams is not None and self._streams[0].at_eof():
                self.close()

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _ask(self, method: str, path: str, body: bytes) -> Answer:
        if self._streams is None or self._streams[1].is_closing():
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        began_s = time.perf_counter()
        writer.write(
            f"{method} {path} HTTP/1.1\r\nhost: {self._host}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        content = await reader.readexactly(int(headers["content-length"]))
        return Answer(int(first.split()[1]), headers, content, time.perf_counter() - began_s)
