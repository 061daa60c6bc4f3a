"""One model's objects become its entry: which of them make versions, and what is turned down, with its reason.

The reader of a listing calls it with all objects of one name. Nothing here knows of pages or of other models. What it
says does not depend on the order of the objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from hotset.catalog.contents import UnfaithfulVersionError, VersionContents, version_contents
from hotset.catalog.entries import Layout, Mark, ModelEntry, Reject, VersionEntry
from hotset.catalog.labels import LABELS_FILE
from hotset.errors import InvalidInputError
from hotset.keys import ModelKey, parse_name, parse_version

if TYPE_CHECKING:  # what a listing holds; the catalog itself needs no store
    from hotset.store import ObjectMeta

MAX_REJECTS: Final = 1000


def is_hidden(part: str) -> bool:
    return part[:1] in {"_", "."} and part not in {".", ".."}


def has_hidden(path: str) -> bool:
    """Say whether a part of the path is nobody's business: it starts with ``_`` or ``.``."""
    return any(map(is_hidden, path.split("/")))


class Rejects:
    """The first ``MAX_REJECTS`` by path and a count, whatever the order in which they come."""

    def __init__(self) -> None:
        self._kept: list[Reject] = []
        self.count = 0

    def add(self, path: str, reason: str) -> None:
        self.count += 1
        self._kept.append(Reject(_printable(path), reason))
        if len(self._kept) >= 2 * MAX_REJECTS:
            self._trim()

    def forget(self, prefix: str) -> None:
        """Take back what was said of paths that begin so."""
        shown = _printable(prefix)
        kept = [reject for reject in self._kept if not reject.path.startswith(shown)]
        self.count -= len(self._kept) - len(kept)
        self._kept = kept

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


class _Candidate(NamedTuple):
    number: int
    prefix: str
    objects: Sequence[ObjectMeta]


class ModelReader:
    """Owned by one caller, of any thread. ``read`` any number of times; ``rejects`` collects what is turned down."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.rejects: Final = Rejects()

    def read(self, name: str, objects: Sequence[ObjectMeta]) -> ModelEntry | None:
        """Return the model of that name, or None if nothing of it can be offered."""
        if not self._is_offered(name):
            return None
        versions = tuple(self._versions(name, objects))
        return ModelEntry(name, versions) if versions else None

    def _is_offered(self, name: str) -> bool:
        if self._layout.static:
            return True
        if has_hidden(name):
            return False
        try:
            parse_name(name)
        except InvalidInputError as error:
            self.rejects.add(f"{name}/", str(error))
            return False
        return True

    def _versions(self, name: str, objects: Sequence[ObjectMeta]) -> Iterator[VersionEntry]:
        """Yield the versions, ascending; of two for one number the first faithful one."""
        taken: VersionEntry | None = None
        for candidate in self._candidates(name, objects):
            key = ModelKey(name, candidate.number)
            if taken is not None and taken.key == key:
                self.rejects.add(
                    candidate.prefix, f"the same version number as {taken.prefix!r}, which is used"
                )
                continue
            try:
                contents = version_contents(candidate.objects, candidate.prefix)
            except UnfaithfulVersionError as error:
                self.rejects.add(candidate.prefix, str(error))
                continue
            yield (taken := _entry(key, candidate.prefix, contents))

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
            # A file of labels that waits for its first version makes no model; beside files it is one of them.
            visible = any(not is_hidden(part) for part in folders) or any(
                stray != LABELS_FILE and _is_file(stray, has_bytes) for stray, has_bytes in strays.items()
            )
            return [_Candidate(1, prefix, objects)] if visible else []
        self._turn_down_others(prefix, folders, numbers)
        for folder in strays.keys() & numbers.keys():
            if strays[folder]:
                self.rejects.add(
                    f"{prefix}{folder}/", f"an object is both a file and a directory: {folder!r}"
                )
                del numbers[folder]
        return sorted(
            (_Candidate(number, f"{prefix}{folder}/", folders[folder]) for folder, number in numbers.items()),
            key=itemgetter(0, 1),
        )

    def _turn_down_others(self, prefix: str, folders: Iterable[str], numbers: Mapping[str, int]) -> None:
        for folder in folders:
            if folder not in numbers and not is_hidden(folder):
                self.rejects.add(f"{prefix}{folder}/", "it is no version; expected a number, such as 3 or v3")


def _is_file(stray: str, has_bytes: bool) -> bool:
    """Say whether an object directly below the name makes a model: it is visible and no empty version folder."""
    return not is_hidden(stray) and (has_bytes or parse_version(stray) is None)


def _entry(key: ModelKey, prefix: str, contents: VersionContents) -> VersionEntry:
    return VersionEntry(
        key=key,
        fingerprint=contents.fingerprint,
        prefix=prefix,
        bytes=contents.bytes,
        objects=len(contents.objects),
        modified_s=contents.modified_s,
        mark=_mark(contents),
    )


def _mark(contents: VersionContents) -> Mark:
    if contents.is_being_published:
        return Mark.PUBLISHING
    if contents.success is not None and contents.success.modified_s >= contents.modified_s:
        return Mark.COMPLETE
    return Mark.NONE
