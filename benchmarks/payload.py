"""What large bodies and answers cost: 1 kB to 100 MB of raw bytes, up and down, with shared memory and without it.

A section of ``run.py``, and a program of its own: ``payload.py [--quick]`` prints the same tables. The model is a predictor
of a few lines that takes its body as it came and answers with a buffer that it has, so that no codec hides what is
measured; what a codec costs on top is a table of its own.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from load import Request, percentiles_ms
from section import Bars, Grid, Options, Section, at_least
from subjects import LOCALHOST, Server, bare_raw, hotset

from hotset.codecs.base import Codec
from hotset.codecs.native import NativeCodec
from hotset.codecs.oip import OipCodec
from hotset.payload import Array, InferResponse, Signature, TensorSpec
from hotset.runtimes.base import CallMeta

SIZES: Final = (1_000, 64_000, 256_000, 1_000_000, 10_000_000, 100_000_000)
QUICK_SIZES: Final = (1_000, 256_000, 10_000_000)
BYTES_A_ROUND: Final = 400_000_000
MOST_CALLS: Final = 300
LEAST_CALLS: Final = 3
ROUNDS: Final = 3
BESIDE_BYTES: Final = 50_000_000
BESIDE_S: Final = 5.0

CODEC_SIZES: Final = (10_000, 100_000, 1_000_000)
SHARED: Final = "hotset"
SENT: Final = "hotset, bodies sent"
BARE: Final = "bare uvicorn"
DIRECTIONS: Final = ("up", "down")

PREDICTOR: Final = """
import numpy as np


class Predictor:
    def load_model(self, disk_path):
        return memoryview(b"1" * 100_000_000)

    def predict(self, model, payload: memoryview):
        if isinstance(payload, int):
            return model[:payload]
        if len(payload) < 20:
            return model[: int(bytes(payload))]
        return str(int(np.frombuffer(payload, np.uint8)[::4096].sum()))
"""
"""A short body asks for so many bytes; a longer one is looked at, one byte of each page."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """One round of one subject: calls of one size in one direction, one after the other."""

    subject: str
    direction: str
    size: int
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    """The server's processor time for each call, all processes together."""


@dataclass(frozen=True, slots=True)
class Beside:
    """Small requests of one client while another one sends large bodies without a pause; or while nobody does."""

    subject: str
    large: bool
    p50_ms: float
    p99_ms: float


class Client:
    """One connection that is kept open. Bodies are sent as they are, answers read into one buffer."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((LOCALHOST, port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(1 << 20)

    def post(self, path: str, body: bytes) -> int:
        """Return the number of bytes of a good answer's body."""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {LOCALHOST}\r\nContent-Type: application/octet-stream\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self._socket.sendall(head.encode() + body if len(body) < 4096 else head.encode())
        if len(body) >= 4096:
            self._socket.sendall(body)
        return self._answer()

    def _answer(self) -> int:
        got = self._socket.recv_into(self._buffer)
        end = -1
        while (end := self._buffer.find(b"\r\n\r\n", 0, got)) < 0:
            got += self._more(memoryview(self._buffer)[got:])
        head = bytes(self._buffer[:end]).lower()
        if not head.startswith(b"http/1.1 200"):
            raise RuntimeError(f"expected the status 200, found: {head[:60]!r}")
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        left = length - (got - end - 4)
        while left > 0:
            left -= self._more(memoryview(self._buffer)[: min(left, len(self._buffer))])
        return length

    def _more(self, into: memoryview) -> int:
        count = self._socket.recv_into(into)
        if not count:
            raise ConnectionError("the server closed the connection in the middle of an answer")
        return count

    def close(self) -> None:
        self._socket.close()


PATH: Final = "/models/large/predict"


def run(options: Options) -> Section:
    """Measure every size in both directions, small requests beside large ones, and the codecs alone."""
    transfers, beside = measure(quick=options.quick, folder=options.folder, tell=options.tell)
    return section(transfers, beside, codecs(quick=options.quick))


def measure(*, quick: bool, folder: Path, tell: Callable[[str], None]) -> tuple[list[Transfer], list[Beside]]:
    """Measure all subjects, sizes and directions, in rounds that take turns."""
    sizes = QUICK_SIZES if quick else SIZES
    with _servers(folder) as servers:
        transfers = []
        for size in sizes:
            tell(f"payload, {size:,} bytes")
            for direction in DIRECTIONS:
                for _ in range(1 if quick else ROUNDS):
                    transfers += [_transfer(name, it, direction, size) for name, it in servers.items()]
        beside = []
        for name, server in servers.items():
            tell(f"payload, {name}: small requests beside large ones")
            beside += [
                _beside(name, server, large=it, seconds=1 if quick else BESIDE_S) for it in (False, True)
            ]
    return transfers, beside


@contextmanager
def _servers(folder: Path) -> Iterator[Mapping[str, Server]]:
    models = folder / "models"
    for name in ("large", "small"):
        (models / name).mkdir(parents=True)
        (models / name / "model.bin").write_bytes(b"x")
    predictor = folder / "predictor.py"
    predictor.write_text(PREDICTOR)
    settings = {"predictor": str(predictor), "max-body-size": "128MiB"}
    first = Request(PATH, "10")
    with ExitStack() as stack:
        yield {
            SHARED: stack.enter_context(hotset(models, folder / "shared", first, settings=settings)),
            SENT: stack.enter_context(
                hotset(models, folder / "sent", first, settings={**settings, "shared-memory-size": "0"})
            ),
            BARE: stack.enter_context(bare_raw(predictor, first)),
        }


def _transfer(name: str, server: Server, direction: str, size: int) -> Transfer:
    calls = max(LEAST_CALLS, min(MOST_CALLS, BYTES_A_ROUND // size))
    body = bytes(size) if direction == "up" else str(size).encode()
    client = Client(server.port)
    client.post(PATH, body)
    before_s, times = server.cpu_s(), []
    for _ in range(calls):
        started_s = time.perf_counter()
        length = client.post(PATH, body)
        times.append(time.perf_counter() - started_s)
        if direction == "down" and length != size:
            raise RuntimeError(f"expected {size} bytes, found: {length}")
    cpu_s = server.cpu_s() - before_s
    client.close()
    p50_ms, p99_ms = percentiles_ms(sorted(times), (50, 99))
    return Transfer(name, direction, size, p50_ms, p99_ms, cpu_s * 1e3 / calls)


def _beside(name: str, server: Server, *, large: bool, seconds: float) -> Beside:
    body, ended, times = bytes(BESIDE_BYTES), threading.Event(), []

    def send() -> None:
        client = Client(server.port)
        while not ended.is_set():
            client.post(PATH, body)
        client.close()

    sender = threading.Thread(target=send)
    if large:
        sender.start()
    client = Client(server.port)
    end_s = time.perf_counter() + seconds
    while (started_s := time.perf_counter()) < end_s:
        client.post("/models/small/predict", b"10")
        times.append(time.perf_counter() - started_s)
        time.sleep(0.002)
    client.close()
    ended.set()
    if large:
        sender.join()
    p50_ms, p99_ms = percentiles_ms(sorted(times), (50, 99))
    return Beside(name, large, p50_ms, p99_ms)


@dataclass(frozen=True, slots=True)
class CodecCost:
    """What a codec takes for a body or an answer of so many numbers, in a thread that does nothing else."""

    codec: str
    numbers: int
    bytes: int
    decode_ms: float
    encode_ms: float


def codecs(*, quick: bool) -> list[CodecCost]:
    """Measure the codecs alone: what JSON costs that raw bytes do not."""
    return [
        cost
        for numbers in CODEC_SIZES[: 1 if quick else None]
        for cost in _codec_costs(np.random.default_rng(1).normal(size=(numbers // 10, 10)))
    ]


def _codec_costs(array: Array) -> Iterator[CodecCost]:
    signature = Signature("sklearn", (TensorSpec("x", "FP64", (-1, 10)),))
    rows = {"instances": array.tolist()}
    tensor = {"name": "x", "shape": array.shape, "datatype": "FP64", "data": array.ravel().tolist()}
    meta, response = CallMeta("large", 1, "application/octet-stream"), InferResponse({"y": array})
    codec: Codec
    for codec, value in ((NativeCodec(), rows), (OipCodec(), {"inputs": [tensor]})):
        body = json.dumps(value).encode()
        decode = partial(codec.decode_tensors, body, meta, signature)
        encode = partial(codec.encode_tensors, response, decode(), meta)
        yield CodecCost(codec.name, array.size, len(body), _best_ms(decode), _best_ms(encode))
    raw = memoryview(array.tobytes())
    decode_ms = _best_ms(partial(np.frombuffer, raw, "<f8"))
    encode_ms = _best_ms(partial(NativeCodec().encode_result, array.data, None, meta))
    yield CodecCost("bytes, numpy.frombuffer", array.size, len(raw), decode_ms, encode_ms)


def _best_ms(work: Callable[[], object]) -> float:
    times = []
    for _ in range(5):
        started_s = time.perf_counter()
        work()
        times.append(time.perf_counter() - started_s)
    return min(times) * 1e3


def section(
    transfers: Sequence[Transfer], beside: Sequence[Beside], codec_costs: Sequence[CodecCost]
) -> Section:
    """Return the tables. Ratios are medians over the rounds, each with the round of the other beside it."""
    sizes = sorted({it.size for it in transfers})
    largest = sizes[-1]
    return Section(
        title="Size of the payload",
        about=(
            "Raw bytes up (a body that the model looks at) and down (an answer that it has), one client, one after the "
            f"other. '{SHARED}' has shared memory, '{SENT}' sends all on its sockets, '{BARE}' predicts in its own "
            "process, so that nothing has to cross. The client takes processor time of the same cores."
        ),
        grids=(
            *(_transfers_grid(transfers, direction, sizes) for direction in DIRECTIONS),
            _beside_grid(beside),
            _codecs_grid(codec_costs),
        ),
        plots=tuple(_bars(transfers, direction, sizes) for direction in DIRECTIONS),
        goals=tuple(
            at_least(
                f"{largest:,} bytes {direction}, CPU of {other} to ours",
                _ratio(transfers, direction, largest, other),
                limit,
            )
            for direction, other, limit in (("up", SENT, 2.0), ("up", BARE, 1.0), ("down", SENT, 2.0))
        ),
        raw={
            "transfers": [asdict(it) for it in transfers],
            "beside": [asdict(it) for it in beside],
            "codecs": [asdict(it) for it in codec_costs],
        },
    )


def _of(transfers: Sequence[Transfer], subject: str, direction: str, size: int) -> list[Transfer]:
    return [it for it in transfers if (it.subject, it.direction, it.size) == (subject, direction, size)]


def _megabytes(it: Transfer) -> float:
    return it.size / 1e3 / it.p50_ms


def _ratio(transfers: Sequence[Transfer], direction: str, size: int, other: str) -> float:
    """By processor time, which a machine that is busy with other things disturbs least."""
    ours, theirs = (_of(transfers, name, direction, size) for name in (SHARED, other))
    return statistics.median(
        two.cpu_ms / max(one.cpu_ms, 1e-3) for one, two in zip(ours, theirs, strict=True)
    )


def _transfers_grid(transfers: Sequence[Transfer], direction: str, sizes: Sequence[int]) -> Grid:
    rows = []
    for size in sizes:
        for name in (SHARED, SENT, BARE):
            found = _of(transfers, name, direction, size)
            rows.append(
                (
                    f"{size:,}, {name}",
                    f"{statistics.median(it.p50_ms for it in found):.2f}",
                    f"{statistics.median(it.p99_ms for it in found):.2f}",
                    f"{statistics.median(map(_megabytes, found)):,.0f}",
                    f"{statistics.median(it.cpu_ms for it in found):.2f}",
                )
            )
    return Grid(
        f"Bytes {direction}", ("bytes, server", "p50 ms", "p99 ms", "MB/s", "CPU ms/req"), tuple(rows)
    )


def _beside_grid(beside: Sequence[Beside]) -> Grid:
    rows = []
    for name in (SHARED, SENT, BARE):
        alone, crowded = (
            next(it for it in beside if (it.subject, it.large) == (name, large)) for large in (False, True)
        )
        rows.append(
            (
                name,
                f"{alone.p50_ms:.2f}",
                f"{alone.p99_ms:.2f}",
                f"{crowded.p50_ms:.2f}",
                f"{crowded.p99_ms:.2f}",
            )
        )
    return Grid(
        f"Small requests of one model while another gets {BESIDE_BYTES:,} bytes again and again",
        ("server", "alone p50 ms", "alone p99 ms", "beside p50 ms", "beside p99 ms"),
        tuple(rows),
    )


def _codecs_grid(costs: Sequence[CodecCost]) -> Grid:
    rows = tuple(
        (f"{it.numbers:,} numbers, {it.codec}", f"{it.bytes:,}", f"{it.decode_ms:.2f}", f"{it.encode_ms:.2f}")
        for it in costs
    )
    return Grid("Codecs by themselves", ("body, codec", "bytes", "decode ms", "encode ms"), rows)


def _bars(transfers: Sequence[Transfer], direction: str, sizes: Sequence[int]) -> Bars:
    series = {
        name: [statistics.median(map(_megabytes, _of(transfers, name, direction, size))) for size in sizes]
        for name in (SHARED, SENT, BARE)
    }
    return Bars(f"Bytes {direction}", "MB/s", tuple(f"{size:,}" for size in sizes), series)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer sizes, one round")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory(prefix="hotset-bench-") as folder:
        transfers, beside = measure(quick=quick, folder=Path(folder), tell=lambda what: print(f"… {what}"))
    found = section(transfers, beside, codecs(quick=quick))
    print(f"{found.title}\n{found.about}")
    for grid in found.grids:
        print(f"\n{grid.title}")
        for row in (grid.columns, *grid.rows):
            print(f"{row[0]:40}", *(f"{cell:>14}" for cell in row[1:]))
    for goal in found.goals:
        print(f"{goal.work}: {goal.found} (wanted {goal.wanted})")


if __name__ == "__main__":
    main()
