"""From a paged listing to models, versions and rejects.

The sync loop feeds pages as they come and finishes once; a lookup does the same with one model's prefix. Nothing here
reads a store or a clock. The result does not depend on the order of the objects, and is compact: what is known of
each object goes away with the reader.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from hotset.catalog.contents import (
    UnfaithfulVersionError,
    VersionContents,
    is_folder_marker,
    version_contents,
)
from hotset.catalog.entries import Layout, ModelEntry, Reject, VersionEntry
from hotset.errors import InvalidInputError
from hotset.keys import ModelKey, parse_name, parse_version

if TYPE_CHECKING:  # what a listing holds; the catalog itself needs no store
    from hotset.store import ObjectMeta

MAX_REJECTS: Final = 1000


@dataclass(frozen=True, slots=True)
class Listing:
    """What one pass over the store showed. ``complete``: versions with a success marker newer than all else.
    ``publishing``: versions that a publisher says it is still at.

    ``rejects`` are the first ``MAX_REJECTS`` by path; ``rejects_left_out`` counts the others. ``digests``: a number
    for the objects of each faultless model, by which the next reader in this process knows that they are the same.
    """

    models: Mapping[str, ModelEntry]
    complete: frozenset[ModelKey]
    rejects: tuple[Reject, ...]
    rejects_left_out: int
    objects: int
    digests: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)
    publishing: frozenset[ModelKey] = frozenset()


def _is_hidden(part: str) -> bool:
    return part[:1] in {"_", "."} and part not in {".", ".."}


def _has_hidden(path: str) -> bool:
    return any(map(_is_hidden, path.split("/")))


class _Rejects:
    """The first ``MAX_REJECTS`` by path and a count, whatever the order in which they come."""

    def __init__(self) -> None:
        self._kept: list[Reject] = []
        self.count = 0

    def add(self, path: str, reason: str) -> None:
        self.count += 1
        self._kept.append(Reject(_printable(path), reason))
        if len(self._kept) >= 2 * MAX_REJECTS:
            self._trim()

    def take(self) -> tuple[tuple[Reject, ...], int]:
        self._trim()
        return tuple(self._kept), self.count - len(self._kept)

    def _trim(self) -> None:
        self._kept.sort(key=lambda reject: (reject.path, reject.reason))
        del self._kept[MAX_REJECTS:]


def _printable(text: str) -> str:
    """Return ``text`` with what could disturb a log or a terminal escaped; Unicode text stays readable."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


class _Marks(NamedTuple):
    """What markers say of the versions."""

    complete: set[ModelKey]
    publishing: set[ModelKey]


class _Candidate(NamedTuple):
    number: int
    prefix: str
    objects: Sequence[ObjectMeta]


class ListingReader:
    """Collects a listing and makes sense of it.

    Owned by one caller at a time, of any thread. ``feed`` any number of times, then ``finish`` once.
    """

    def __init__(self, layout: Layout, *, last: Listing | None = None) -> None:
        """``last``: what a reader of the same layout made of the pass before; it only saves work."""
        self._layout = layout
        self._last = last
        self._models: dict[str, list[ObjectMeta]] = {}
        self._rejects = _Rejects()
        self._objects = 0

    def feed(self, page: Sequence[ObjectMeta]) -> None:
        """Take in a page; cheap, about half a microsecond for each object."""
        self._objects += len(page)
        models = self._models
        for meta in page:
            if is_folder_marker(meta):
                continue
            end = self._end_of_name(meta.path)
            if end < 0:
                self._reject_shallow(meta)
                continue
            name = meta.path[:end]
            objects = models.get(name)
            if objects is None:
                models[name] = [meta]
            else:
                objects.append(meta)

    def finish(self) -> Listing:
        """Return what the pages showed, models in order of name."""
        models: dict[str, ModelEntry] = {}
        digests: dict[str, int] = {}
        marks = _Marks(set(), set())
        for name in sorted(self._models.keys() | self._layout.names):
            objects = self._models.pop(name, [])
            digest = hash(frozenset(objects))
            faults = self._rejects.count
            model = self._as_before(name, digest, marks) or self._read_model(name, objects, marks)
            if model is not None:
                models[name] = model
                if self._rejects.count == faults:
                    digests[name] = digest
        rejects, left_out = self._rejects.take()
        return Listing(
            models,
            frozenset(marks.complete),
            rejects,
            left_out,
            self._objects,
            digests,
            frozenset(marks.publishing),
        )

    def _as_before(self, name: str, digest: int, marks: _Marks) -> ModelEntry | None:
        """Return the model of the last listing if its objects are the same: most are, at almost every pass."""
        if self._last is None or self._last.digests.get(name) != digest:
            return None
        model = self._last.models[name]
        marks.complete.update(entry.key for entry in model.versions if entry.key in self._last.complete)
        marks.publishing.update(entry.key for entry in model.versions if entry.key in self._last.publishing)
        return model

    def _read_model(self, name: str, objects: Sequence[ObjectMeta], marks: _Marks) -> ModelEntry | None:
        if not self._is_offered(name):
            return None
        versions = tuple(self._read_versions(name, objects, marks))
        return ModelEntry(name, versions) if versions else None

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
        if meta.size and not _has_hidden(meta.path):
            self._rejects.add(meta.path, f"it belongs to no model; expected: {self._layout.expected}")

    def _is_offered(self, name: str) -> bool:
        if self._layout.static:
            return True
        if _has_hidden(name):
            return False
        try:
            parse_name(name)
        except InvalidInputError as error:
            self._rejects.add(f"{name}/", str(error))
            return False
        return True

    def _read_versions(
        self, name: str, objects: Sequence[ObjectMeta], marks: _Marks
    ) -> Iterator[VersionEntry]:
        """Yield the versions, ascending; of two for one number the first faithful one."""
        taken: VersionEntry | None = None
        for candidate in self._candidates(name, objects):
            key = ModelKey(name, candidate.number)
            if taken is not None and taken.key == key:
                self._rejects.add(
                    candidate.prefix, f"the same version number as {taken.prefix!r}, which is used"
                )
                continue
            try:
                contents = version_contents(candidate.objects, candidate.prefix)
            except UnfaithfulVersionError as error:
                self._rejects.add(candidate.prefix, str(error))
                continue
            taken = _entry(key, candidate.prefix, contents)
            if contents.success is not None and contents.success.modified_s >= taken.modified_s:
                marks.complete.add(key)
            if contents.is_being_published:
                marks.publishing.add(key)
            yield taken

    def _candidates(self, name: str, objects: Sequence[ObjectMeta]) -> list[_Candidate]:
        """Return what could be a version, ordered by number, a plain ``3`` before a ``v3``."""
        prefix = f"{name}/"
        if self._layout.static:
            return [_Candidate(1, prefix, objects)]
        folders: dict[str, list[ObjectMeta]] = {}
        strays: dict[str, bool] = {}  # by name: whether the object has bytes
        for meta in objects:
            end = meta.path.find("/", len(prefix))
            if end < 0:
                stray = meta.path[len(prefix) :]
                strays[stray] = bool(meta.size) or strays.get(stray, False)
            else:
                folders.setdefault(meta.path[len(prefix) : end], []).append(meta)
        numbers = {folder: number for folder in folders if (number := parse_version(folder)) is not None}
        if not numbers:
            visible = any(not _is_hidden(part) for part in folders) or any(
                _is_file(stray, has_bytes) for stray, has_bytes in strays.items()
            )
            return [_Candidate(1, prefix, objects)] if visible else []
        self._reject_others(prefix, folders, numbers)
        for folder in strays.keys() & numbers.keys():
            if strays[folder]:
                self._rejects.add(
                    f"{prefix}{folder}/", f"an object is both a file and a directory: {folder!r}"
                )
                del numbers[folder]
        return sorted(
            (_Candidate(number, f"{prefix}{folder}/", folders[folder]) for folder, number in numbers.items()),
            key=itemgetter(0, 1),
        )

    def _reject_others(self, prefix: str, folders: Iterable[str], numbers: Mapping[str, int]) -> None:
        for folder in folders:
            if folder not in numbers and not _is_hidden(folder):
                self._rejects.add(
                    f"{prefix}{folder}/", "it is no version; expected a number, such as 3 or v3"
                )


def _is_file(stray: str, has_bytes: bool) -> bool:
    """Say whether an object directly below the name makes a model: it is visible and no empty version folder."""
    return not _is_hidden(stray) and (has_bytes or parse_version(stray) is None)


def _entry(key: ModelKey, prefix: str, contents: VersionContents) -> VersionEntry:
    return VersionEntry(
        key=key,
        fingerprint=contents.fingerprint,
        prefix=prefix,
        bytes=contents.bytes,
        objects=len(contents.objects),
        modified_s=contents.modified_s,
    )
