"""Reading a request's body within two limits, bytes and time. Every HTTP door uses it.

The time limit has to cost next to nothing, because almost every body is already there when it is asked for. A
timer of its own for each request (``asyncio.timeout``) was measured at 7 µs, more than half of all the rest that
the API layer does for a prediction. So all bodies being read share one timer.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from hotset.api.errors import HttpError, HttpKind
from hotset.api.reply import Receive


class ClientGoneError(Exception):
    """The client closed the connection before its request was whole; there is nobody to answer."""


class BodyReader:
    """Owned by the event loop. Any number of ``read`` at once."""

    def __init__(self, *, limit_bytes: int, limit_s: float) -> None:
        self.limit_bytes: Final = limit_bytes
        self._limit_s = limit_s
        self._reading: dict[asyncio.Task[Any], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def read(self, receive: Receive, *, declared: int | None = None) -> bytes:
        """Return the whole body. ``declared`` is the length that the client announced, if it did.

        Raises:
            HttpError: it is too large, or did not arrive in time.
            ClientGoneError: the client went away in the middle.
        """
        if declared is not None and declared > self.limit_bytes:
            raise self._too_large()
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a body is read inside a task")
        self._watch(task)
        try:
            return await self._collect(receive)
        except asyncio.CancelledError:
            # Ours if the sweep took this task out of the table; a second cancel from outside goes on.
            if task in self._reading or task.uncancel():
                raise
            raise HttpError(
                f"the body did not arrive within {self._limit_s:g} s; send it faster or in a smaller request",
                kind=HttpKind.BODY_TIMEOUT,
                headers=[(b"connection", b"close")],
            ) from None
        finally:
            self._reading.pop(task, None)

    async def _collect(self, receive: Receive) -> bytes:
        collected = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            part: bytes = message.get("body", b"")
            if len(collected) + len(part) > self.limit_bytes:
                raise self._too_large()
            if not message.get("more_body", False):
                return bytes(collected) + part if collected else part
            collected += part

    def _too_large(self) -> HttpError:
        return HttpError(
            f"the body is too large; expected at most {self.limit_bytes} bytes", kind=HttpKind.BODY_TOO_LARGE
        )

    def _watch(self, task: asyncio.Task[Any]) -> None:
        loop = task.get_loop()
        due_s = loop.time() + self._limit_s
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
