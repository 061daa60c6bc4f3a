"""Cold requests, by format of the model's file: what one costs, beside copying and loading the same file by hand. A section.

By hand is a warm interpreter of its own that copies the file, calls ``joblib.load`` (or makes a session) and predicts
once. Each model is asked when it is not on disk, and again when it is on disk and not in memory.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

import cold_models
import psutil
from load import Request
from section import Bars, Goal, Grid, Options, Section, at_most
from subjects import LOCALHOST, Server, hotset

HERE: Final = Path(__file__).parent
LIMIT: Final = 1.1
ROUNDS: Final = 7
ROUNDS_QUICK: Final = 3
STARTS: Final = 3

ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
"""As hotset's children have it."""

NOT_ON_DISK: Final = "not on disk"
ON_DISK: Final = "on disk"


@dataclass(frozen=True, slots=True)
class Sample:
    """Medians, in milliseconds, and the median of the ratios of each round. ``cpu_`` is processor time, of all processes."""

    format: str
    state: str
    bytes: int
    ours_ms: float
    by_hand_ms: float
    ratio: float
    cpu_ours_ms: float
    cpu_by_hand_ms: float
    cpu_ratio: float


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one request, or of one order by hand."""

    took_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds from the start of a process: until it is ready, and until its first answer or prediction."""

    subject: str
    ready_s: float
    answer_s: float


def run(options: Options) -> Section:
    """Measure every format, then the first answer after a start."""
    rounds = ROUNDS_QUICK if options.quick else ROUNDS
    store = options.folder / "store"
    options.tell("cold, writing the models")
    formats = cold_models.write(store, rounds + 1, options.folder, quick=options.quick)
    samples: list[Sample] = []
    with (
        hotset(store, options.folder / "hotset", _request(formats[0].name, 0)) as server,
        _by_hand(options.folder / "by-hand") as hand,
    ):
        for it in formats:
            options.tell(f"cold, {it.name}")
            samples += _measure(server, hand, it, store, rounds)
    starts = _starts(options, store, formats[0])
    return Section(
        title="Cold requests",
        about=(
            "One request at a time, over a connection that is kept. By hand: a warm interpreter copies the file, loads it "
            "with joblib.load or as a session, and predicts once. hotset does the same, and verifies what it has "
            "copied, measures what it weighs, and keeps it. The store is a local "
            "directory: no network is in it, on which both would wait alike."
        ),
        grids=(_grid(samples), _start_grid(starts)),
        plots=(
            Bars(
                "Cold request against by hand",
                "×",
                tuple(it.name for it in formats),
                {
                    state: [sample.ratio for sample in samples if sample.state == state]
                    for state in (NOT_ON_DISK, ON_DISK)
                },
                line=LIMIT,
            ),
        ),
        goals=_goals(samples),
        raw={"cold": [asdict(it) for it in samples], "starts": [asdict(it) for it in starts]},
    )


def _measure(
    server: Server, hand: ByHand, format_: cold_models.Format, store: Path, rounds: int
) -> Iterator[Sample]:
    connection = http.client.HTTPConnection(LOCALHOST, server.port, timeout=120)
    found: dict[str, list[tuple[Cost, Cost]]] = {NOT_ON_DISK: [], ON_DISK: []}
    processes = psutil.Process(server.pid)
    pids = [server.pid, *(child.pid for child in processes.children(recursive=True))]
    try:
        for number in range(rounds + 1):
            name = cold_models.name_of(format_.name, number)
            file = store / name / format_.file
            for state, fetch in ((NOT_ON_DISK, True), (ON_DISK, False)):
                by_hand = _cost([hand.pid], partial(hand.ask, file, fetch))
                ours = _cost(pids, partial(_asked, connection, _request(format_.name, number)))
                _asked(connection, Request(f"/models/{name}/unload", "{}"))
                if number:  # the first of a format fills caches on both sides
                    found[state].append((ours, by_hand))
    finally:
        connection.close()
    for state, pairs in found.items():
        yield Sample(
            format_.name,
            state,
            format_.bytes,
            median(ours.took_s for ours, _ in pairs) * 1e3,
            median(by_hand.took_s for _, by_hand in pairs) * 1e3,
            median(ours.took_s / by_hand.took_s for ours, by_hand in pairs),
            median(ours.cpu_s for ours, _ in pairs) * 1e3,
            median(by_hand.cpu_s for _, by_hand in pairs) * 1e3,
            median(ours.cpu_s / by_hand.cpu_s for ours, by_hand in pairs),
        )


def _cost(pids: Sequence[int], ask: Callable[[], float]) -> Cost:
    before_s = _on_cpu_s(pids)
    took_s = ask()
    return Cost(took_s, _on_cpu_s(pids) - before_s)


def _on_cpu_s(pids: Sequence[int]) -> float:
    """Return the time that all threads of these processes have had a processor, to the nanosecond."""
    total = 0
    for pid in pids:
        for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with suppress(OSError):  # a thread that has ended meanwhile
                total += int(file.read_text().split()[0])
    return total / 1e9


def _request(name: str, number: int) -> Request:
    row = [list(cold_models.ROW)]
    return Request(f"/models/{cold_models.name_of(name, number)}/predict", json.dumps({"instances": row}))


def _asked(connection: http.client.HTTPConnection, request: Request) -> float:
    began_s = time.perf_counter()
    connection.request("POST", request.path, request.body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    body = answer.read()
    took_s = time.perf_counter() - began_s
    if answer.status != 200:
        raise RuntimeError(f"{request.path}: {answer.status} {body[:500]!r}")
    return took_s


@dataclass(frozen=True, slots=True)
class ByHand:
    """The warm interpreter, and where it copies to."""

    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def ask(self, file: Path, fetch: bool) -> float:
        """Copy (or not), load and predict; return the seconds that it took."""
        copy = self.folder / file.parent.name / file.name
        if not fetch:
            return _answer(self.process, {"load": str(copy)})
        return _answer(self.process, {"copy": str(file), "load": str(copy)})


@contextmanager
def _by_hand(folder: Path) -> Iterator[ByHand]:
    folder.mkdir(parents=True)
    with _interpreter() as process:
        yield ByHand(process, folder)
    shutil.rmtree(folder)


@contextmanager
def _interpreter() -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, str(HERE / "cold_by_hand.py")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | ONE_THREAD
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _answer(process: subprocess.Popen[bytes], order: dict[str, Any]) -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(order).encode() + b"\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("the interpreter that loads by hand has ended")
    seconds: float = json.loads(line)
    return seconds


def _starts(options: Options, store: Path, format_: cold_models.Format) -> list[Start]:
    """Start each several times: hotset with an empty disk, hotset again, and a fresh interpreter by hand."""
    request = _request(format_.name, 0)
    file = store / cold_models.name_of(format_.name, 0) / format_.file
    found: dict[str, list[tuple[float, float]]] = {}
    for number in range(1 if options.quick else STARTS):
        options.tell(f"cold, start {number + 1}")
        folder = options.folder / f"start-{number}"
        for subject, start in (
            ("hotset, nothing on disk", partial(_hotset_start, store, folder, request)),
            ("hotset, model on disk", partial(_hotset_start, store, folder, request)),
            ("by hand, fresh interpreter", partial(_fresh_start, file)),
        ):
            found.setdefault(subject, []).append(start())
    return [
        Start(subject, median(ready for ready, _ in pairs), median(answer for _, answer in pairs))
        for subject, pairs in found.items()
    ]


def _hotset_start(store: Path, folder: Path, request: Request) -> tuple[float, float]:
    began_s = time.perf_counter()
    with hotset(store, folder, Request("/health/ready", "")) as server:
        ready_s = time.perf_counter() - began_s
        server.ask(request)
        return ready_s, time.perf_counter() - began_s


def _fresh_start(file: Path) -> tuple[float, float]:
    began_s = time.perf_counter()
    with _interpreter() as process:
        _answer(process, {})
        ready_s = time.perf_counter() - began_s
        _answer(process, {"load": str(file)})
        return ready_s, time.perf_counter() - began_s


def _grid(samples: list[Sample]) -> Grid:
    return Grid(
        "Cold requests, medians",
        ("file", "MB", "state", "hotset ms", "by hand ms", "×", "cpu: hotset ms", "by hand ms", "×"),
        tuple(
            (
                it.format,
                f"{it.bytes / 1e6:.1f}",
                it.state,
                f"{it.ours_ms:.1f}",
                f"{it.by_hand_ms:.1f}",
                f"{it.ratio:.2f}",
                f"{it.cpu_ours_ms:.1f}",
                f"{it.cpu_by_hand_ms:.1f}",
                f"{it.cpu_ratio:.2f}",
            )
            for it in samples
        ),
        note=(
            "by hand copies the file where it is not on disk; cpu: processor time of all threads until the answer, which "
            "other work on the machine disturbs less"
        ),
    )


def _start_grid(starts: list[Start]) -> Grid:
    return Grid(
        "From the start of the process, seconds",
        ("", "ready", "first answer"),
        tuple((it.subject, f"{it.ready_s:.2f}", f"{it.answer_s:.2f}") for it in starts),
        note="by hand is ready when its imports are done",
    )


def _goals(samples: list[Sample]) -> tuple[Goal, ...]:
    return tuple(
        at_most(f"cold, {it.format}, {it.state}, against by hand", it.ratio, LIMIT) for it in samples
    )
