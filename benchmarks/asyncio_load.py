"""A small load generator over raw sockets, for machines without ``wrk``. Started by ``load.py``: a job as JSON on
stdin, a result as JSON on stdout.

It understands the answers of the two servers that are measured and no others: a status line, a ``content-length``,
no chunks.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, cast

import uvloop
from load import Result, percentile

LENGTH = b"content-length:"


class Tally:
    """What all connections saw. Owned by the event loop."""

    def __init__(self, requests: Iterator[bytes], end: float) -> None:
        self.requests = requests
        self.end = end
        self.times: list[float] = []
        self.refused = 0
        self.broken = 0


class Client(asyncio.Protocol):
    """One connection with one request on it at a time. ``ended`` is done once it has sent its last."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._transport: asyncio.Transport
        self._sent = 0.0
        self._answer = b""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if not is_whole(self._answer):
            return
        self._tally.times.append(time.perf_counter() - self._sent)
        self._tally.refused += self._answer[9:10] not in {b"2", b"3"}
        self._answer = b""
        if time.perf_counter() < self._tally.end:
            self._send()
        else:
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if not self.ended.done():
            self._tally.broken += 1
            self._finish()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(next(self._tally.requests))

    def _finish(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
        self._transport.close()


def is_whole(answer: bytes) -> bool:
    """Whether ``answer`` holds all headers and as many bytes behind them as they say."""
    head, separator, body = answer.partition(b"\r\n\r\n")
    if not separator:
        return False
    for line in head.lower().split(b"\r\n"):
        if line.startswith(LENGTH):
            return len(body) >= int(line[len(LENGTH) :])
    return True


def raw_request(request: dict[str, str]) -> bytes:
    """Return a request as it goes over the wire."""
    body = request["body"].encode()
    head = (
        f"POST {request['path']} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def run(job: dict[str, Any]) -> Result:
    """Send a job's requests."""
    requests = itertools.cycle([raw_request(request) for request in job["requests"]])
    started = time.perf_counter()
    tally = Tally(requests, started + job["seconds"])
    loop = asyncio.get_running_loop()
    clients = [
        (await loop.create_connection(lambda: Client(tally), "127.0.0.1", job["port"]))[1]
        for _ in range(job["connections"])
    ]
    await asyncio.wait([client.ended for client in clients])
    seconds = time.perf_counter() - started
    times = sorted(tally.times)
    return Result(
        requests=len(times),
        seconds=seconds,
        p50_ms=percentile(times, 50) * 1e3,
        p99_ms=percentile(times, 99) * 1e3,
        refused=tally.refused,
        broken=tally.broken,
    )


if __name__ == "__main__":
    print(json.dumps(asdict(uvloop.run(run(json.load(sys.stdin))))))
