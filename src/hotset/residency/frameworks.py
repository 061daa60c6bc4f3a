"""Finds out which frameworks the models need, and has the workers import them before the first load does.

Made by the composition root. What it goes by, whichever comes first: the files on disk, the files of a few versions of
the first snapshot (one request to the store each), and what is loaded. A wrong guess costs an import in vain, and a
missing one makes the first load slower; nothing else depends on it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from itertools import islice
from typing import Final, Protocol

from hotset.catalog import Snapshot
from hotset.errors import HotsetError
from hotset.events import Loaded
from hotset.runtimes.ahead import Imports, imports_for_files, imports_for_runtime
from hotset.store import ObjectStore

_logger: Final = logging.getLogger(__name__)

SAMPLES: Final = 3
"""So many models are looked at: nearly all stores hold models of one framework."""


class Importers(Protocol):
    """Whoever imports: the worker pool."""

    def import_ahead(self, imports: Imports) -> None: ...

    def is_shared(self, worker: int) -> bool:
        """Whether a worker of that id is one of those that models share."""
        ...


class Frameworks:
    """Owned by the event loop. Any calls in any order; ``settled`` is set once the first snapshot was looked at, or before
    that if anything was found."""

    def __init__(self, importers: Importers, *, store: ObjectStore) -> None:
        self._importers = importers
        self._store = store
        self._told: set[str] = set()
        self._runtimes: set[str] = set()
        self.settled: Final = asyncio.Event()

    def need(self, imports: Imports) -> None:
        """Have these imported, unless they have been already."""
        shared, own = (
            tuple(module for module in modules if module not in self._told)
            for modules in (imports.shared, imports.own)
        )
        if shared or own:
            self._told |= {*shared, *own}
            self._importers.import_ahead(Imports(shared, own))
            self.settled.set()

    def see_files(self, files: Iterable[str]) -> None:
        """Have imported what versions with these files need."""
        self.need(imports_for_files(files))

    def on_event(self, event: object) -> None:
        """A model was loaded: the workers that come later should have its framework too, unless it lives alone."""
        if (
            isinstance(event, Loaded)
            and event.runtime not in self._runtimes
            and self._importers.is_shared(event.worker)
        ):
            self._runtimes.add(event.runtime)
            self.need(imports_for_runtime(event.runtime))

    async def look_at(self, snapshot: Snapshot) -> None:
        """List the files of some versions, if nothing is known yet."""
        if not self._told:
            for model in list(islice(snapshot.models.values(), SAMPLES)):
                self.see_files(await self._files_of(model.latest.prefix))
        self.settled.set()

    async def _files_of(self, prefix: str) -> list[str]:
        files: list[str] = []
        try:
            async for page in self._store.list(prefix):
                files += (item.path for item in page)
        except HotsetError as error:
            _logger.debug("the files of %s could not be listed: %s", prefix, error)
        return files
