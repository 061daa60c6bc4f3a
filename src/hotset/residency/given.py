"""Models that a platform brings: it says which to load, from directories that it has filled, and which to unload.

In the place of a store that is listed. What is given is the catalog, and it is pinned in memory: a load that finds no
room is refused at once, for it is the platform that decides what leaves. The doors reach it through ``api.ports``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from weakref import WeakValueDictionary

from hotset.catalog import Diff, Draft, Layout, ModelEntry, Models, Settling, Snapshot
from hotset.clock import Clock
from hotset.errors import (
    ConfigError,
    ErrorKind,
    HotsetError,
    InvalidInputError,
    LoadFailedError,
    LoadingError,
    NotFoundError,
)
from hotset.events import Cause
from hotset.keys import ModelRef, parse_name
from hotset.residency.discovery import Look, Source
from hotset.residency.finder import Finder
from hotset.residency.manager import Manager
from hotset.store import MountedStore, ObjectStore


class GivenModels:
    """Owned by the event loop. ``load`` and ``unload`` at any time, any number at once; ``look`` is the sync loop's.

    Two at once for one name come one after the other.
    """

    def __init__(
        self,
        manager: Manager,
        *,
        store: MountedStore,
        open_store: Callable[[Path], ObjectStore],
        clock: Clock,
        limit_s: float,
        roots: Sequence[Path],
    ) -> None:
        """``open_store`` makes a store of a directory; ``limit_s`` is how long a load, or an unload, may take.

        ``roots``: what is loaded has to lie below one of them, wherever links lead.
        """
        self._roots = tuple(roots)
        self._manager = manager
        self._store = store
        self._open_store = open_store
        self._clock = clock
        self._limit_s = limit_s
        self._loaded: dict[str, str] = {}
        self._entries: dict[str, ModelEntry] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._applying = asyncio.Lock()

    @property
    def loaded(self) -> Mapping[str, str]:
        """The directories of the models that are loaded, by name."""
        return MappingProxyType(self._loaded)

    async def load(self, name: str, url: str) -> bool:
        """Load a model from a directory; False, and nothing is done, if there is one of that name already.

        Raises:
            InvalidInputError: the name is malformed, or lies inside another.
            HotsetError: kind ``forbidden``: the directory is not below one of those that are allowed.
            NotFoundError: there is no such directory.
            OverloadedError: there is no room in memory.
            HotsetError: it cannot be loaded, or not in time.
        """
        parse_name(name)
        async with self._turn(name):
            if name in self._loaded:
                return False
            try:
                await self._bring(name, url)
            except BaseException:
                await asyncio.shield(self._take_out(name))
                raise
            self._loaded[name] = url
        return True

    async def unload(self, name: str) -> None:
        """Forget a model; return when its memory was given back.

        Raises:
            NotFoundError: it is not loaded.
            LoadingError: its requests have not ended in time; it leaves all the same.
        """
        async with self._turn(name):
            if self._loaded.pop(name, None) is None:
                raise NotFoundError(f"no model {name!r} is loaded")
            await asyncio.shield(self._take_out(name))

    async def look(self) -> Look:
        """Put in force what is given; there is nothing to look at."""
        await self._apply()
        return Look(self._manager.catalog.snapshot, Source.GIVEN, Diff())

    def _turn(self, name: str) -> asyncio.Lock:
        return self._turns.setdefault(name, asyncio.Lock())

    def _deadline_s(self) -> float:
        return self._clock.monotonic() + self._limit_s

    async def _bring(self, name: str, url: str) -> None:
        self._entries[name] = await self._read(name, url)
        await self._apply()
        lease = await self._manager.lease(ModelRef(name), deadline_s=self._deadline_s())
        try:
            if not self._manager.pin(lease.key, pinned=True):
                raise LoadingError(f"{lease.key} left memory while it was loaded; try again")
        finally:
            lease.release()

    async def _read(self, name: str, url: str) -> ModelEntry:
        path = await asyncio.to_thread(_real_directory, url, self._roots)
        if path is None:
            raise NotFoundError(f"expected a directory with the model's files, found none: {url}")
        try:
            self._store.mount(name, self._open_store(path))
        except ConfigError as error:
            raise InvalidInputError(str(error)) from error
        finder = Finder(
            store=self._store,
            layout=Layout(static=True, names=frozenset({name})),
            clock=self._clock,
            settle_time_s=0.0,
        )
        entry, _ = await finder.find(name, known=None, memory=Settling())
        if entry is None:
            raise LoadFailedError(f"expected the model's files in the directory, found none: {url}")
        return entry

    async def _take_out(self, name: str) -> None:
        """Undo what ``_bring`` did, as far as it came."""
        entry = self._entries.pop(name, None)
        try:
            if entry is not None:
                await self._apply()
                await self._manager.unload([entry.latest.key], Cause.DELETED, deadline_s=self._deadline_s())
        finally:
            self._store.unmount(name)

    async def _apply(self) -> None:
        """Put in force what is given now; one after the other, as the manager asks for."""
        async with self._applying:
            models = Draft(Models())
            for name, entry in self._entries.items():
                models.set(name, entry)
            await self._manager.offer.apply(Snapshot(models.done()))


def _real_directory(url: str, roots: Sequence[Path]) -> Path | None:
    """Return where a directory really is; None if there is none.

    Raises:
        HotsetError: kind ``forbidden``: it is not below one of ``roots``, whether there is one or not.
    """
    try:
        path = Path(url).resolve()
        below = any(path.is_relative_to(root.resolve()) for root in roots)
    except (OSError, ValueError, RuntimeError):  # a NUL in it, or links in a circle
        return None
    if not below:
        raise HotsetError(
            f"expected a directory below one of {', '.join(map(str, roots))} (sagemaker_roots), found: {url[:200]}",
            kind=ErrorKind.FORBIDDEN,
        )
    return path if path.is_dir() else None
