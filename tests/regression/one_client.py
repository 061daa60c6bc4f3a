"""A client in the server's own event loop: one connection that sends a request when the last is answered.

Between two of its answers lies what the server did for one request, and nothing else. ``measure.py`` calls it.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Iterable
from typing import Any, Final

LIMIT_S: Final = 60


class Client:
    """Owned by the event loop, in whose callbacks it works. Legal order: any ``cycles``, then ``close``."""

    def __init__(self, loop: asyncio.AbstractEventLoop, port: int, requests: Iterable[bytes]) -> None:
        """``requests`` has no end; they are sent in turn."""
        self._loop = loop
        self._requests = iter(requests)
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        self._answer = b""

    async def cycles(self, count: int, on_answer: Callable[[bytes], None]) -> None:
        """Send so many requests."""
        done = self._loop.create_future()
        left = count

        def readable() -> None:
            nonlocal left
            self._answer += self._socket.recv(1 << 16)
            body = body_of(self._answer)
            if body is None:
                return
            self._answer = b""
            on_answer(body)
            left -= 1
            if left:
                self._socket.send(next(self._requests))
            else:
                self._loop.remove_reader(self._socket)
                done.set_result(None)

        self._loop.add_reader(self._socket, readable)
        self._socket.send(next(self._requests))
        await asyncio.wait_for(done, LIMIT_S)

    def close(self) -> None:
        self._socket.close()


def body_of(answer: bytes) -> bytes | None:
    """Return the body of an answer, or None while it is not whole.

    Raises:
        RuntimeError: it is no 200.
    """
    head, found, body = answer.partition(b"\r\n\r\n")
    if not found:
        return None
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"expected 200, found: {answer[:500]!r}")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return body if len(body) >= int(lengths[0].split(b":")[1]) else None


def raw_request(door: tuple[str, Any], name: str) -> bytes:
    """Return a request as clients send it."""
    path, body = door
    text = json.dumps(body).encode()
    head = (
        f"POST {path.format(name)} HTTP/1.1\r\nHost: 127.0.0.1:8500\r\nUser-Agent: measure\r\nAccept: */*\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
    )
    return head.encode() + text
