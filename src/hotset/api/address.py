"""Which model a path names. Pure, and the same work for every request, however many models there are.

Paths are read as the client sent them, still percent-encoded: the routes' own words are found first and the
name is decoded afterwards, so that ``acme%2Fload`` is a name and never the verb ``load``.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, unquote_to_bytes

from hotset.api.reply import Scope
from hotset.errors import InvalidInputError
from hotset.keys import ModelRef, parse_ref, parse_version

_VERSIONS: Final = b"/versions/"
_LABELS: Final = b"/labels/"


def raw_path(scope: Scope) -> bytes:
    """Return the path as the client sent it, below the application's root, without the query."""
    raw: bytes = scope.get("raw_path") or quote(scope["path"], safe="/:@!$&'()*+,;=~").encode("ascii")
    root: str = scope.get("root_path") or ""
    return raw[len(root) :] if root and raw.startswith(root.encode("utf-8")) else raw


def model_ref(
    path: bytes, *, prefix: bytes, suffix: bytes, versioned: bool = True, labelled: bool = False
) -> ModelRef:
    """Return the ref between ``prefix`` and ``suffix``: a name, and ``/versions/…`` where ``versioned``.

    Where ``labelled``, ``/labels/…`` too; what stands there is a label and never a number.

    Raises:
        InvalidInputError: the name or the version is malformed.
    """
    middle = path[len(prefix) : len(path) - len(suffix)]
    if versioned:
        name, separator, version = middle.rpartition(_VERSIONS)
        if separator and b"/" not in version:
            return parse_ref(_decoded(name), _version(version))
    if labelled:
        name, separator, label = middle.rpartition(_LABELS)
        if separator and b"/" not in label:
            return _labelled(_decoded(name), _decoded(label))
    return parse_ref(_decoded(middle))


def check_length(name: str, most_bytes: int) -> None:
    """Refuse a name that is longer than the settings allow.

    Raises:
        InvalidInputError
    """
    if len(name.encode("utf-8", "surrogatepass")) > most_bytes:
        raise InvalidInputError(f"a model's name is longer than {most_bytes} bytes: {name[:40]!r}…")


def _version(part: bytes) -> str:
    if not part:
        raise InvalidInputError("expected a version after '/versions/', found nothing")
    return _decoded(part)


def _labelled(name: str, label: str) -> ModelRef:
    if not label or parse_version(label) is not None:
        raise InvalidInputError(f"Unrecognized servable version label: {label}")
    return parse_ref(name, label)


def _decoded(part: bytes) -> str:
    try:
        return (unquote_to_bytes(part) if b"%" in part else part).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"expected a name in UTF-8 in the path, found: {part[:80].decode('ascii', 'backslashreplace')}"
        ) from error
