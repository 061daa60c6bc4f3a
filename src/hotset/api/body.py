"""Reading a request's body within limits: its bytes, its time, and the bytes of all together. Every HTTP door uses it.

A body is copied once: a small one stays as it came, a large one goes, part by part, to where the children can read it. What
lies on the heap meanwhile is counted on the ``Pile``.

The time limit has to cost next to nothing, because almost every body is already there when it is asked for. A
timer of its own for each request (``asyncio.timeout``) was measured at 7 µs, more than half of all the rest that
the API layer does for a prediction. So all bodies being read share one timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from hotset.api.errors import HttpError, HttpKind
from hotset.api.pile import Pile, Portion
from hotset.api.reply import Message, Receive
from hotset.errors import InvalidInputError, OverloadedError
from hotset.shared.arena import LARGE_BYTES, Segment
from hotset.shared.room import Room, Wish

LEAST_PILE_BYTES: Final = 256 << 20
"""Of all bodies on the heap together, where nothing else is said; as the setting ``max_bodies_size``."""


class ClientGoneError(Exception):
    """The client closed the connection before its request was whole; there is nobody to answer."""


def _nobody_waits() -> None:
    """For who looks at what ``append`` returns."""


class BodySink:
    """One body on its way in. Owned by the event loop. Legal order: any ``append``, then ``finish`` or ``drop``.

    A large body asks for room in shared memory with its first part. While there is none, ``append`` returns False:
    then read no more from this client until ``on_room`` is called, as its parts are kept on the heap meanwhile.
    What lies there is in ``portion``, whose owner keeps it for as long as the body is needed.
    """

    __slots__ = (
        "_is_declared",
        "_length",
        "_limit_bytes",
        "_on_room",
        "_parts",
        "_portion",
        "_room",
        "_segment",
        "_size",
        "_wish",
    )

    def __init__(
        self,
        room: Room | None,
        *,
        limit_bytes: int,
        declared: int | None,
        on_room: Callable[[], None],
        portion: Portion,
    ) -> None:
        self._room = room
        self._portion = portion
        self._limit_bytes = limit_bytes
        self._is_declared = declared is not None
        self._size = limit_bytes if declared is None else declared
        self._on_room = on_room
        self._length = 0
        self._parts: list[bytes] = []
        self._segment: Segment | None = None
        self._wish: Wish | None = None
        if declared is not None and declared < LARGE_BYTES:
            self._room = None

    @property
    def waits(self) -> bool:
        """Whether it waits for room."""
        return self._wish is not None

    def append(self, part: bytes) -> bool:
        """Take a part; False where no more should be read until ``on_room``.

        Raises:
            HttpError: the body is too large.
            InvalidInputError: it is longer than was declared.
            OverloadedError: all bodies together are.
        """
        start = self._length
        self._length = length = start + len(part)
        if length > self._limit_bytes:
            raise too_large(self._limit_bytes)
        if self._segment is not None:
            self._write(start, part)
            return True
        self._count(part)
        self._parts.append(part)
        if self._room is not None and self._wish is None and (length >= LARGE_BYTES or self._is_declared):
            self._ask(self._room)
        return self._wish is None

    @property
    def missing(self) -> int:
        """How much may be written to ``buffer``: what is to come of a body of declared length that has its room."""
        return len(self._segment) - self._length if self._segment is not None and self._is_declared else 0

    def buffer(self) -> memoryview:
        """Return where the rest of the body goes, for who can receive it there. Legal only where some is missing."""
        assert self._segment is not None
        return self._segment.buffer(self._length)

    def filled(self, count: int) -> None:
        """So much of the ``buffer`` was written."""
        self._length += count

    def finish(self) -> bytes | Segment:
        """Return the whole body, and keep nothing of it: what refers to this object must not keep the memory."""
        segment, self._segment = self._segment, None
        if segment is not None:
            if self._length < len(segment):
                segment.shrink(self._length)
            return segment
        self.drop()  # what came before there was room is only a few parts
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)

    def drop(self) -> None:
        """Give the body up, and its room or its place among those who wait. Safe to call at any time, also after the end."""
        self._segment = None
        wish, self._wish = self._wish, None
        if wish is not None and self._room is not None:
            self._room.drop(wish)

    def _count(self, part: bytes) -> None:
        """One that stays on the heap takes all that it will have at once: else many would begin, and none could end."""
        if self._room is not None or not self._is_declared:
            self._portion.grow(len(part))
        elif not self._parts:
            self._portion.grow(self._size)

    def _ask(self, room: Room) -> None:
        found = room.take(self._size, self._moved)
        if isinstance(found, Segment):
            self._move(found)
        else:
            self._wish = found

    def _moved(self, segment: Segment) -> None:
        self._wish = None
        self._move(segment)
        self._on_room()

    def _move(self, segment: Segment) -> None:
        self._segment = segment
        parts, self._parts = self._parts, []
        start = 0
        for part in parts:
            self._write(start, part)
            start += len(part)
        self._portion.clear()

    def _write(self, start: int, part: bytes) -> None:
        assert self._segment is not None
        if start + len(part) > len(self._segment):
            raise InvalidInputError(f"the body is longer than was declared; expected at most: {self._size}")
        self._segment.write(start, part)


class BodyReader:
    """Owned by the event loop. Any number of ``read`` and ``read_payload`` at once."""

    def __init__(
        self, *, limit_bytes: int, limit_s: float, room: Room | None = None, pile: Pile | None = None
    ) -> None:
        """``room`` is where large payloads go; without it all stay on the heap. ``pile`` counts what is there."""
        self.limit_bytes: Final = limit_bytes
        self.limit_s: Final = limit_s
        self.pile: Final = pile or Pile(max(LEAST_PILE_BYTES, limit_bytes))
        self._room = room
        self._reading: dict[asyncio.Task[Any], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def read(self, receive: Receive, *, declared: int | None = None) -> bytes:
        """Return the whole body as bytes; as ``read_payload`` in all else."""
        body = await self._read(receive, declared, None, None)
        return body if isinstance(body, bytes) else body.tobytes()

    async def read_payload(
        self, receive: Receive, *, declared: int | None = None, portion: Portion | None = None
    ) -> bytes | Segment:
        """Return the whole body, a large one in shared memory. ``declared`` is the length that the client announced.

        ``portion`` is of the ``pile``, and the caller keeps it for as long as the body; None: it counts until it is here.

        Raises:
            HttpError: it is too large, or did not arrive in time.
            OverloadedError: there was no room for it in all that time, or there is too much on the heap.
            ClientGoneError: the client went away in the middle.
        """
        return await self._read(receive, declared, self._shared, portion)

    def sink(
        self,
        *,
        declared: int | None = None,
        on_room: Callable[[], None] = _nobody_waits,
        portion: Portion | None = None,
    ) -> BodySink:
        """Return where a payload's parts go, for a door that gets them one by one. It watches the time itself.

        Raises:
            HttpError: what was declared is too large.
        """
        return self._sink(declared, self._shared, on_room, portion)

    @property
    def shares(self) -> bool:
        """Whether large payloads go to shared memory."""
        return self._shared is not None

    @property
    def _shared(self) -> Room | None:
        room = self._room
        return room if room is not None and room.arena is not None else None

    def _sink(
        self, declared: int | None, room: Room | None, on_room: Callable[[], None], portion: Portion | None
    ) -> BodySink:
        if declared is not None and declared > self.limit_bytes:
            raise self.too_large()
        return BodySink(
            room,
            limit_bytes=self.limit_bytes,
            declared=declared,
            on_room=on_room,
            portion=portion or self.pile.portion(),
        )

    async def _read(
        self, receive: Receive, declared: int | None, room: Room | None, portion: Portion | None
    ) -> bytes | Segment:
        if declared is not None and declared > self.limit_bytes:
            raise self.too_large()
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a body is read inside a task")
        self._watch(task)
        sink = None
        try:
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                return self._whole(message.get("body", b""))
            sink = self._sink(declared, room, (has_room := asyncio.Event()).set, portion)
            return await _collected(message, receive, sink, has_room)
        except asyncio.CancelledError:
            # Ours if the sweep took this task out of the table; a second cancel from outside goes on.
            if task in self._reading or task.uncancel():
                raise
            raise (self.no_room() if sink is not None and sink.waits else self.too_late()) from None
        finally:
            if sink is not None:
                sink.drop()
            self._reading.pop(task, None)

    def _whole(self, body: bytes) -> bytes:
        if len(body) > self.limit_bytes:
            raise self.too_large()
        return body

    def too_large(self) -> HttpError:
        """Return the refusal of a body that is larger than the limit."""
        return too_large(self.limit_bytes)

    def no_room(self) -> OverloadedError:
        """Return the refusal of a body that waited for room in all the time that it had."""
        return OverloadedError(
            f"the memory for large bodies was full for {self.limit_s:g} s; send fewer at once"
        )

    def too_late(self) -> HttpError:
        """Return the refusal of a body that was not whole in time."""
        return HttpError(
            f"the body did not arrive within {self.limit_s:g} s; send it faster or in a smaller request",
            kind=HttpKind.BODY_TIMEOUT,
            headers=[(b"connection", b"close")],
        )

    def _watch(self, task: asyncio.Task[Any]) -> None:
        loop = task.get_loop()
        due_s = loop.time() + self.limit_s
        self._reading[task] = due_s
        if self._timer is None:
            self._timer = loop.call_at(due_s, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cancel what is overdue and wait for the next. The table is in order of time, as all limits are equal."""
        self._timer = None
        now_s = loop.time()
        for task, due_s in list(self._reading.items()):
            if due_s > now_s:
                self._timer = loop.call_at(due_s, self._sweep, loop)
                return
            del self._reading[task]
            task.cancel()


async def _collected(
    message: Message, receive: Receive, sink: BodySink, has_room: asyncio.Event
) -> bytes | Segment:
    while message["type"] == "http.request":
        go_on = sink.append(message.get("body", b""))
        if not message.get("more_body", False):
            return sink.finish()
        if not go_on:
            await has_room.wait()
        message = await receive()
    raise ClientGoneError


def too_large(limit_bytes: int) -> HttpError:
    """Return the refusal of a body that is larger than the limit."""
    return HttpError(
        f"the body is too large; expected at most {limit_bytes} bytes", kind=HttpKind.BODY_TOO_LARGE
    )
