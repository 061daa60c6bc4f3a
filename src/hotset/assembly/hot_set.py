"""What of a replica outlives its process: what is hot, and what the disk tier remembers of its versions.

Its file is read at the start, loaded from once the store was listed, and written after each pass of the sync loop and at the end.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final

from hotset.assembly.ground import Ground
from hotset.residency.manager import Manager
from hotset.residency.warmup import HotWord, Warmup, hot_words, read_hot_set, write_hot_set
from hotset.tiers.disk import DiskTier

_logger: Final = logging.getLogger(__name__)


class HotSet:
    """Owned by the event loop. ``read`` → ``load``, once; ``save`` any time."""

    def __init__(self, ground: Ground, manager: Manager, disk: DiskTier, *, path: Path) -> None:
        self._ground = ground
        self._manager = manager
        self._disk = disk
        self._path = path
        self._words: list[HotWord] = []
        self._warmup: Warmup | None = None

    @property
    def is_preloaded(self) -> bool:
        """Whether all that ``preload`` names was tried."""
        return self._warmup is not None and self._warmup.preloaded.is_set()

    @property
    def is_loaded(self) -> bool:
        """Whether all was tried. What is in memory before is only a part of what is hot, and is not written down."""
        return self._warmup is not None and self._warmup.ended

    async def read(self) -> None:
        """Find out what was hot in the last run."""
        self._words = await asyncio.to_thread(read_hot_set, self._path)

    async def load(self) -> None:
        """Load what ``preload`` names, and what was hot, as far as there is room."""
        settings = self._ground.settings
        self._warmup = Warmup(
            self._manager,
            clock=self._ground.clock,
            hot=self._words,
            preload=settings.preload,
            parallel=settings.parallel_fetches,
        )
        await self._warmup.run()

    async def save(self) -> None:
        """Write down what is hot now and what the disk tier remembers. A failure costs a slower start, no more."""
        words = hot_words(self._manager, self._ground.clock.monotonic())
        try:
            if self.is_loaded:
                await asyncio.to_thread(write_hot_set, self._path, words)
            await self._disk.save()
        except OSError as error:
            _logger.warning("what is hot could not be saved: %s", error)
