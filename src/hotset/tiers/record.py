"""What is known of one version on disk: the record that lies beside its files, and how the two are compared.

The disk tier keeps records in memory and its directory writes them; pure, but for ``encode`` and ``decode`` being
the one place that knows their format. A record never says where the files are: the directory that holds it does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Final, NamedTuple

import msgspec

from hotset.keys import DiskFile, Fingerprint, ModelKey
from hotset.payload import Signature

FORMAT: Final = 1
NOT_A_FILE: Final = -1
"""The size of what stands at a file's path and is none: a link, a pipe, a directory."""


class RecordError(ValueError):
    """A record cannot be read, or contradicts itself; the message says how."""


class Stat(NamedTuple):
    """What the file system says of a file."""

    size: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class DiskRecord:
    """One version on disk. ``key`` is whom it was fetched for; several versions may share a fingerprint.

    ``bytes`` is the sum of its files.

    ``memory_bytes``, ``device_bytes`` (of whichever device), ``runtime`` and ``signature`` were measured at the last load and
    are None before the first.
    """

    fingerprint: Fingerprint
    key: ModelKey
    files: tuple[DiskFile, ...]
    bytes: int
    memory_bytes: int | None = None
    runtime: str | None = None
    signature: Signature | None = None
    device_bytes: int | None = None


class Written(msgspec.Struct, frozen=True, omit_defaults=True):
    """A record as it is in its file. ``boot`` names the start of the machine within which the files can be trusted; None: any."""

    format: int
    record: DiskRecord
    boot: str | None = None


def encode(record: DiskRecord, *, boot: str | None = None) -> bytes:
    return msgspec.json.encode(Written(FORMAT, record, boot))


def decode(data: bytes) -> Written:
    """Return the record, and for how long it holds.

    Raises:
        RecordError: it was cut short, written by something else, or its sum does not fit its files.
    """
    try:
        written = msgspec.json.decode(data, type=Written)
    except (msgspec.MsgspecError, ValueError) as error:
        raise RecordError(f"the record cannot be read: {error}") from error
    if written.format != FORMAT:
        raise RecordError(f"expected a record of format {FORMAT}, found: {written.format}")
    record = written.record
    total = sum(file.size for file in record.files)
    if total != record.bytes:
        raise RecordError(f"the record's files have {total} bytes, it says: {record.bytes}")
    try:
        check_paths(file.path for file in record.files)
    except ValueError as error:
        raise RecordError(f"the record cannot be used: {error}") from error
    return written


@dataclass(frozen=True, slots=True)
class Differences:
    """How the files on disk differ from a record."""

    missing: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether all that was recorded is there; extra files do no harm."""
        return not self.missing and not self.changed


def compare(files: Iterable[DiskFile], found: Mapping[str, Stat], *, by_time: bool = False) -> Differences:
    """Compare what a record says with what was found: sizes, and ``by_time`` when files were last written to."""
    expected = {file.path: file for file in files}
    return Differences(
        missing=tuple(sorted(expected.keys() - found.keys())),
        changed=tuple(
            sorted(
                path
                for path in expected.keys() & found.keys()
                if not _is_same(expected[path], found[path], by_time=by_time)
            )
        ),
        extra=tuple(sorted(found.keys() - expected.keys())),
    )


def _is_same(file: DiskFile, found: Stat, *, by_time: bool) -> bool:
    return file.size == found.size and not (by_time and file.modified_ns != found.modified_ns)


def stamped(record: DiskRecord, found: Mapping[str, Stat]) -> DiskRecord:
    """Return the record of files that are all there, with the times at which they were last written to."""
    files = tuple(DiskFile(file.path, file.size, found[file.path].modified_ns) for file in record.files)
    return replace(record, files=files)


def check_paths(paths: Iterable[str]) -> None:
    """Refuse what could be written outside of a directory, or cannot be written there at all.

    Raises:
        ValueError: a path is absolute, has an empty part, ``.``, ``..`` or a NUL, is not UTF-8, comes twice, or is
            a file and a directory.
    """
    files: set[str] = set()
    parents: set[str] = set()
    for path in paths:
        if path in files:
            raise ValueError(f"the file comes twice: {path!r}")
        if any(part in {"", ".", ".."} for part in path.split("/")) or "\0" in path:
            raise ValueError(
                f"expected a relative path without empty parts, '.', '..' or NUL, found: {path!r}"
            )
        path.encode()
        files.add(path)
        parents.update(str(parent) for parent in PurePosixPath(path).parents)
    both = files & parents
    if both:
        raise ValueError(f"it is both a file and a directory: {min(both)!r}")
