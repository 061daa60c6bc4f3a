"""An RPC without a network: what a handler says of it, and the messages of its stream."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc import aio


class FakeContext:
    """As much of grpcio's context as the handlers use."""

    def __init__(
        self,
        *,
        metadata: tuple[tuple[str, str | bytes], ...] = (),
        peer: str = "ipv4:127.0.0.1:5000",
        remaining_s: float | None = None,
    ) -> None:
        self.code: grpc.StatusCode | None = None
        self.details = ""
        self.trailing: dict[str, str] = {}
        self.written: list[bytes] = []
        self.incoming: asyncio.Queue[Any] = asyncio.Queue()
        self._metadata = metadata
        self._peer = peer
        self._remaining_s = remaining_s

    def send(self, *messages: bytes, end: bool = True) -> None:
        """Put messages on the stream, as a client does."""
        for message in messages:
            self.incoming.put_nowait(message)
        if end:
            self.incoming.put_nowait(aio.EOF)

    async def read(self) -> Any:
        return await self.incoming.get()

    async def write(self, message: bytes) -> None:
        self.written.append(message)

    def set_code(self, code: grpc.StatusCode) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        self.details = details

    def set_trailing_metadata(self, metadata: tuple[tuple[str, str], ...]) -> None:
        self.trailing = dict(metadata)

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self._metadata

    def peer(self) -> str:
        return self._peer

    def time_remaining(self) -> float | None:
        return self._remaining_s
