"""A stream of requests at a real server while a fault is caused; every answer is checked, and judged at the end.

The models are those of ``fault_models``: each gives an answer that only it can give. Knows nothing of pytest; the fixture
``fault_row`` of ``tests/fault`` makes a row of the table out of it.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from load_client import Connection, ConnectionEndedError
from server_process import HttpAnswer, ServerProcess

PAUSE_S: Final = 0.003
"""Between two requests of a connection: the machine has other work."""
RECONNECT_S: Final = 0.05
LIMIT_S: Final = 60.0
_LOOK_S: Final = 0.005

NO_ANSWER: Final = "no_answer"
"""In the place of an error's kind where the connection ended or could not be opened."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request and what came of it: ``ok``, ``wrong``, or the kind of the error. Times are monotonic."""

    model: str
    sent_s: float
    answered_s: float
    outcome: str
    detail: str = ""

    @property
    def failed(self) -> bool:
        return self.outcome not in {"ok", "wrong"}


class Stream:
    """Connections that ask one model after the other, all the time. ``async with``; judged when it has ended.

    ``fault_begins`` right before the cause; ``recovered`` waits until all that it touches answer again.
    """

    def __init__(
        self,
        server: ServerProcess,
        models: Iterable[str],
        *,
        versions: Mapping[str, Collection[int]] | None = None,
        connections: int = 6,
        path: Callable[[str], str] = lambda model: f"/models/{model}/predict",
        check: Callable[[str, HttpAnswer], str] | None = None,
    ) -> None:
        """``versions`` are those that a model may answer with, 1 if not said; change it when one is published.

        ``check`` says what is wrong with a good answer of a model, or "" ; the default is for ``fault_models``.
        """
        self.asked: list[Asked] = []
        self.good: Counter[str] = Counter()
        self.versions: dict[str, Collection[int]] = {name: {1} for name in models} | dict(versions or {})
        self.began_s: float | None = None
        self.recovery_s: float | None = None
        self._server = server
        self._connections = connections
        self._path = path
        self._check = check or self._is_its_own
        self._end = asyncio.Event()
        self._good_since: dict[str, float] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._client(number)) for number in range(self._connections)]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._end.set()
        if kind is not None:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
        else:
            await asyncio.gather(*self._tasks)

    # While it runs

    def fault_begins(self) -> None:
        """The fault is caused now: recovery counts from here, or from the last call of this."""
        self.began_s = time.monotonic()
        self._good_since.clear()

    async def goes_on(self, each: int = 5, models: Collection[str] | None = None) -> None:
        """Return when every model, or each of these, has given so many more good answers."""
        goal = {name: self.good[name] + each for name in models or self.versions}
        await self.until(
            lambda: all(self.good[name] >= least for name, least in goal.items()),
            what=f"more answers of {', '.join(goal)}",
        )

    async def recovered(self, models: Collection[str] | None = None) -> float:
        """Return, and keep, the seconds until all, or these, have answered a request that was sent after the fault began."""
        assert self.began_s is not None, "call fault_begins first"
        names = set(models or self.versions)
        await self.until(lambda: names <= self._good_since.keys(), what=f"answers of {sorted(names)}")
        self.recovery_s = max(self._good_since[name] for name in names) - self.began_s
        return self.recovery_s

    def stop(self) -> None:
        """Ask nothing more, before whatever comes at the end."""
        self._end.set()

    def now_at(self, server: ServerProcess) -> None:
        """New connections go to this server: the one before has ended."""
        self._server = server

    async def until(self, condition: Callable[[], bool], *, what: str, limit_s: float = LIMIT_S) -> None:
        """Look at what the stream has seen until it is so. For questions to the server use ``server_says``."""
        try:
            async with asyncio.timeout(limit_s):
                while not condition():
                    self._raise_failure()
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError as error:
            raise TimeoutError(
                f"not within {limit_s:g} s: {what}; last: {self.asked[-5:]}\n{self._server.tail()}"
            ) from error

    async def server_says(
        self, condition: Callable[[], object], *, what: str, limit_s: float = LIMIT_S
    ) -> None:
        """Ask the server, in a thread beside the stream, until ``condition()`` is true."""
        await asyncio.to_thread(self._server.wait_until, condition, limit_s=limit_s, what=what)

    async def beside(self, call: Callable[..., HttpAnswer], *arguments: object) -> HttpAnswer:
        """Ask something of your own, in a thread beside the stream."""
        return await asyncio.to_thread(call, *arguments)

    # Afterwards

    def failures(self, models: Collection[str] | None = None) -> list[Asked]:
        return [it for it in self.asked if it.failed and (models is None or it.model in models)]

    @property
    def wrong(self) -> list[Asked]:
        return [it for it in self.asked if it.outcome == "wrong"]

    def slowest_s(self, models: Collection[str] | None = None) -> float:
        """Return the longest wait for a good answer."""
        return max(
            (
                it.answered_s - it.sent_s
                for it in self.asked
                if it.outcome == "ok" and (not models or it.model in models)
            ),
            default=0.0,
        )

    # A connection

    async def _client(self, number: int) -> None:
        names = list(self.versions)
        while not self._end.is_set():
            sent_s, model = time.monotonic(), names[number % len(names)]
            try:
                async with Connection(self._server.host, self._server.port) as connection:
                    while not self._end.is_set():
                        # Every connection comes to every model, whatever their numbers have in common.
                        number += 1
                        model = names[(number + number // len(names)) % len(names)]
                        sent_s = time.monotonic()
                        answer = await connection.ask("POST", self._path(model), b"{}")
                        self._note(model, sent_s, *self._judged(model, answer))
                        await asyncio.sleep(PAUSE_S)
            except (ConnectionEndedError, OSError) as error:
                self._note(model, sent_s, NO_ANSWER, repr(error))
                await asyncio.sleep(RECONNECT_S)

    def _judged(self, model: str, answer: HttpAnswer) -> tuple[str, str]:
        if answer.status == 200:
            problem = self._check(model, answer)
            return ("wrong", f"{problem}: {answer}") if problem else ("ok", "")
        if answer.status == 503 and int(answer.headers.get("retry-after", 0)) < 1:
            return "wrong", f"a 503 without Retry-After: {answer}"
        return str(answer.json["kind"]), answer.json["error"]

    def _is_its_own(self, model: str, answer: HttpAnswer) -> str:
        said = answer.json
        if said.get("is") != model:
            return "the answer of another model"
        if answer.version != said["version"]:
            return "the version of the header is not the one that answered"
        if said["version"] not in self.versions[model]:
            return f"a version that it should not have; expected {self.versions[model]}"
        return ""

    def _note(self, model: str, sent_s: float, outcome: str, detail: str) -> None:
        now_s = time.monotonic()
        self.asked.append(Asked(model, sent_s, now_s, outcome, detail))
        if outcome == "ok":
            self.good[model] += 1
            if self.began_s is not None and sent_s >= self.began_s:
                self._good_since.setdefault(model, now_s)

    def _raise_failure(self) -> None:
        for task in self._tasks:
            if task.done():
                task.result()


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table. ``failed`` are requests that the fault touched, ``spared`` those that it must not have."""

    fault: str
    sent: int
    failed: int
    spared: int
    wrong: int
    recovery_s: float | None

    def cells(self) -> tuple[str, ...]:
        recovery = "-" if self.recovery_s is None else f"{self.recovery_s:.2f}"
        return (self.fault, str(self.sent), str(self.failed), str(self.spared), str(self.wrong), recovery)


HEADINGS: Final = ("fault", "sent", "failed: touched", "failed: others", "wrong", "recovery s")


def row_of(fault: str, stream: Stream, *, touched: Collection[str]) -> Row:
    failures = stream.failures()
    failed = sum(it.model in touched for it in failures)
    return Row(fault, len(stream.asked), failed, len(failures) - failed, len(stream.wrong), stream.recovery_s)


def check(stream: Stream, *, touched: Collection[str], kinds: Collection[str]) -> None:
    """Nothing is wrong; nothing failed but of the touched models, with these kinds."""
    assert not stream.wrong, stream.wrong[:3]
    others = [it for it in stream.failures() if it.model not in touched]
    assert not others, f"{len(others)} requests failed that the fault did not touch: {others[:3]}"
    unexpected = [it for it in stream.failures(touched) if it.outcome not in kinds]
    assert not unexpected, f"expected no other kinds than {sorted(kinds)}: {unexpected[:3]}"


def table(rows: Iterable[Row]) -> list[str]:
    """Return the lines of the table."""
    cells = [HEADINGS, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADINGS))]
    lines = []
    for line in cells:
        first, *rest = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        lines.append("  ".join([first.strip().ljust(widths[0]), *rest]))
    return lines
