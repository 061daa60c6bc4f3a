"""A listing in which all that is in a folder stands together, cut into models: each with its objects, one by one.

For whoever wants more of a model than a catalog keeps (the writer of an index), or only a page of them. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from hotset.catalog.entries import Layout

if TYPE_CHECKING:  # what a listing holds; the catalog itself needs no store
    from hotset.store import ObjectMeta


class ByModel:
    """Owned by one caller. ``feed`` any number of times, then ``rest`` once."""

    def __init__(self, layout: Layout) -> None:
        self._slashes = layout.name_depth
        self._name = ""
        self._objects: list[ObjectMeta] = []

    @property
    def name(self) -> str:
        """The model whose objects came last, and may not be complete."""
        return self._name

    @property
    def objects(self) -> int:
        """How many objects of it have come."""
        return len(self._objects)

    def feed(self, page: Sequence[ObjectMeta]) -> Iterator[tuple[str, list[ObjectMeta]]]:
        """Take in a page; yield the models that are complete by it. Objects above the models are left out."""
        for meta in page:
            parts = meta.path.split("/", self._slashes)
            if len(parts) <= self._slashes:
                continue
            name = meta.path[: len(meta.path) - len(parts[-1]) - 1]
            if name != self._name:
                yield from self.rest()
                self._name = name
            self._objects.append(meta)

    def rest(self) -> Iterator[tuple[str, list[ObjectMeta]]]:
        """Yield the last model, if there was one: nothing more comes."""
        if self._objects:
            name, objects = self._name, self._objects
            self._name, self._objects = "", []
            yield name, objects
