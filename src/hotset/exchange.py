"""What stands in a connection's order of answers: an answer that is known at once, or a prediction on its way.

``connection`` makes them from what the parser says, and writes their answers. Nothing here knows a transport.
"""

from __future__ import annotations

from functools import partial
from typing import Final, Protocol

import httptools

from hotset.api.body import BodySink
from hotset.api.errors import HttpError
from hotset.api.headers import RequestHeaders
from hotset.api.http1 import Wire
from hotset.api.pile import Portion
from hotset.api.ports import Answer
from hotset.api.predictions import Predictions, Target
from hotset.api.reply import RawHeader
from hotset.errors import HotsetError
from hotset.outflow import Outflow
from hotset.shared.arena import LARGE_BYTES


class Owner(Protocol):
    """The connection, as an exchange sees it."""

    expect_100_continue: bool
    """Whether the client waits to be told before it sends its body."""

    def answered(self, exchange: Exchange, outcome: Answer | Exception) -> None:
        """Its prediction has ended."""
        ...

    def read_on(self) -> None:
        """There is room for its body now."""
        ...


class Place:
    """A place in the order of answers, and the answer once there is one. Owned by its connection."""

    __slots__ = ("answer", "keep_alive")

    def __init__(self, *, keep_alive: bool, answer: Wire | Outflow | None = None) -> None:
        """Without ``keep_alive`` the connection is closed behind the answer."""
        self.keep_alive = keep_alive
        self.answer = answer


class Exchange(Place):
    """A prediction on its way: its request as it comes, then its answer. Owned by its connection.

    Legal order: ``head``; any ``add`` and ``settle``; ``start`` unless there is an answer by then. ``drop`` where it ends
    before.
    """

    __slots__ = ("_body", "_connection", "_headers", "_portion", "_raw", "_sink", "target")

    def __init__(self, connection: Owner, target: Target, *, keep_alive: bool) -> None:
        super().__init__(keep_alive=keep_alive)
        self._connection = connection
        self.target = target
        self._headers: RequestHeaders
        self._raw: list[RawHeader] = []
        self._body = b""
        self._sink: BodySink | None = None
        self._portion: Portion | None = None  # goes with this object, which is there until the answer

    @property
    def sink(self) -> BodySink | None:
        """Where its body goes, once it has turned out to be large."""
        return self._sink

    @property
    def waits_for_room(self) -> bool:
        return self._sink is not None and self._sink.waits

    def head(self, predictions: Predictions, raw: list[RawHeader]) -> None:
        """Take the headers; what is wrong with them is the answer."""
        self._raw = raw
        try:
            self._headers = predictions.head(self.target, raw)
        except (HotsetError, HttpError) as error:
            if self._connection.expect_100_continue:
                self.keep_alive = False  # nobody knows whether its body will come
            self.refuse(predictions, error)

    def refuse(self, predictions: Predictions, error: HotsetError | HttpError) -> None:
        """Answer before the request is whole. What still comes of it is read and dropped: a client that is in the
        middle of sending would not see the answer otherwise."""
        self.drop()
        self.answer = predictions.refused(self.target, error, keep_alive=self.keep_alive)

    def add(self, predictions: Predictions, part: bytes) -> bool:
        """Take a part of the body; False if no more should be read until there is room."""
        try:
            if self._sink is None:
                if not self._body and len(part) <= min(LARGE_BYTES, predictions.limit_bytes):
                    self._body = part  # nearly always all of it
                    return True
                portion = self._portion = predictions.portion()
                self._sink = predictions.sink(
                    self._headers, on_room=self._connection.read_on, portion=portion
                )
                self._sink.append(self._body)
            return self._sink.append(part)
        except (HotsetError, HttpError) as error:
            self.refuse(predictions, error)
            return True

    def settle(self, predictions: Predictions) -> None:
        """Count what has come, as it stays for longer than a moment: its rest is still to come, or it waits for its turn."""
        if self._portion is not None or not self._body:
            return
        portion = self._portion = predictions.portion()
        try:
            portion.grow(len(self._body))
        except HotsetError as error:
            self.refuse(predictions, error)

    def start(self, predictions: Predictions) -> None:
        body = self._body if self._sink is None else self._sink.finish()
        self._body, self._sink = b"", None
        try:
            done = partial(self._connection.answered, self)
            predictions.start(self.target, self._headers, self._raw, body, done)
        except Exception as error:  # noqa: BLE001 - the last border: it is logged and answered
            self._connection.answered(self, error)

    def drop(self) -> None:
        """Its body is not wanted any more."""
        if self._sink is not None:
            self._sink.drop()
        self._body, self._sink, self._portion = b"", None, None


class Targets:
    """What first lines ask for, kept for those that are asked often. Owned by the event loop; all connections share it."""

    MOST: Final = 8192
    LONGEST: Final = 512

    def __init__(self, predictions: Predictions) -> None:
        self._predictions = predictions
        self._known: dict[bytes, Target | None] = {}

    def find(self, url: bytes) -> Target | None:
        """Return what a URL asks for if that is a prediction, else None."""
        try:
            return self._known[url]
        except KeyError:
            target = self._parsed(url)
        if len(url) <= self.LONGEST:
            if len(self._known) >= self.MOST:
                self._known.clear()
            self._known[url] = target
        return target

    def _parsed(self, url: bytes) -> Target | None:
        try:
            parsed = httptools.parse_url(url)
        except httptools.HttpParserInvalidURLError:
            return None  # uvicorn says what is wrong with it
        return self._predictions.target(parsed.path or b"/", parsed.query or b"")
