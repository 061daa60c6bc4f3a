"""A page of a listing as columns: the same objects, without one Python object for each.

Stores make pages, the catalog's reader takes them column by column; to everyone else a page is a sequence of
``ObjectMeta`` like any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from hotset.store.base import ObjectMeta


@dataclass(frozen=True, slots=True, eq=False)
class ObjectPage(Sequence[ObjectMeta]):
    """Objects as a listing shows them, a list for each of their attributes. Immutable: nobody changes the lists."""

    paths: Sequence[str]
    sizes: Sequence[int]
    etags: Sequence[str]
    modified_s: Sequence[float]

    @classmethod
    def of(cls, objects: Sequence[ObjectMeta]) -> ObjectPage:
        """Return any page as columns."""
        if isinstance(objects, ObjectPage):
            return objects
        return cls(
            [meta.path for meta in objects],
            [meta.size for meta in objects],
            [meta.etag for meta in objects],
            [meta.modified_s for meta in objects],
        )

    def digests(self) -> list[int]:
        """Return a number for each object: another one if anything of it changes. Of this process alone."""
        return [*map(hash, zip(self.paths, self.sizes, self.etags, self.modified_s, strict=True))]

    def part(self, start: int, end: int) -> ObjectPage:
        return ObjectPage(
            self.paths[start:end], self.sizes[start:end], self.etags[start:end], self.modified_s[start:end]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[ObjectMeta]:
        return map(ObjectMeta, self.paths, self.sizes, self.etags, self.modified_s)

    @overload
    def __getitem__(self, index: int) -> ObjectMeta: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ObjectMeta]: ...
    def __getitem__(self, index: int | slice) -> ObjectMeta | Sequence[ObjectMeta]:
        if isinstance(index, slice):
            return ObjectPage(self.paths[index], self.sizes[index], self.etags[index], self.modified_s[index])
        return ObjectMeta(self.paths[index], self.sizes[index], self.etags[index], self.modified_s[index])
