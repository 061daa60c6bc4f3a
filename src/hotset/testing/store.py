"""A store under control: objects in memory, that can be held up, fail, and be counted."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hotset.store import Content, ObjectChangedError, ObjectMeta, Revision
from hotset.store.target import new_file
from hotset.testing.gate import Gate


@dataclass(slots=True)
class _Object:
    data: bytes
    etag: str
    modified_s: float


class FakeStore:
    """An object store in memory. ``gate`` holds listings and downloads up; ``fault`` fails them; ``counts`` counts."""

    def __init__(self, *, page_size: int = 1000) -> None:
        self.objects: Final[dict[str, _Object]] = {}
        self.counts: Final[Counter[str]] = Counter()
        self.downloads: Final[Counter[str]] = Counter()
        self.list_gate: Final = Gate()
        self.download_gate: Final = Gate()
        self.list_fault: Exception | None = None
        self.download_fault: Exception | None = None
        self.read_fault: Exception | None = None
        self._page_size = page_size
        self._writes = 0

    @property
    def url(self) -> str:
        return "fake://store"

    def put(self, path: str, data: bytes = b"x", *, modified_s: float = 0.0) -> None:
        """Write an object; each write gives it another etag."""
        self._writes += 1
        self.objects[path] = _Object(data, f"etag-{self._writes}", modified_s)

    def delete(self, prefix: str) -> None:
        """Delete every object below a prefix."""
        for path in [path for path in self.objects if path.startswith(prefix)]:
            del self.objects[path]

    async def list(self, prefix: str = "") -> AsyncIterator[Sequence[ObjectMeta]]:
        self.counts["list"] += 1
        await self.list_gate.pass_through()
        if self.list_fault is not None:
            raise self.list_fault
        found = [self._meta(path) for path in sorted(self.objects) if path.startswith(prefix)]
        for start in range(0, len(found), self._page_size):
            yield found[start : start + self._page_size]

    async def scan(self, start: str = "", *, behind: str = "") -> AsyncIterator[Sequence[ObjectMeta]]:
        """Count each page as a ``scan``, as each is a request."""
        await self.list_gate.pass_through()
        beyond = f"{behind}0" if behind else ""
        found = [
            self._meta(path) for path in sorted(self.objects) if path.startswith(start) and path > beyond
        ]
        for begin in range(0, max(1, len(found)), self._page_size):
            self.counts["scan"] += 1
            if self.list_fault is not None:
                raise self.list_fault
            yield found[begin : begin + self._page_size]

    async def open(self, path: str, *, unless: str | None = None) -> Content | None:
        self.counts["open"] += 1
        if self.list_fault is not None:
            raise self.list_fault
        found = self.objects.get(path)
        if found is None:
            return None
        return Content(Revision(found.etag), None if found.etag == unless else _in_chunks(found.data))

    async def read(self, path: str, *, limit_bytes: int = 1 << 20) -> bytes | None:
        self.counts["read"] += 1
        if self.read_fault is not None:
            raise self.read_fault
        found = self.objects.get(path)
        return None if found is None else found.data[:limit_bytes]

    async def download(self, object_: ObjectMeta, target: Path) -> None:
        self.counts["download"] += 1
        self.downloads[object_.path] += 1
        await self.download_gate.pass_through()
        if self.download_fault is not None:
            raise self.download_fault
        found = self.objects.get(object_.path)
        if found is None or found.etag != object_.etag:
            raise ObjectChangedError(f"not the object that was listed any more: {object_.path}")
        with os.fdopen(new_file(target), "wb") as file:
            file.write(found.data)

    def _meta(self, path: str) -> ObjectMeta:
        found = self.objects[path]
        return ObjectMeta(path, len(found.data), found.etag, found.modified_s)


async def _in_chunks(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def versions(store: FakeStore, tree: Mapping[str, Sequence[int]]) -> None:
    """Put models into a store: name → version numbers, each with one file that says which it is."""
    for name, numbers in tree.items():
        for number in numbers:
            store.put(f"{name}/{number}/model.txt", f"{name}-{number}".encode())
