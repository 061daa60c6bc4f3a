"""Segments for those who can wait for one: room in an arena is given in the order in which it was asked for.

The gateway's side of bounded memory: while there is no room, whoever wants to upload a large body waits, and its
client with it, as nothing reads its connection. Called by the body reader; it reads nothing itself.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

from hotset.shared.arena import Arena, Segment, can_share, create_file

_logger: Final = logging.getLogger(__name__)

KEEP_S: Final = 10.0
"""Memory that was not used for about this long goes back to the system."""


class Wish:
    """A segment that somebody waits for. ``on_room`` gets it, unless the wish was dropped."""

    __slots__ = ("is_dropped", "length", "on_room")

    def __init__(self, length: int, on_room: Callable[[Segment], None]) -> None:
        self.length: Final = length
        self.on_room: Final = on_room
        self.is_dropped = False


class Room:
    """Owned by the event loop. Legal order: ``open``; any number of ``take`` and ``drop``; ``close``."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._arena: Arena | None = None
        self._wishes: deque[Wish] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._trimming: Iterator[int] = iter(())

    @property
    def arena(self) -> Arena | None:
        """Where the segments are. None before ``open``, after ``close``, and where the system shares no memory."""
        return self._arena

    def open(self) -> None:
        """Make the arena, if the system can; without it large bodies go where small ones go."""
        self._loop = asyncio.get_running_loop()
        if not can_share():
            return
        try:
            file = create_file(self._size)
            try:
                self._arena = Arena(file, self._size)
            except BaseException:
                os.close(file)
                raise
        except OSError as error:
            _logger.warning(
                "no memory is shared with the child processes, so large bodies are copied: %s", error
            )
            return
        self._arena.on_freed = self._freed

    @property
    def waiting(self) -> int:
        """How many wait for room."""
        return sum(not wish.is_dropped for wish in self._wishes)

    def take(self, length: int, on_room: Callable[[Segment], None]) -> Segment | Wish:
        """Return a segment at once, or a wish that is fulfilled when there is room. Legal only with an arena.

        Raises:
            ValueError: it would never fit.
        """
        arena = self._opened()
        if length > arena.size:
            raise ValueError(f"{length} bytes do not fit into an arena of {arena.size}")
        self._watch()
        if not self.waiting:
            segment = arena.allocate(length)
            if segment is not None:
                return segment
        wish = Wish(length, on_room)
        self._wishes.append(wish)
        return wish

    def drop(self, wish: Wish) -> None:
        """Wait no more; those behind may have their turn."""
        wish.is_dropped = True
        self._serve()

    def close(self) -> None:
        """Give nobody anything any more. The memory goes with the last segment, and the last child."""
        self._wishes.clear()
        if self._timer is not None:
            self._timer.cancel()
        arena, self._arena = self._arena, None
        if arena is not None:
            os.close(arena.file)

    def _opened(self) -> Arena:
        if self._arena is None:
            raise RuntimeError("room that is not open")
        return self._arena

    def _freed(self) -> None:
        """A finalizer's doing, in any thread."""
        if self._wishes:
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                self._loop.call_soon_threadsafe(self._serve)

    def _serve(self) -> None:
        while self._wishes:
            wish = self._wishes[0]
            segment = None if wish.is_dropped else self._opened().allocate(wish.length)
            if segment is None and not wish.is_dropped:
                return
            self._wishes.popleft()
            if segment is not None:
                wish.on_room(segment)

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(KEEP_S, self._trim)

    def _trim(self) -> None:
        self._trimming = self._opened().trim()
        self._trim_step()

    def _trim_step(self) -> None:
        """A few pages in each turn of the loop, then again later, until nothing that is unused is left."""
        if self._arena is None:
            return
        if next(self._trimming, None) is not None:
            self._loop.call_soon(self._trim_step)
            return
        self._timer = None
        if not self._arena.is_clean:
            self._watch()
