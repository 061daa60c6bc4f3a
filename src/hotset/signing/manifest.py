"""What a version's signature covers: its name and number, and the SHA-256 of each of its files.

It lies beside the files, as ``_SIGNATURE``: an envelope as DSSE (Dead Simple Signing Envelope) has it, so that what is
signed are the bytes that are read, and no form of JSON has to be canonical. Pure, but for ``digests_below``, which reads files.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

SIGNATURE_FILE: Final = "_SIGNATURE"
PAYLOAD_TYPE: Final = "application/vnd.hotset.version+json"
FORMAT: Final = 1
MOST_BYTES: Final = 32 << 20
"""Of a signature's file: more than a version of a hundred thousand files needs."""

_MOST_NAMED: Final = 5


class ManifestError(ValueError):
    """A signature's file is malformed; the message says how."""


class FileDigest(msgspec.Struct, frozen=True):
    """One file: its path relative to the version's directory, ``/`` between parts, and its content."""

    path: str
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is signed: these files, all of them and no others, are that version of that model."""

    format: int
    name: str
    version: int
    files: tuple[FileDigest, ...]


class Signature(msgspec.Struct, frozen=True):
    """``keyid`` says which key to try; it proves nothing."""

    keyid: str
    sig: str


class Envelope(msgspec.Struct, frozen=True, rename="camel"):
    """What lies in the file, named there as the standard has it."""

    payload: str
    payload_type: str
    signatures: tuple[Signature, ...]


def manifest_of(name: str, version: int, files: Mapping[str, FileDigest]) -> bytes:
    """Return what is to be signed for these files."""
    ordered = tuple(files[path] for path in sorted(files))
    return msgspec.json.encode(Manifest(FORMAT, name, version, ordered))


def signed_bytes(payload: bytes) -> bytes:
    """Return the bytes that a signature is of: the standard's pre-authentication encoding."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sealed(payload: bytes, signatures: Iterable[tuple[str, bytes]]) -> bytes:
    """Return a signature's file: ``payload`` with signatures, each with the id of its key."""
    found = tuple(Signature(keyid, _text(value)) for keyid, value in signatures)
    return msgspec.json.encode(Envelope(_text(payload), PAYLOAD_TYPE, found))


def opened(data: bytes) -> tuple[bytes, tuple[tuple[str, bytes], ...]]:
    """Return the payload of a signature's file, which nobody has checked yet, and its signatures with their keys' ids.

    Raises:
        ManifestError: it is malformed.
    """
    try:
        envelope = msgspec.json.decode(data, type=Envelope)
        payload = _bytes(envelope.payload)
        signatures = tuple((it.keyid, _bytes(it.sig)) for it in envelope.signatures)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ManifestError(f"it is no signature of a version: {error}") from error
    if envelope.payload_type != PAYLOAD_TYPE:
        raise ManifestError(f"expected the type {PAYLOAD_TYPE}, found: {envelope.payload_type[:80]!r}")
    return payload, signatures


def read_manifest(payload: bytes) -> Manifest:
    """Return what was signed.

    Raises:
        ManifestError: it is malformed, or of another format, or names a file twice.
    """
    try:
        manifest = msgspec.json.decode(payload, type=Manifest)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ManifestError(f"what was signed is no list of files: {error}") from error
    if manifest.format != FORMAT:
        raise ManifestError(f"expected the format {FORMAT}, found: {manifest.format}")
    if len({file.path for file in manifest.files}) < len(manifest.files):
        raise ManifestError("a file stands twice in what was signed")
    return manifest


def differences(manifest: Manifest, found: Mapping[str, FileDigest]) -> str:
    """Return how files differ from those that were signed, in words for people; empty if they do not."""
    signed = {file.path: file for file in manifest.files}
    changed = [
        _change(signed[path], found[path])
        for path in sorted(signed.keys() & found.keys())
        if signed[path] != found[path]
    ]
    told = (
        *changed,
        *(f"{path} is missing" for path in sorted(signed.keys() - found.keys())),
        *(f"{path} is there and was not signed" for path in sorted(found.keys() - signed.keys())),
    )
    more = f", and {len(told) - _MOST_NAMED} more" if len(told) > _MOST_NAMED else ""
    return "; ".join(told[:_MOST_NAMED]) + more


def _change(signed: FileDigest, found: FileDigest) -> str:
    if signed.size != found.size:
        return f"{signed.path} was signed with {signed.size} bytes, found: {found.size}"
    return f"{signed.path} was signed with sha256 {signed.sha256}, found: {found.sha256}"


def digest_of_file(file: Path, path: str) -> FileDigest:
    """Return what stands for a file in a manifest, under ``path``.

    Raises:
        OSError: it cannot be read.
    """
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256")
        size = os.fstat(content.fileno()).st_size
    return FileDigest(path, size, digest.hexdigest())


def digests_below(directory: Path, paths: Iterable[str]) -> dict[str, FileDigest]:
    """Return the digests of files by their relative paths; that of the signature itself is left out.

    Raises:
        OSError: one cannot be read.
    """
    return {path: digest_of_file(directory / path, path) for path in paths if path != SIGNATURE_FILE}


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
