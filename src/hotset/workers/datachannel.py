"""The child's end of the data channel: calls in, answers out, large ones of both through shared memory.

The predict threads' mailbox; ``child.py`` makes it. A call's body and an answer's are copied nowhere here when they
are large: a body is a view of the gateway's arena, and an answer is written into this child's own.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque
from typing import Final, NamedTuple

from hotset.errors import HotsetError
from hotset.payload import Encoded
from hotset.shared.arena import LARGE_BYTES, Arena, Segment
from hotset.shared.mapped import MappedArena
from hotset.workers import framing, wire
from hotset.workers.answers import Answered, Begun, End, Part
from hotset.workers.backlog import Job
from hotset.workers.base import LoadSpec, PredictCall, Swapped
from hotset.workers.failure import pack

_LARGE_READ: Final = 1 << 20


class Shared(NamedTuple):
    """Files of the gateway's arena, with the bodies of calls, and of this child's own, for answers."""

    bodies: int
    bodies_bytes: int
    answers: int
    answers_bytes: int


class DataChannel:
    """``receive`` in one thread at a time, all else in any."""

    def __init__(self, channel: socket.socket, shared: Shared | None = None, *, threads: int = 1) -> None:
        """Map what is shared; its files may be closed then. ``threads`` is how many there are that receive.

        Raises:
            OSError: there is no room to map it.
        """
        self._socket = channel
        self._reader = framing.FrameReader(wire.decode_data_order)
        self._write = threading.Lock()
        self._bodies: MappedArena | None = None
        self._answers: Arena | None = None
        if shared is not None:
            self._bodies = MappedArena(shared.bodies, shared.bodies_bytes, on_unused=self._unused)
            self._answers = Arena(shared.answers, shared.answers_bytes)
        self._sent: dict[int, Segment] = {}
        """Answers that the gateway still reads."""
        self._done: deque[int] = deque()
        """Bodies that nothing here uses any more, of which the gateway is to be told."""
        self._threads = threads
        self._receiver = 0
        self._held: deque[bytes] = deque()
        """What goes with the next answers."""
        self.swaps: list[tuple[int, LoadSpec]] = []

    def receive(self, *, wait: bool) -> list[Job] | None:
        if self._done:
            self._tell()
        if wait and self._held:
            self.send([])
        jobs: list[Job] = []
        while True:
            size = min(max(self._reader.missing, framing.RECEIVE_BYTES), _LARGE_READ)
            try:
                data = self._socket.recv(size, 0 if wait else socket.MSG_DONTWAIT)
            except BlockingIOError:
                return jobs
            if not data:
                return jobs or None
            for message, body in self._reader.feed(data):
                if isinstance(message, wire.Predict):
                    jobs.append(_job(message, body if message.place is None else self._body(message)))
                elif isinstance(message, wire.Freed):
                    self._sent.pop(message.number, None)
                else:
                    self.swaps.append((message.number, message.spec))
            if len(data) == size:
                # There is more: whose turn it is can be told only once all is known.
                wait = wait and not jobs and not self.swaps
            elif jobs or self.swaps or not wait:
                return jobs

    def hold(self, number: int, swapped: Swapped) -> None:
        reply = wire.Swapped(number, swapped.is_loaded, swapped.are_gone, swapped.is_light)
        self._held.append(framing.frame_head(reply))

    def send(self, answers: list[Answered]) -> None:
        pieces: list[framing.Piece] = []
        while self._held:
            pieces.append(self._held.popleft())
        for answer in answers:
            pieces += self._frame(answer)
        if self._done:
            pieces += _freed(self._done)
        buffers = framing.joined(pieces)
        with self._write:
            for buffer in buffers:
                self._socket.sendall(buffer)
        if self._done:
            self._tell()

    def trim(self) -> None:
        """Give the system back what answers have not needed since the last time."""
        if self._answers is not None:
            for _ in self._answers.trim():
                pass

    def _body(self, message: wire.Predict) -> memoryview:
        self._receiver = threading.get_ident()
        if self._bodies is None or message.place is None:
            raise framing.WireError("a body in shared memory, where none is shared")
        return self._bodies.view(message.number, message.place)

    def _frame(self, answer: Answered) -> tuple[framing.Piece, ...]:
        number, outcome = answer
        if isinstance(outcome, Encoded):
            body = outcome.body
            try:
                headers = tuple(outcome.headers)
                if len(body) >= LARGE_BYTES and self._answers is not None:
                    segment = self._answers.holding(body)
                    if segment is not None:
                        self._sent[number] = segment
                        message = wire.Answer(number, outcome.content_type, headers, segment.place)
                        return (framing.frame_head(message),)
                return framing.frame_head(wire.Answer(number, outcome.content_type, headers), len(body)), body
            except (framing.WireError, TypeError) as error:
                self._sent.pop(number, None)
                outcome = HotsetError(f"an answer that cannot be sent: {error}")
        if not isinstance(outcome, HotsetError):
            return _stream_frame(number, outcome)
        return (framing.frame_head(wire.Failed(number, pack(outcome))),)

    def _unused(self, number: int) -> None:
        self._done.append(number)
        # A thread that receives alone comes by here again before it waits: what it has to tell goes with its answer.
        if self._threads > 1 or threading.get_ident() != self._receiver:
            self._tell()

    def _tell(self) -> None:
        """Tell the gateway which bodies are not used any more.

        This runs in finalizers, where waiting for the lock could be for ever: whoever has it now looks again after.
        """
        while self._done and self._write.acquire(blocking=False):
            try:
                with contextlib.suppress(OSError):  # the gateway is gone; who receives will see it
                    self._socket.sendall(b"".join(_freed(self._done)))
            finally:
                self._write.release()


def _stream_frame(number: int, step: Begun | Part | End) -> tuple[framing.Piece, ...]:
    if isinstance(step, Part):
        return framing.frame_head(wire.Part(number), len(step.body)), step.body
    if isinstance(step, End):
        return (framing.frame_head(wire.End(number)),)
    first = step.first
    head = wire.Begun(number, first.content_type, tuple(first.headers))
    return framing.frame_head(head, len(first.body)), first.body


def _freed(numbers: deque[int]) -> list[bytes]:
    """Return frames for all of these, and take them out. Several threads may."""
    frames = []
    with contextlib.suppress(IndexError):
        while numbers:
            frames.append(framing.frame_head(wire.Freed(numbers.popleft())))
    return frames


def _job(message: wire.Predict, body: bytes | memoryview) -> Job:
    return Job(
        message.number,
        PredictCall(
            message.handle,
            message.codec,
            body,
            message.content_type,
            message.query_string,
            message.headers,
            message.deadline_s,
        ),
    )
