"""Names of models and versions: parsed once, at the border, and frozen from there on.

A ``ModelRef`` is what a client wrote; a ``ModelKey`` is what it resolves to. Both hash and compare as plain
tuples, because they are looked up on every request. Whatever a store or a client holds, a name that passed
``parse_name`` is safe to put into a path below a directory of ours, a log line or a metric's label.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Final, NamedTuple, NewType

from hotset.errors import InvalidInputError

LATEST: Final = "latest"
MAX_NAME_BYTES: Final = 512
MAX_PART_BYTES: Final = 255
"""The longest name of a file or directory that Linux takes."""
MAX_VERSION: Final = 2**63 - 1

Fingerprint = NewType("Fingerprint", str)
"""Content identity of a version: 32 hexadecimal digits. Safe as a file name."""

_VERSION = re.compile(r"v?(0|[1-9][0-9]{0,18})\Z", re.ASCII)
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}\Z", re.ASCII)


class ModelKey(NamedTuple):
    """One version of one model: a name and a version number."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


class ModelRef(NamedTuple):
    """What a client asked for: a name, and a version number, ``LATEST`` or a label."""

    name: str
    version: int | str = LATEST

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


def parse_name(text: str, *, depth: int | None = None) -> str:
    """Return ``text`` if it is a model's name, else raise ``InvalidInputError``.

    A name has one part or several joined by ``/`` (exactly ``depth`` of them where given). No part is empty,
    ``.`` or ``..``, starts with ``.`` or ``_``, is longer than a directory's name may be, or holds a backslash or a
    character that is not printable.
    """
    if not text:
        raise InvalidInputError("a model's name is empty; expected for example: paris")
    if len(text.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
        raise InvalidInputError(f"a model's name is longer than {MAX_NAME_BYTES} bytes: {text[:40]!r}…")
    parts = text.split("/")
    if depth is not None and len(parts) != depth:
        raise InvalidInputError(f"expected a name of {depth} part(s) joined by '/', found: {text!r}")
    for part in parts:
        problem = _problem_with_part(part)
        if problem:
            raise InvalidInputError(f"{problem} in the model name: {text!r}")
    return text


def _problem_with_part(part: str) -> str | None:
    if not part:
        return "an empty part"
    if part in {".", ".."}:
        return f"the part '{part}'"
    if part[0] in "._":
        return f"a part that starts with '{part[0]}'"
    if "\\" in part:
        return "a backslash"
    if not part.isprintable():
        return "a control or unprintable character"
    if len(part.encode()) > MAX_PART_BYTES:
        return f"a part longer than {MAX_PART_BYTES} bytes"
    return None


def parse_version(text: str) -> int | None:
    """Return the number in ``7`` or ``v7``, or None if ``text`` is not a version. No leading zeros, no sign."""
    match = _VERSION.match(text)
    if match is None:
        return None
    number = int(match[1])
    return number if number <= MAX_VERSION else None


def parse_label(text: str) -> str:
    """Return ``text`` if it can name a version beside its number, else raise ``InvalidInputError``."""
    if text == LATEST:
        raise InvalidInputError(
            "found the label 'latest', which always means the highest version; expected another word"
        )
    if parse_version(text) is not None:
        raise InvalidInputError(
            f"found the label {text!r}, which is a version's number; expected a word such as stable"
        )
    if not _LABEL.match(text):
        raise InvalidInputError(
            f"found the label {text[:40]!r}, expected a letter and then letters, digits, '.', '_' and '-', 128 at most"
        )
    return text


def parse_ref(name: str, version: str | None = None) -> ModelRef:
    """Return the ref for a name and an optional version word from a path, a header or a body.

    Raises:
        InvalidInputError: the name or the version word is malformed.
    """
    parse_name(name)
    if version is None or version in {"", LATEST}:
        return ModelRef(name)
    number = parse_version(version)
    if number is not None:
        return ModelRef(name, number)
    if _LABEL.match(version):
        return ModelRef(name, version)
    raise InvalidInputError(
        f"expected a version number, 'latest' or a label for model {name!r}, found: {version[:40]!r}"
    )


class DiskFile(NamedTuple):
    """One file of a version on disk, its path relative to the version's directory, ``/`` between parts.

    ``modified_ns`` is when it was last written to, as it was found when it was published, or when the server started.
    """

    path: str
    size: int
    modified_ns: int = 0


def fingerprint(objects: Iterable[tuple[str, int, str]]) -> Fingerprint:
    """Return the digest of a version's objects, each ``(relative path, size in bytes, etag)``, in any order."""
    digest = hashlib.blake2b(digest_size=16)
    for path, size, etag in sorted(objects):
        # With their lengths, so that no character in a path can make one object look like two.
        digest.update(f"{len(path)}:{path}{size}:{len(etag)}:{etag}".encode("utf-8", "surrogatepass"))
    return Fingerprint(digest.hexdigest())
