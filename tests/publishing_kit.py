"""What tests of publishing look at: the objects of a store, what a server would offer, and a store that fails."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from hotset.catalog import Layout, ListingReader, Settling, Snapshot, settle
from hotset.errors import StoreError
from hotset.store import Content, ObjectMeta, Revision, WritableStore

LATER_S = 4e9


async def objects(store: WritableStore, prefix: str = "") -> dict[str, int]:
    return {meta.path: meta.size async for page in store.list(prefix) for meta in page}


async def offered(store: WritableStore) -> dict[str, list[int]]:
    """What a server offers however long it waits: name → versions."""
    reader = ListingReader(Layout())
    async for page in store.list():
        reader.feed(page)
    snapshot, _ = settle(
        reader.finish(), Settling(), Snapshot(), now_s=LATER_S, wall_s=LATER_S, settle_time_s=10.0
    )
    return {
        name: [version.key.version for version in model.versions] for name, model in snapshot.models.items()
    }


class FailingStore:
    """A store that stops after so many writes, as if the publisher had been killed or the store had gone."""

    def __init__(self, store: WritableStore, *, writes: int, error: BaseException | None = None) -> None:
        self._store = store
        self._left = writes
        self._error = error or StoreError("the store went away")
        self.url = store.url

    def _count(self) -> None:
        if self._left <= 0:
            raise self._error
        self._left -= 1

    def list(self, prefix: str = "") -> AsyncIterator[Sequence[ObjectMeta]]:
        if self._left <= 0:
            raise self._error
        return self._store.list(prefix)

    def scan(self, start: str = "", *, behind: str = "") -> AsyncIterator[Sequence[ObjectMeta]]:
        return self._store.scan(start, behind=behind)

    async def open(self, path: str, *, unless: str | None = None) -> Content | None:
        return await self._store.open(path, unless=unless)

    async def read(self, path: str, *, limit_bytes: int = 1 << 20) -> bytes | None:
        return await self._store.read(path, limit_bytes=limit_bytes)

    async def download(self, object_: ObjectMeta, target: Path) -> None:
        await self._store.download(object_, target)

    async def write(self, path: str, data: bytes) -> None:
        self._count()
        await self._store.write(path, data)

    async def write_if(self, path: str, data: bytes, revision: Revision | None) -> None:
        self._count()
        await self._store.write_if(path, data, revision)

    async def upload(self, path: str, source: Path, *, sent: Callable[[int], None]) -> None:
        self._count()
        await self._store.upload(path, source, sent=sent)

    async def delete(self, path: str) -> None:
        self._count()
        await self._store.delete(path)
