"""How far the maker of a streamed answer may be ahead of its client: one ``Window`` for each, of a thread or of the loop.

``finishing`` makes them. Whoever hears from the gateway, in any thread, says ``give`` and ``stop``.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Protocol

from hotset.workers.answers import WINDOW


class Window(Protocol):
    """Room for ``WINDOW`` parts at first. Thread-safe."""

    def give(self, count: int) -> None:
        """So many parts were taken."""
        ...

    def stop(self) -> None:
        """Nobody wants any more of it."""
        ...


class ThreadWindow:
    """That of a generator, whose thread waits for room."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._room = WINDOW
        self._is_stopped = False

    @property
    def is_stopped(self) -> bool:
        return self._is_stopped

    def take(self) -> bool:
        """Wait until there is room for one part, and take it; False once it is stopped."""
        with self._changed:
            while not self._room and not self._is_stopped:
                self._changed.wait()
            self._room -= 1
            return not self._is_stopped

    def give(self, count: int) -> None:
        with self._changed:
            self._room += count
            self._changed.notify()

    def stop(self) -> None:
        with self._changed:
            self._is_stopped = True
            self._changed.notify()


class LoopWindow:
    """That of an asynchronous generator, whose task waits for room, and is cancelled by ``stop``. Made in that task."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._has_room = asyncio.Event()
        self._room = WINDOW
        self.is_stopped = False

    async def take(self) -> None:
        """Wait until there is room for one part, and take it."""
        while not self._room:
            self._has_room.clear()
            await self._has_room.wait()
        self._room -= 1

    def give(self, count: int) -> None:
        self._call(partial(self._given, count))

    def stop(self) -> None:
        self._call(self._stopped)

    def end(self) -> None:
        """From now on ``stop`` changes nothing: the task cleans up. In that task."""
        self._task = None

    def _call(self, step: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop was closed: nothing is made any more
            self._loop.call_soon_threadsafe(step)

    def _given(self, count: int) -> None:
        self._room += count
        self._has_room.set()

    def _stopped(self) -> None:
        if self._task is not None and not self.is_stopped:
            self.is_stopped = True
            self._task.cancel()
