"""What is loaded before anybody asks: the hot set of the last run, most recent first, and what ``preload`` names.

The server runs it once the first snapshot is in force. It loads only while there is room, so it evicts nothing.
The hot set is written down after each pass of the sync loop and at the end, and read once at start. It is not
written before the warm-up has ended: a replica that is stopped or dies meanwhile starts again from the whole of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from hotset.catalog import VersionEntry
from hotset.clock import Clock
from hotset.config_values import Preload
from hotset.errors import HotsetError
from hotset.keys import ModelRef
from hotset.residency.manager import Manager

_logger = logging.getLogger(__name__)

FORMAT: Final = 1


class HotWord(msgspec.Struct, frozen=True, array_like=True):
    """A word that means something in memory, and how long ago it was last used; of a label, the number that it ``means``."""

    name: str
    version: int | str
    age_s: float
    means: int | None = None


class _HotSet(msgspec.Struct, frozen=True):
    format: int
    words: list[HotWord]


def read_hot_set(path: Path) -> list[HotWord]:
    """Return the words, oldest first; none if the file is not there or is no use."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_HotSet)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return []  # it only makes the start faster
    return sorted(found.words, key=lambda word: -word.age_s) if found.format == FORMAT else []


def write_hot_set(path: Path, words: Sequence[HotWord]) -> None:
    """Replace the file in one step."""
    staged = path.with_name(path.name + ".new")
    staged.write_bytes(msgspec.json.encode(_HotSet(FORMAT, list(words))))
    staged.replace(path)


def hot_words(manager: Manager, now_s: float) -> list[HotWord]:
    """Return what is in memory now, oldest first."""
    meant = manager.rollover.labels.last_meant
    return [
        HotWord(ref.name, ref.version, now_s - used_s, meant(ref))
        for ref, used_s in manager.memory.by_recency()
    ]


class Warmup:
    """Owned by the event loop. ``run`` once."""

    def __init__(
        self, manager: Manager, *, clock: Clock, hot: Sequence[HotWord], preload: Preload, parallel: int
    ) -> None:
        self._manager = manager
        self._clock = clock
        self._hot = hot
        self._preload = preload
        self._parallel = parallel
        self.preloaded = asyncio.Event()
        """Set when all that ``preload`` names is in memory, has failed, or has no room."""
        self.ended = False
        """True once all was tried: until then memory holds only a part of the hot set."""

    async def run(self) -> None:
        """Load what is named and then the hot set; failures are remembered where all failures are."""
        now_s = self._clock.monotonic()
        for word in self._hot:
            self._manager.memory.admit(ModelRef(word.name, word.version), now_s - word.age_s)
            if word.means is not None:
                self._manager.remember_label(ModelRef(word.name, word.version), word.means)
        for ref in self._preload.refs:
            if self._manager.rollover.offered(ref) is None:
                _logger.warning("preload: the store has no %s; it is skipped, look for a typing error", ref)
        named, recent = self._in_order()
        try:
            await self._load(named)
            self.preloaded.set()
            await self._load(recent)
            self.ended = True
        finally:
            self.preloaded.set()
            for word in self._hot:
                self._manager.memory.forget_unused(ModelRef(word.name, word.version))

    def _in_order(self) -> tuple[list[VersionEntry], list[VersionEntry]]:
        hot = [ModelRef(word.name, word.version) for word in reversed(self._hot)]
        named = [*self._preload.refs, *hot[: self._preload.recent]]
        if self._preload.everything:
            named += [*hot, *(ModelRef(name) for name in self._manager.catalog.snapshot.models)]
        return self._versions(named), self._versions(hot)

    def _versions(self, refs: Iterable[ModelRef]) -> list[VersionEntry]:
        offered = (self._manager.rollover.offered(ref) for ref in refs)
        return list({version.key: version for version in offered if version is not None}.values())

    async def _load(self, versions: Sequence[VersionEntry]) -> None:
        waiting = iter(versions)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._parallel, len(versions))):
                group.create_task(self._load_each(waiting))

    async def _load_each(self, waiting: Iterable[VersionEntry]) -> None:
        for version in waiting:
            if not self._manager.memory.has_room(self._manager.expected_weight(version)):
                return
            deadline_s = self._clock.monotonic() + 3600.0
            try:
                await self._manager.ensure_loaded(version, deadline_s=deadline_s)
            except HotsetError:
                continue  # published as an event and remembered by the manager
