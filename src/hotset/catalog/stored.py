"""A snapshot as bytes, kept on disk so that a replica can restart while the store is away.

One line with the format's number, then frames, each behind its length: what the snapshot says besides its models, one
frame for each block of models as it lies in memory, an empty frame, and a checksum of all that. So writing copies
nothing and reading makes no object for a model: a hundred thousand models are there in the time it takes to check
them. Whatever is wrong with the bytes raises one error: they may come from a torn disk, another store or a later
release, and the names in them are checked as a client's are.
"""

from __future__ import annotations

import hashlib
import struct
from array import array
from collections.abc import Iterator
from operator import ge
from typing import Final

import msgspec

from hotset.catalog.block import UNKNOWN, Block
from hotset.catalog.entries import Reject
from hotset.catalog.models import Models
from hotset.catalog.packing import are_regular, count_all
from hotset.catalog.snapshot import Snapshot
from hotset.errors import InvalidInputError
from hotset.keys import MAX_PART_BYTES, ModelKey, parse_name

FORMAT: Final = 2
_MAGIC: Final = b"hotset-snapshot"
_LENGTH: Final = struct.Struct("<I")
_PARTS: Final = struct.Struct("<II")
_CHECKSUM_BYTES: Final = 16
_ODD: Final = ("\\", *(edge + letter for edge in "\n/" for letter in "._/\n"))
"""A backslash, an empty part of a name, or one that starts with a dot or an underscore."""


_SURELY_SHORT: Final = MAX_PART_BYTES // 4


class SnapshotFormatError(ValueError):
    """The bytes are no snapshot of this format for this store; the message says what was found."""


class _Head(msgspec.Struct, array_like=True):
    origin: str
    rejects: list[Reject]
    rejects_left_out: int
    unsettled: list[ModelKey]


_DECODER = msgspec.msgpack.Decoder(_Head)


def dump(snapshot: Snapshot, *, origin: str = "") -> bytes:
    """Return the snapshot as bytes; ``origin`` says which store, read in which way, it is of."""
    return b"".join(dump_parts(snapshot, origin=origin))


def dump_parts(snapshot: Snapshot, *, origin: str = "") -> Iterator[bytes]:
    """Yield the same bytes in small pieces."""
    checksum = hashlib.blake2b(digest_size=_CHECKSUM_BYTES)
    for part in _parts(snapshot, origin):
        checksum.update(part)
        yield part
    yield checksum.digest()


def load(data: bytes, *, origin: str = "") -> Snapshot:
    """Return the snapshot that ``dump`` wrote with the same ``origin``.

    Raises:
        SnapshotFormatError: the bytes are damaged, of another format or of another origin.
    """
    frames = _frames(_checked(data))
    head = _head(next(frames, memoryview(b"")))
    if head.origin != origin:
        raise SnapshotFormatError(f"expected a snapshot of {origin!r}, found one of: {head.origin!r}")
    models = Models([_block(frame) for frame in frames])
    _check_order(models)
    return Snapshot(models, tuple(head.rejects), head.rejects_left_out, tuple(head.unsettled))


def _parts(snapshot: Snapshot, origin: str) -> Iterator[bytes]:
    yield b"%s %d\n" % (_MAGIC, FORMAT)
    head = _Head(origin, list(snapshot.rejects), snapshot.rejects_left_out, list(snapshot.unsettled))
    yield from _framed(msgspec.msgpack.encode(head))
    for block in snapshot.models.blocks:
        names, ends, entries = block.columns()
        yield from _framed(_PARTS.pack(len(names), len(ends)), names, ends, entries)
    yield from _framed()


def _framed(*parts: bytes) -> Iterator[bytes]:
    yield _LENGTH.pack(sum(map(len, parts)))
    yield from parts


def _checked(data: bytes) -> memoryview:
    """Return the frames, if they are whole."""
    line = data[:64].partition(b"\n")[0]
    magic, _, rest = line.partition(b" ")
    number = rest.partition(b" ")[0]
    if magic != _MAGIC:
        raise SnapshotFormatError(f"expected a snapshot, found bytes that begin with: {data[:20]!r}")
    if number != b"%d" % FORMAT:
        raise SnapshotFormatError(f"expected a snapshot of format {FORMAT}, found: {number[:20]!r}")
    view = memoryview(data)
    checksum = hashlib.blake2b(view[:-_CHECKSUM_BYTES], digest_size=_CHECKSUM_BYTES).digest()
    if checksum != view[-_CHECKSUM_BYTES:]:
        raise SnapshotFormatError("the snapshot is damaged: its checksum does not fit its content")
    return view[len(line) + 1 : -_CHECKSUM_BYTES]


def _frames(view: memoryview) -> Iterator[memoryview]:
    """Yield what lies between the lengths, up to the empty frame."""
    at = 0
    while at + _LENGTH.size <= len(view):
        (length,) = _LENGTH.unpack_from(view, at)
        at += _LENGTH.size
        if not length:
            break
        yield view[at : at + length]
        at += length
    if at != len(view):
        raise SnapshotFormatError("the snapshot does not fit its format: its frames do not fill it")


def _head(frame: memoryview) -> _Head:
    try:
        return _DECODER.decode(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SnapshotFormatError(f"the snapshot does not fit its format: {error}") from error


def _block(frame: memoryview) -> Block:
    """Return a block, refusing what a listing could never have made: names and versions become paths and labels."""
    try:
        names_end, ends_end = _PARTS.unpack_from(frame)
        names_end += _PARTS.size
        names = str(frame[_PARTS.size : names_end], "utf-8")
        ends = array("I", bytes(frame[names_end : names_end + ends_end]))
    except (struct.error, UnicodeDecodeError, ValueError) as error:
        raise SnapshotFormatError(f"the snapshot does not fit its format: {error}") from error
    entries = bytes(frame[names_end + ends_end :])
    _check_names(names)
    if names.count("\n") + 1 != len(ends) or ends[-1] != len(entries):
        raise SnapshotFormatError("the snapshot does not fit its format: a block's parts do not fit together")
    if not are_regular(ends, entries):
        raise SnapshotFormatError(f"the snapshot holds malformed versions, near: {names[:40]!r}")
    return Block(names, ends, entries, array("Q", [UNKNOWN]) * len(ends), count_all(ends, entries))


def _check_names(names: str) -> None:
    """Look at all names at once, and by itself at each that is long or where something is odd."""
    each = names.split("\n")
    framed = f"\n{names}\n"
    if (
        not "".join(each).isprintable()
        or len(max(each, key=len)) > _SURELY_SHORT
        or any(odd in framed for odd in _ODD)
    ):
        for name in each:
            _check_name(name)


def _check_name(name: str) -> None:
    try:
        parse_name(name)
    except InvalidInputError as error:
        raise SnapshotFormatError(f"the snapshot holds a malformed name: {error}") from error


def _check_order(models: Models) -> None:
    last = ""
    for block in models.blocks:
        names = block.names()
        if names[0] <= last or any(map(ge, names, names[1:])):
            raise SnapshotFormatError(f"the snapshot's names are not in order, near: {names[0]!r}")
        last = names[-1]
