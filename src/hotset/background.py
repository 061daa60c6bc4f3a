"""Tasks that run beside the requests until the replica ends: the sync loop, the memory guard, the warm-up, a save.

The replica starts them and ends them. None is waited for by a request, and one that fails leaves the others alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final

_logger: Final = logging.getLogger(__name__)


class Background:
    """Owned by the event loop. ``spawn`` any number of times, ``end`` at the end."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Start a task; ``name`` is what the log calls it if it fails."""
        task: asyncio.Task[None] = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def end(self) -> None:
        """Cancel all of them, and return when they have ended."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _logger.error("%s ended with an error", task.get_name(), exc_info=task.exception())
