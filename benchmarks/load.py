"""What is sent to a server and what came of it: jobs, results, and the seam to the programs that send.

Every section calls it. It starts nothing (``generators.py`` does) and knows nothing of what is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

MS_IN_S: Final = 1e3

Seconds = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Request:
    """One POST with a JSON body; neither part holds a tab or a line's end. Without a body it is a GET."""

    path: str
    body: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """What to send, in this order again and again, and for how long.

    ``rate`` 0 is the closed loop: each connection sends its next request when the last was answered. Any other one is
    the open loop: so many requests a second whether or not the server keeps up, over at most ``connections``.
    """

    port: int
    requests: tuple[Request, ...]
    connections: int
    seconds: float
    rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """What came back. In the open loop times count from a request's turn, so that waiting to be sent is in them.

    ``refused`` counts answers that were no 2xx, ``broken`` connections that failed or waited too long, ``unsent`` what
    an open loop could not send in time. ``own_cpu`` is what the program itself took of one core, and ``own_late_ms``
    the 99th percentile of its own delays: where they are high, the program was the limit and not the server.
    """

    requests: int
    seconds: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    refused: int = 0
    broken: int = 0
    unsent: int = 0
    own_cpu: float = 0.0
    own_late_ms: float = 0.0

    @property
    def answers(self) -> int:
        """Requests that were answered well."""
        return self.requests - self.failures - self.unsent

    @property
    def per_second(self) -> float:
        return self.answers / self.seconds

    @property
    def failures(self) -> int:
        return self.refused + self.broken


@dataclass(frozen=True, slots=True)
class Trace:
    """A result with each of its requests: when its turn was, from the start, and what it took."""

    result: Result
    turn_s: Seconds
    took_s: Seconds


class Generator(Protocol):
    """A program that sends a job's requests. Blocks until it has ended."""

    @property
    def description(self) -> str: ...

    def run(self, job: Job) -> Result:
        """Send the job's requests.

        Raises:
            RuntimeError: the program failed; the message is its own.
        """
        ...


class Tracer(Generator, Protocol):
    """A generator that has the open loop too and tells of every request."""

    def trace(self, job: Job) -> Trace:
        """Send the job's requests, and keep what each of them took.

        Raises:
            RuntimeError: as ``run``.
        """
        ...


def raw_request(request: Request) -> bytes:
    """Return a request as it goes over the wire."""
    body = request.body.encode()
    method = "POST" if body else "GET"
    head = f"{method} {request.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def percentiles_ms(times_s: Sequence[float] | Seconds, percents: Sequence[float]) -> list[float]:
    """Return the values below which so many percent lie: always one that occurred, and 0 where there is none."""
    if not len(times_s):
        return [0.0] * len(percents)
    found = np.percentile(times_s, percents, method="inverted_cdf") * MS_IN_S
    return [float(it) for it in found]
