"""Files that may be renewed while the server runs: certificates and tokens. They are looked at now and then, and read again
when they have changed.

``server.py`` runs it. What cannot be read leaves the old in force, and is told once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from hotset.errors import ConfigError

LOOK_EVERY_S: Final = 5.0

State: TypeAlias = tuple[tuple[int, int, int] | None, ...]
"""Inode, size and time of each file; None for one that is not there."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Renewal:
    """Files that belong together, and what reads them again. ``renew`` raises ``ConfigError`` where they do not fit."""

    what: str
    paths: tuple[Path, ...]
    renew: Callable[[], object]
    seen: State = field(init=False)

    def __post_init__(self) -> None:
        self.seen = state_of(self.paths)


def state_of(paths: Iterable[Path]) -> State:
    """Return what changes when one of the files is replaced or written, also where a link leads elsewhere now."""
    found: list[tuple[int, int, int] | None] = []
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)


class Renewals:
    """Owned by the event loop. ``run`` until it is cancelled; ``look`` may be called at any time."""

    def __init__(self, renewals: Iterable[Renewal], *, every_s: float = LOOK_EVERY_S) -> None:
        self._renewals: Final = tuple(renewals)
        self._every_s: Final = every_s

    async def run(self) -> None:
        while self._renewals:
            await asyncio.sleep(self._every_s)
            await self.look()

    async def look(self) -> None:
        """Read again what has changed since the last look."""
        for renewal in self._renewals:
            state = await asyncio.to_thread(state_of, renewal.paths)
            if state == renewal.seen:
                continue
            renewal.seen = state
            try:
                renewal.renew()
            except ConfigError as error:
                logger.warning("the old %s stay in force: %s", renewal.what, error)
            else:
                logger.info("%s were renewed", renewal.what)
