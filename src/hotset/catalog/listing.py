"""From a paged listing to models, versions and rejects.

The sync loop feeds pages as they come and finishes once; a lookup does the same with one model's prefix. Nothing here
reads a store or a clock. The result does not depend on the order of the objects.

A listing shows a model's objects one after the other, so a model is dealt with as soon as the next one begins: where
its objects have the digest that is known, nothing of it is kept or read. What remembers nothing cannot put together
what comes in parts: such a name is ``scattered``, and has to be listed once more by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from hotset.catalog.block import UNKNOWN
from hotset.catalog.contents import is_folder_marker
from hotset.catalog.entries import Layout, ModelEntry, Reject
from hotset.catalog.known import Known, Meeting
from hotset.catalog.labels import labels_object
from hotset.catalog.models import Draft, Models
from hotset.catalog.reading import ModelReader, has_hidden
from hotset.store.page import ObjectPage

if TYPE_CHECKING:  # what a page holds
    from hotset.store import ObjectMeta

_MUCH: Final = 200
_DIGEST_BITS: Final = 0xFFFF_FFFF_FFFF_FFFF


@dataclass(frozen=True, slots=True)
class Listing:
    """What one pass over the store showed.

    ``rejects`` are the first ``MAX_REJECTS`` by path; ``rejects_left_out`` counts the others. ``objects``: how many came, of
    scattered names twice. ``unread``: the files of labels that are new, by the name of their model, which has the labels
    that were known before until somebody has read them.
    """

    models: Models
    rejects: tuple[Reject, ...]
    rejects_left_out: int
    objects: int = field(compare=False)
    unread: Mapping[str, ObjectMeta] = field(default_factory=dict, compare=False)


class _Run:
    """The objects of one name, as parts of pages: which, from where, up to where."""

    __slots__ = ("digest", "parts")

    def __init__(self, digest: int, parts: list[tuple[ObjectPage, int, int]]) -> None:
        self.digest = digest
        self.parts = parts

    def objects(self) -> list[ObjectMeta]:
        return [
            meta
            for page, start, end in self.parts
            for meta in page.part(start, end)
            if not is_folder_marker(meta)
        ]


class ListingReader:
    """Collects a listing and makes sense of it.

    Owned by one caller at a time, of any thread. ``feed`` any number of times, with ``catch_up`` in between where
    ``is_behind`` says so; then, until there are none, list what ``take_scattered`` names by itself and feed that; then
    ``finish`` once.
    """

    def __init__(self, layout: Layout, *, known: Models | None = None) -> None:
        """``known``: what an earlier reader of the same store and layout found; it only saves work."""
        self._layout = layout
        self._before: Final = known or Models()
        self._models = Draft(self._before)
        self._known = Known(self._before)
        self._reader = ModelReader(layout)
        self._pending: dict[str, _Run] = {}
        self._highest = ""
        self._fruitless: set[str] = set()
        self._unread: dict[str, ObjectMeta] = {}
        self._scattered: set[str] = set()
        self._relisted: set[str] = set()
        self._prefix: str | tuple[()] = ()
        """What the paths of the run begin with. No path begins with one of no prefixes."""
        self._begun = _Run(0, [])
        """What earlier pages showed of the run."""
        self._objects = 0

    def feed(self, page: Sequence[ObjectMeta]) -> None:
        """Take in a page; cheap, about a microsecond for each object."""
        page = ObjectPage.of(page)
        digests = page.digests()
        self._objects += len(page)
        prefix, start = self._prefix, 0
        for index, path in enumerate(page.paths):
            if path.startswith(prefix):
                continue
            if start < index or self._begun.parts:
                self._end_run(page, digests, start, index)
            end = self._end_of_name(path)
            if end < 0:
                self._reject_shallow(page[index])
            self._prefix = prefix = path[: end + 1] if end >= 0 else ()
            start = index
        if prefix and start < len(page):
            self._begun.digest += sum(digests[start:])
            self._begun.parts.append((page, start, len(page)))

    @property
    def is_behind(self) -> bool:
        """Whether so much waits to be read that ``catch_up`` should be called."""
        return len(self._pending) >= _MUCH

    def catch_up(self) -> None:
        """Read the models that are new or changed. Takes its time, about 15 µs for each."""
        pending, self._pending = self._pending, {}
        for name, run in pending.items():
            objects = run.objects()
            if objects:
                self._read(name, objects, run.digest)
        self._highest = max(self._highest, *pending, "")

    def take_scattered(self) -> frozenset[str]:
        """Return the names whose objects came in parts; each has to be listed by itself and fed, from now on."""
        self._end_run(ObjectPage.of(()), (), 0, 0)
        self._prefix = ()
        scattered, self._scattered = frozenset(self._scattered), set()
        for name in scattered:
            self._pending.pop(name, None)
            self._fruitless.discard(name)
            self._unread.pop(name, None)
            self._models.set(name, None)
            self._reader.rejects.forget(f"{name}/")
        self._relisted |= scattered
        return scattered

    def finish(self) -> Listing:
        """Return what the pages showed."""
        if self.take_scattered():
            raise ValueError("names whose objects came in parts were not listed again; see take_scattered")
        self.catch_up()
        for name in self._known.missing():
            self._models.set(name, None)
        models = self._models.done()
        for name in sorted(self._layout.names):
            if name not in models and name not in self._fruitless:
                self._read(name, [], UNKNOWN)
        rejects, left_out = self._reader.rejects.take()
        return Listing(self._models.done(), rejects, left_out, self._objects, self._unread)

    def _end_run(self, page: ObjectPage, digests: Sequence[int], start: int, end: int) -> None:
        """The objects of a name have all come, as far as one can tell, the last of them in this part of a page."""
        if not self._prefix:
            return
        digest = (self._begun.digest + sum(digests[start:end])) & _DIGEST_BITS
        if not self._known.is_next(digest):
            parts = [*self._begun.parts, (page, start, end)]
            self._put_aside(str(self._prefix[:-1]), _Run(digest, parts))
        if self._begun.parts:
            self._begun = _Run(0, [])

    def _put_aside(self, name: str, run: _Run) -> None:
        """Keep what has to be read."""
        if not self._layout.static and has_hidden(name):
            return
        waiting = self._pending.get(name)
        if waiting is not None:
            waiting.parts += run.parts
            waiting.digest = (waiting.digest + run.digest) & _DIGEST_BITS
            return
        meeting = self._known.meet(name, run.digest)
        if name in self._relisted:
            self._pending[name] = run
        elif meeting is Meeting.AGAIN or (meeting is Meeting.NEW and self._was_read(name)):
            self._scattered.add(name)
        elif meeting is not Meeting.SAME:
            self._pending[name] = run

    def _was_read(self, name: str) -> bool:
        return name <= self._highest and (name in self._fruitless or name in self._models)

    def _read(self, name: str, objects: Sequence[ObjectMeta], digest: int) -> None:
        faults = self._reader.rejects.count
        entry = self._reader.read(name, objects)
        if entry is None:
            self._fruitless.add(name)
        elif not self._layout.static and not entry.is_unversioned:
            entry = self._labelled(entry, objects)
        if entry is not None or name in self._models:
            is_faultless = self._reader.rejects.count == faults and name not in self._unread
            self._models.set(name, entry, digest if is_faultless else UNKNOWN)

    def _labelled(self, entry: ModelEntry, objects: Sequence[ObjectMeta]) -> ModelEntry:
        """Give a model the labels that are known; where there is a file of them that is not, note that."""
        file = labels_object(entry.name, objects)
        if file is None:
            return entry
        before = self._before.get(entry.name)
        labels = before.labels if before is not None else None
        if labels is None or labels.etag != file.etag:
            self._unread[entry.name] = file
        elif labels.problem:
            self._reader.rejects.add(file.path, labels.problem)
        return replace(entry, labels=labels)

    def _end_of_name(self, path: str) -> int:
        """Return the index of the slash after the name, or -1 if there is none."""
        end = path.find("/")
        if self._layout.static:
            while end >= 0 and path[:end] not in self._layout.names:
                end = path.find("/", end + 1)
            return end
        for _ in range(self._layout.name_depth - 1):
            if end < 0:
                break
            end = path.find("/", end + 1)
        return end

    def _reject_shallow(self, meta: ObjectMeta) -> None:
        """List an object above the models; one without bytes is as good as a folder, and says nothing."""
        if meta.size and not has_hidden(meta.path):
            self._reader.rejects.add(meta.path, f"it belongs to no model; expected: {self._layout.expected}")
