"""One model as bytes and back: 45 bytes for each version, where the object takes about 600.

The block packs what a listing found, and unpacks what somebody asks for. A version's path is not kept: it follows from
the name, the number and one of three spellings. An entry that no listing makes (a fingerprint that is not one, a path
of its own) is packed as MessagePack instead, so that nothing is refused and nothing is lost. A model's labels stand in
front of its versions, and take no room where there are none.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

import msgspec

from hotset.catalog.entries import Mark, ModelEntry, VersionEntry
from hotset.catalog.labels import Labels
from hotset.errors import InvalidInputError
from hotset.keys import MAX_VERSION, Fingerprint, ModelKey, parse_label

VERSION: Final = struct.Struct("<Bq16sqId")
"""Spelling and mark, number, fingerprint, bytes, objects, time of the newest object."""

IRREGULAR: Final = 0xFF
"""The first byte of an entry that is packed as MessagePack."""

LABELLED: Final = 0xFE
"""The first byte of an entry that begins with labels: how many bytes they take, and they, as MessagePack."""

_MARK_SHIFT: Final = 4
_SPELLINGS: Final = ("{name}/{number}/", "{name}/v{number}/", "{name}/")
_MARKS: Final = tuple(Mark)
_MARK_BYTES: Final = {mark: index << _MARK_SHIFT for index, mark in enumerate(_MARKS)}
_HEADS: Final = frozenset(
    spelling | mark for spelling in range(len(_SPELLINGS)) for mark in _MARK_BYTES.values()
)
_SIGNS: Final = (8, 32)
"""Where the highest bytes of the number and of the size are."""
_MOST_POSITIVE: Final = 0x7F
_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(ModelEntry)
_LABELS: Final = msgspec.msgpack.Decoder(tuple[str, tuple[tuple[str, int], ...], str])
_LENGTH: Final = struct.Struct("<BI")


class _IrregularError(ValueError):
    """The entry is not what a listing makes."""


def pack(model: ModelEntry) -> bytes:
    """Return the entry without its name, which the block holds."""
    return (
        _pack_labels(model.labels) + _pack_versions(model)
        if model.labels is not None
        else _pack_versions(model)
    )


def _pack_labels(labels: Labels) -> bytes:
    said = _ENCODER.encode((labels.etag, labels.targets, labels.problem))
    return _LENGTH.pack(LABELLED, len(said)) + said


def _pack_versions(model: ModelEntry) -> bytes:
    try:
        return b"".join([_pack_version(model.name, version) for version in model.versions])
    except (_IrregularError, ValueError, struct.error):
        return bytes([IRREGULAR]) + _ENCODER.encode(replace(model, labels=None))


def unpack(name: str, packed: bytes) -> ModelEntry:
    """Return the entry that ``pack`` was given."""
    labels = None
    if packed[:1] == b"\xfe":
        said, packed = _split(packed)
        labels = Labels(*_LABELS.decode(said))
    if packed[:1] == b"\xff":
        return replace(_DECODER.decode(packed[1:]), labels=labels)
    versions = tuple([_unpack_version(name, it) for it in VERSION.iter_unpack(packed)])
    return ModelEntry(name, versions, labels)


def _split(packed: bytes) -> tuple[bytes, bytes]:
    """Return what an entry that begins with labels says of them, and its versions."""
    _, length = _LENGTH.unpack_from(packed)
    end = _LENGTH.size + length
    return packed[_LENGTH.size : end], packed[end:]


def count_versions(packed: bytes) -> int:
    """Return how many versions a packed entry has."""
    if packed[:1] == b"\xfe":
        packed = _split(packed)[1]
    if packed[:1] == b"\xff":
        return len(_DECODER.decode(packed[1:]).versions)
    return len(packed) // VERSION.size


def fingerprints(packed: bytes) -> list[Fingerprint]:
    """Return the fingerprints alone."""
    if packed[:1] == b"\xfe":
        packed = _split(packed)[1]
    if packed[:1] == b"\xff":
        return [version.fingerprint for version in _DECODER.decode(packed[1:]).versions]
    return [Fingerprint(fields[2].hex()) for fields in VERSION.iter_unpack(packed)]


def are_regular(ends: Sequence[int], packed: bytes) -> bool:
    """Say whether a listing could have made these entries, which lie one behind the other.

    It could if their versions are in order, and numbers, sizes, spellings and marks are such as it makes. Most models
    have one version, so that is looked at for all entries at once.
    """
    if _are_plain(ends, packed):
        return True
    return all(start < end and _is_regular(packed[start:end]) for start, end in pairwise([0, *ends]))


def count_all(ends: Sequence[int], packed: bytes) -> int:
    """Return how many versions such entries have together."""
    if len(packed) % VERSION.size == 0 and set(packed[:: VERSION.size]) <= _HEADS:
        return len(packed) // VERSION.size
    return sum(count_versions(packed[start:end]) for start, end in pairwise([0, *ends]))


def _is_regular(packed: bytes) -> bool:
    if packed[0] == LABELLED:
        try:
            said, packed = _split(packed)
            labels = Labels(*_LABELS.decode(said))
            are_faithful = all(
                parse_label(it) and 0 <= number <= MAX_VERSION for it, number in labels.targets
            )
        except (struct.error, msgspec.MsgspecError, UnicodeDecodeError, InvalidInputError):
            return False
        if not are_faithful or labels.targets != tuple(sorted(dict(labels.targets).items())):
            return False
    return bool(packed) and _are_plain(array("I", [len(packed)]), packed)


def _are_plain(ends: Sequence[int], packed: bytes) -> bool:
    """The same for entries of versions alone."""
    size = VERSION.size
    if len(packed) % size or not set(packed[::size]) <= _HEADS:
        return False
    if any(max(packed[sign::size], default=0) > _MOST_POSITIVE for sign in _SIGNS):
        return False
    if ends == array("I", range(size, len(packed) + 1, size)):
        return True
    return all(
        start < end and end % size == 0 and _ascend(packed[start:end]) for start, end in pairwise([0, *ends])
    )


def _ascend(packed: bytes) -> bool:
    numbers = [fields[1] for fields in VERSION.iter_unpack(packed)]
    return all(one < other for one, other in pairwise(numbers))


def _pack_version(name: str, version: VersionEntry) -> bytes:
    number = version.key.version
    fingerprint = bytes.fromhex(version.fingerprint)
    if version.key.name != name or fingerprint.hex() != version.fingerprint or len(fingerprint) != 16:
        raise _IrregularError
    return VERSION.pack(
        _spelling(name, number, version.prefix) | _MARK_BYTES[version.mark],
        number,
        fingerprint,
        version.bytes,
        version.objects,
        version.modified_s,
    )


def _spelling(name: str, number: int, prefix: str) -> int:
    for index, spelling in enumerate(_SPELLINGS):
        if prefix == spelling.format(name=name, number=number):
            return index
    raise _IrregularError


def _unpack_version(name: str, fields: tuple[int, int, bytes, int, int, float]) -> VersionEntry:
    head, number, fingerprint, size, objects, modified_s = fields
    spelling = head & 0xF
    prefix = f"{name}/{number}/" if spelling == 0 else _SPELLINGS[spelling].format(name=name, number=number)
    key = ModelKey(name, number)
    mark = _MARKS[head >> _MARK_SHIFT]
    return VersionEntry(key, Fingerprint(fingerprint.hex()), prefix, size, objects, modified_s, mark)
