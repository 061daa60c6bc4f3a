"""A snapshot as bytes, kept on disk so that a replica can restart while the store is away.

One line with the format's number and a checksum, then JSON. Whatever is wrong with the bytes raises one error: they
may come from a torn disk, another store or a later release, and the names in them are checked as a client's are.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

import msgspec

from hotset.catalog.entries import ModelEntry, Reject
from hotset.catalog.snapshot import Snapshot
from hotset.errors import InvalidInputError
from hotset.keys import MAX_VERSION, ModelKey, parse_name

FORMAT: Final = 1
_MAGIC: Final = b"hotset-snapshot"
_FINGERPRINT = re.compile(r"[0-9a-f]{32}\Z")


class SnapshotFormatError(ValueError):
    """The bytes are no snapshot of this format for this store; the message says what was found."""


class _Stored(msgspec.Struct, forbid_unknown_fields=True):
    origin: str
    models: list[ModelEntry]
    rejects: list[Reject]
    rejects_left_out: int
    unsettled: list[ModelKey]


_DECODER = msgspec.json.Decoder(_Stored)


def dump(snapshot: Snapshot, *, origin: str = "") -> bytes:
    """Return the snapshot as bytes; ``origin`` says which store, read in which way, it is of."""
    body = msgspec.json.encode(
        _Stored(
            origin=origin,
            models=list(snapshot.models.values()),
            rejects=list(snapshot.rejects),
            rejects_left_out=snapshot.rejects_left_out,
            unsettled=list(snapshot.unsettled),
        )
    )
    return b"%s %d %s\n%s" % (_MAGIC, FORMAT, _checksum(body), body)


def load(data: bytes, *, origin: str = "") -> Snapshot:
    """Return the snapshot that ``dump`` wrote with the same ``origin``.

    Raises:
        SnapshotFormatError: the bytes are damaged, of another format or of another origin.
    """
    stored = _decode(_body(data))
    if stored.origin != origin:
        raise SnapshotFormatError(f"expected a snapshot of {origin!r}, found one of: {stored.origin!r}")
    for model in stored.models:
        _check(model)
    return Snapshot(
        models={model.name: model for model in stored.models},
        rejects=tuple(stored.rejects),
        rejects_left_out=stored.rejects_left_out,
        unsettled=tuple(stored.unsettled),
    )


def _body(data: bytes) -> bytes:
    head, _, body = data.partition(b"\n")
    match head.split(b" "):
        case [magic, number, checksum] if magic == _MAGIC:
            if number != b"%d" % FORMAT:
                raise SnapshotFormatError(f"expected a snapshot of format {FORMAT}, found: {number[:20]!r}")
            if checksum != _checksum(body):
                raise SnapshotFormatError("the snapshot is damaged: its checksum does not fit its content")
            return body
    raise SnapshotFormatError(f"expected a snapshot, found bytes that begin with: {data[:20]!r}")


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=16).hexdigest().encode()


def _decode(body: bytes) -> _Stored:
    try:
        return _DECODER.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SnapshotFormatError(f"the snapshot does not fit its format: {error}") from error


def _check(model: ModelEntry) -> None:
    """Refuse what a listing could never have made: names and fingerprints become paths and labels."""
    try:
        parse_name(model.name)
    except InvalidInputError as error:
        raise SnapshotFormatError(f"the snapshot holds a malformed name: {error}") from error
    if not model.versions:
        raise SnapshotFormatError(f"the snapshot holds a model without versions: {model.name!r}")
    last = -1
    for entry in model.versions:
        if entry.key.name != model.name or not last < entry.key.version <= MAX_VERSION:
            raise SnapshotFormatError(
                f"the snapshot holds a key that does not fit {model.name!r}: {entry.key}"
            )
        if not _FINGERPRINT.match(entry.fingerprint) or not entry.prefix.startswith(f"{model.name}/"):
            raise SnapshotFormatError(f"the snapshot holds a malformed version: {entry.key}")
        last = entry.key.version
