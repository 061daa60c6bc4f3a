"""What all parts of the soak share: the server that runs now, the models, what was seen, and how to ask. ``soak.py`` makes it."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any, Final

from soak_growth import Growth
from soak_journal import Journal, ServerLog, Tail
from soak_models import Models
from soak_neighbours import Neighbours
from soak_verdict import Question, Verdict
from subjects import LOCALHOST, Server

from hotset.demo.connection import Answer, Connection

IN_MEMORY: Final = 10
"""Models that a server may hold."""

BY_NUMBER: Final = 0.3


class Scene:
    """Owned by the event loop. Legal order: ``begin`` for each server, then anything."""

    def __init__(self, models: Models, draw: random.Random, journal: Path) -> None:
        self.models = models
        self.draw = draw
        self.verdict = Verdict(models)
        self.growth = Growth()
        self.neighbours = Neighbours()
        self.server: Server
        self.journal: Journal
        self.log: ServerLog
        self.end_s = self.killed_s = 0.0
        """When what happens to this server ends; when a child of it was killed last."""
        self.is_killed = self.is_over = False
        """The server was killed; its clients are to end."""
        self._journal_lines = Tail(journal)
        self._log_lines: Tail

    def begin(self, server: Server, log: Path) -> None:
        """From now on it is this server; its log is in a file."""
        self.server = server
        self.journal, self.log = Journal(IN_MEMORY), ServerLog()
        self._log_lines = Tail(log)
        self.verdict.began_s, self.verdict.ended_s = time.monotonic(), float("inf")
        self.is_killed = self.is_over = False

    @property
    def goes_on(self) -> bool:
        return time.monotonic() < self.end_s

    def connection(self) -> Connection:
        return Connection(LOCALHOST, self.server.port)

    def question(self) -> Question:
        """Draw what to ask: of a model that is there, by a number that has answered before or as ``latest``."""
        name = self.models.pick()
        assert name is not None
        known = [it for it in self.models.now[name] if (name, it) in self.verdict.answered]
        by_number = known and self.draw.random() < BY_NUMBER
        return Question(name, self.draw.choice(known) if by_number else None)

    async def ask(self, connection: Connection, verb: str, asked: Question) -> Answer | None:
        """Ask, and judge an end of the connection."""
        version = "" if asked.number is None else f"/versions/{asked.number}"
        try:
            return await connection.ask("POST", f"/models/{asked.name}{version}/{verb}", b"{}")
        except OSError as error:
            self.verdict.cut_off(asked, error, is_killed=self.is_killed)
            return None

    async def explicit(self, verb: str, asked: Question, connection: Connection) -> None:
        """Have it done, and judge where it was not."""
        answer = await self.ask(connection, verb, asked)
        if answer is not None and answer.status != 200:
            self.verdict.refusal(asked, answer)

    async def status(self, connection: Connection) -> Any:
        return (await connection.ask("GET", "/status")).json()

    def read(self) -> None:
        """Take in what the server and its children have written since."""
        for line in self._journal_lines.lines():
            self.journal.note(line)
        self.journal.look(time.monotonic())
        for line in self._log_lines.lines():
            self.log.note(line)
