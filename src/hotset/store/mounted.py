"""Several stores as one: each name is a folder at the top, so that a static list of models needs no code of its own.

The list may change, where a platform says which models there are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from hotset.errors import ConfigError
from hotset.store.base import Content, ObjectChangedError, ObjectMeta, ObjectStore


class MountedStore:
    """The stores of ``mounts``, each seen below its name (which may hold ``/``). Safe for many tasks at once."""

    def __init__(self, mounts: Mapping[str, ObjectStore]) -> None:
        self._mounts = _as_folders(mounts)

    def mount(self, name: str, store: ObjectStore) -> None:
        """Show a store below a name from now on.

        Raises:
            ConfigError: one name lies inside another.
        """
        self._mounts = _as_folders({**{it[:-1]: found for it, found in self._mounts.items()}, name: store})

    def unmount(self, name: str) -> None:
        """Show no store below a name any more; one that is not there is no error."""
        self._mounts = {folder: store for folder, store in self._mounts.items() if folder != f"{name}/"}

    @property
    def url(self) -> str:
        mounts = (f"{folder[:-1]}: {store.url}" for folder, store in self._mounts.items())
        return ", ".join(mounts) or "a list without models"

    async def list(self, prefix: str = "") -> AsyncIterator[Sequence[ObjectMeta]]:
        for folder, store in self._mounts.items():
            if not (folder.startswith(prefix) or prefix.startswith(folder)):
                continue
            async for page in store.list(prefix[len(folder) :]):
                yield [replace(object_, path=folder + object_.path) for object_ in page]

    async def scan(self, start: str = "", *, behind: str = "") -> AsyncIterator[Sequence[ObjectMeta]]:
        async for page in self.list():
            found = [
                object_
                for object_ in page
                if object_.path.startswith(start)
                and (not behind or object_.path.split("/") > behind.split("/"))
                and not object_.path.startswith(f"{behind}/")
            ]
            if found:
                yield found

    async def open(self, path: str, *, unless: str | None = None) -> Content | None:
        found = self._find(path)
        if found is None:
            return None
        store, inner = found
        return await store.open(inner, unless=unless)

    async def read(self, path: str, *, limit_bytes: int = 1 << 20) -> bytes | None:
        found = self._find(path)
        if found is None:
            return None
        store, inner = found
        return await store.read(inner, limit_bytes=limit_bytes)

    async def download(self, object_: ObjectMeta, target: Path) -> None:
        found = self._find(object_.path)
        if found is None:
            raise ObjectChangedError(f"no store is mounted for the object: {object_.path!r}")
        store, inner = found
        await store.download(replace(object_, path=inner), target)

    def _find(self, path: str) -> tuple[ObjectStore, str] | None:
        for end, character in enumerate(path):
            if character == "/" and (store := self._mounts.get(path[: end + 1])) is not None:
                return store, path[end + 1 :]
        return None


def _as_folders(mounts: Mapping[str, ObjectStore]) -> dict[str, ObjectStore]:
    folders = {f"{name}/": store for name, store in sorted(mounts.items())}
    for outer, inner in pairwise(sorted(folders)):
        if inner.startswith(outer):
            raise ConfigError(
                f"the model {inner[:-1]!r} lies inside the model {outer[:-1]!r}; rename one of them"
            )
    return folders
