"""The index of a store, ``_index.json``: what is offered, written by publishers so that nobody must list the store.

The sync loop reads it with a conditional request; publishers change one model's line of it. It is one JSON object,
written with one model on a line, so that a reader can take a million of them in small slices. Pure. Nothing here is
believed more than a listing: what it makes is one, and a fetch compares every version with the store again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Final

import msgspec

from hotset.catalog.contents import UnfaithfulVersionError, VersionContents, version_contents
from hotset.catalog.entries import Layout, Mark, ModelEntry, VersionEntry
from hotset.catalog.known import Known, Meeting
from hotset.catalog.labels import Labels
from hotset.catalog.listing import Listing
from hotset.catalog.models import Models, differences
from hotset.errors import InvalidInputError
from hotset.keys import MAX_VERSION, ModelKey, parse_label, parse_name, parse_version
from hotset.store import ObjectMeta

INDEX_PATH: Final = "_index.json"
INDEX_FORMAT: Final = 1
MOST_BYTES_WHOLE: Final = 64 << 20
"""How long an index may be that does not have one model on a line: it is read in one piece."""

_HEAD: Final = b'{"format":"hotset-index","version":%d,"models":{' % INDEX_FORMAT
_HEADS: Final = re.compile(rb'\{"format":"hotset-index","version":(\d{1,9}),"models":\{\s*\Z')
_FOOT: Final = b"}}"
_MUCH: Final = 1000
_DIGEST_BITS: Final = 0xFFFF_FFFF_FFFF_FFFF
_MOST_BYTES: Final = 1 << 62
"""Of an object, and of a version: what is more has no place in the catalog's blocks, and is in no store."""


class IndexFormatError(ValueError):
    """The bytes are no index of this format; the message says what was found."""


class IndexObject(msgspec.Struct, frozen=True, array_like=True):
    """One object, its path relative to the version's."""

    path: str
    size: Annotated[int, msgspec.Meta(ge=0, le=_MOST_BYTES)]
    etag: str


class IndexVersion(msgspec.Struct, frozen=True, omit_defaults=True):
    """One version. ``path`` is relative to the model's: ``3/``, or empty for a model without version directories.

    ``labels`` are the model's, and stand with its newest version, where those who know none do not look.
    """

    version: int
    path: str
    modified: float
    objects: tuple[IndexObject, ...]
    labels: Mapping[str, int] = {}


class _Whole(msgspec.Struct):
    format: str
    version: int
    models: dict[str, msgspec.Raw]


_LINE = msgspec.json.Decoder(dict[str, tuple[IndexVersion, ...]])
_VERSIONS = msgspec.json.Decoder(tuple[IndexVersion, ...])
_WHOLE = msgspec.json.Decoder(_Whole)
_NAME = msgspec.json.Decoder(str)


def index_versions(model: ModelEntry, objects: Sequence[ObjectMeta]) -> tuple[IndexVersion, ...]:
    """Return what the index says of a model, from its entry and from the objects that it was made of."""
    *others, newest = (_index_version(entry, model.name, objects) for entry in model.versions)
    targets = model.labels.targets if model.labels is not None else ()
    return (*others, msgspec.structs.replace(newest, labels=dict(targets)) if targets else newest)


def _index_version(entry: VersionEntry, name: str, objects: Sequence[ObjectMeta]) -> IndexVersion:
    below = (meta for meta in objects if meta.path.startswith(entry.prefix))
    contents = version_contents(below, entry.prefix).objects
    return IndexVersion(
        version=entry.key.version,
        path=entry.prefix[len(name) + 1 :],
        modified=entry.modified_s,
        objects=tuple(IndexObject(path, meta.size, meta.etag) for path, meta in sorted(contents.items())),
    )


def index_line(name: str, versions: Sequence[IndexVersion]) -> bytes:
    """Return a model's line of the index, without a comma."""
    return msgspec.json.encode(name) + b":" + msgspec.json.encode(versions)


def join_lines(lines: Iterable[bytes]) -> bytes:
    """Return the whole index; ``lines`` are by name, ascending."""
    return b"".join((_HEAD, b"\n", b",\n".join(lines), b"\n", _FOOT, b"\n"))


def lines_of(data: bytes) -> dict[str, bytes]:
    """Return the lines of an index by name, without looking into them: for who changes one of them.

    Raises:
        IndexFormatError
    """
    splitter = IndexSplitter()
    return {_name_of(line): line for line in (*splitter.feed(data), *splitter.finish())}


class IndexSplitter:
    """Cuts an index into its models' lines, whatever the pieces in which it comes.

    Owned by one caller. ``feed`` any number of times, then ``finish`` once.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._has_head = False
        self._ended = False
        self._whole: list[bytes] | None = None
        self._whole_bytes = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the lines that are complete by this piece.

        Raises:
            IndexFormatError
        """
        if self._whole is not None:
            self._keep(chunk)
            return
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        for number, line in enumerate(lines):
            if not self._has_head:
                if not self._is_head(line):
                    self._whole = []
                    self._keep(b"\n".join([*lines[number:], self._rest]))
                    return
                continue
            yield from self._split(line)

    def finish(self) -> Iterator[bytes]:
        """Yield what is left.

        Raises:
            IndexFormatError: also when the end is missing.
        """
        if self._whole is None and not self._has_head:
            self._whole = []
            self._keep(self._rest)
        if self._whole is not None:
            yield from _split_whole(b"".join(self._whole))
            return
        yield from self._split(self._rest)
        if not self._ended:
            raise IndexFormatError("the index is cut short: its end is missing")

    def _is_head(self, line: bytes) -> bool:
        match = _HEADS.match(line)
        if match is not None:
            _check_version(int(match[1]))
        self._has_head = match is not None
        return self._has_head

    def _keep(self, data: bytes) -> None:
        assert self._whole is not None
        self._whole.append(data)
        self._whole_bytes += len(data)
        if self._whole_bytes > MOST_BYTES_WHOLE:
            raise IndexFormatError(
                f"the index is larger than {MOST_BYTES_WHOLE} bytes and does not have one model on a line"
            )

    def _split(self, line: bytes) -> Iterator[bytes]:
        line = line.strip().removesuffix(b",")
        if not line:
            return
        if self._ended:
            raise IndexFormatError(f"the index goes on behind its end: {line[:40]!r}")
        if line == _FOOT:
            self._ended = True
            return
        yield line


def _name_of(line: bytes) -> str:
    end = line.find(b'":', 1)
    while end > 0 and line[end - 1 : end] == b"\\":
        end = line.find(b'":', end + 1)
    if not line.startswith(b'"') or end < 0:
        raise IndexFormatError(f"expected a model's line in the index, found: {line[:40]!r}")
    try:
        return _NAME.decode(line[: end + 1])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise IndexFormatError(f"expected a model's line in the index, found: {line[:40]!r}") from error


def _split_whole(data: bytes) -> Iterator[bytes]:
    try:
        whole = _WHOLE.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise IndexFormatError(f"the index cannot be read: {error}") from error
    if whole.format != "hotset-index":
        raise IndexFormatError(f"expected the format 'hotset-index', found: {whole.format[:40]!r}")
    _check_version(whole.version)
    for name, raw in sorted(whole.models.items()):
        yield msgspec.json.encode(name) + b":" + bytes(raw)


def _check_version(number: int) -> None:
    if number != INDEX_FORMAT:
        raise IndexFormatError(f"expected an index of format {INDEX_FORMAT}, found: {number}")


class IndexReader:
    """Makes a listing of an index. Owned by one caller at a time, of any thread.

    ``feed`` any number of times, then ``finish``, both to their ends, with ``catch_up`` in between where ``is_behind``
    says so; then ``listing`` once.
    """

    def __init__(self, layout: Layout, *, known: Models | None = None) -> None:
        """``known``: what an earlier reader of the same index and layout found; it only saves work."""
        self._depth = layout.name_depth
        self._splitter = IndexSplitter()
        self._models = known or Models()
        self._known = Known(self._models)
        self._new: set[str] = set()
        self._changes: dict[str, ModelEntry | None] = {}
        self._digests: dict[str, int] = {}

    def feed(self, chunk: bytes) -> Iterator[None]:
        """Take in a piece; yield after each model, so that the caller may pause there.

        Raises:
            IndexFormatError
        """
        for line in self._splitter.feed(chunk):
            self._take(line)
            yield

    def finish(self) -> Iterator[None]:
        """Take in what is left; yield after each model.

        Raises:
            IndexFormatError
        """
        for line in self._splitter.finish():
            self._take(line)
            yield

    @property
    def is_behind(self) -> bool:
        """Whether so much waits to be packed that ``catch_up`` should be called."""
        return len(self._changes) >= _MUCH

    def catch_up(self) -> None:
        """Pack what is new or changed. Takes its time: up to a quarter of a millisecond for each."""
        self._models = self._models.with_changes(self._changes, digests=self._digests)
        self._changes, self._digests = {}, {}

    def listing(self) -> Listing:
        """Return what the index says. Every version counts as complete. Takes its time, as ``catch_up`` does."""
        self._changes.update(dict.fromkeys(self._known.missing()))
        self.catch_up()
        return Listing(self._models, (), 0, 0)

    def _take(self, line: bytes) -> None:
        digest = hash(line) & _DIGEST_BITS
        if self._known.is_next(digest):
            return
        name = _name_of(line)
        meeting = self._known.meet(name, digest)
        if meeting is Meeting.AGAIN or name in self._new:
            raise IndexFormatError(f"the index holds a model twice: {name!r}")
        if meeting is Meeting.NEW:
            self._new.add(name)
        if meeting is not Meeting.SAME:
            self._changes[name] = _model(name, line, self._depth)
            self._digests[name] = digest


def _model(name: str, line: bytes, depth: int) -> ModelEntry:
    try:
        parse_name(name, depth=depth)
        found = _LINE.decode(b"{%b}" % line)
        versions = tuple(_entry(name, version) for version in found[name])
        labels = _labels(found[name])
    except (
        msgspec.MsgspecError,
        UnicodeDecodeError,
        KeyError,
        InvalidInputError,
        UnfaithfulVersionError,
    ) as error:
        raise IndexFormatError(f"the index holds something malformed for model {name!r}: {error}") from error
    numbers = [entry.key.version for entry in versions]
    if not numbers or numbers != sorted(set(numbers)) or not 0 <= numbers[0] <= numbers[-1] <= MAX_VERSION:
        raise IndexFormatError(
            f"the index holds the versions {numbers[:5]} of model {name!r}; expected them once each, ascending"
        )
    return ModelEntry(name, versions, labels)


def _labels(found: Sequence[IndexVersion]) -> Labels | None:
    said = found[-1].labels if found else {}
    for label, number in said.items():
        parse_label(label)
        if not 0 <= number <= MAX_VERSION:
            raise InvalidInputError(f"the label {label!r} stands for {number}, which is no version's number")
    return Labels("", tuple(sorted(said.items()))) if said else None


def _entry(name: str, found: IndexVersion) -> VersionEntry:
    folder = found.path.removesuffix("/")
    if parse_version(folder) != found.version if found.path else found.version != 1:
        raise UnfaithfulVersionError(f"the path {found.path!r} does not fit the version {found.version}")
    prefix = f"{name}/{folder}/" if folder else f"{name}/"
    contents = _contents(prefix, found)
    if contents.bytes > _MOST_BYTES:
        raise UnfaithfulVersionError(
            f"its objects have {contents.bytes} bytes in all; expected {_MOST_BYTES} at most"
        )
    return VersionEntry(
        key=ModelKey(name, found.version),
        fingerprint=contents.fingerprint,
        prefix=prefix,
        bytes=contents.bytes,
        objects=len(contents.objects),
        modified_s=found.modified,
        mark=Mark.COMPLETE,
    )


def _contents(prefix: str, found: IndexVersion) -> VersionContents:
    objects = [ObjectMeta(prefix + it.path, it.size, it.etag, found.modified) for it in found.objects]
    return version_contents(objects, prefix)


def index_faults(offered: Models, indexed: Models) -> list[str]:
    """Return the names of models of which the index does not say what a listing does."""
    return [found.name for found in differences(offered, indexed) if _differ(found.before, found.after)]


def _differ(offered: ModelEntry | None, indexed: ModelEntry | None) -> bool:
    if _prints(offered) != _prints(indexed):
        return True
    if offered is None or indexed is None or (offered.labels is not None and offered.labels.problem):
        return False  # what a file of labels says that cannot be used, nobody knows
    return _said(offered) != _said(indexed)


def _said(model: ModelEntry) -> tuple[tuple[str, int], ...]:
    return model.labels.targets if model.labels is not None else ()


def _prints(model: ModelEntry | None) -> list[tuple[int, str]]:
    return [(entry.key.version, entry.fingerprint) for entry in model.versions] if model is not None else []
