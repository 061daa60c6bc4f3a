"""Plain values from a model's own files, read strictly: what does not fit is a failed load that says where and why.

Called by ``modelyaml.py`` for the whole of ``model.yaml``, and by the runtimes, through ``RuntimeOptions.read``, for the
options that are theirs. Pure. It reads no files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from hotset.errors import LoadFailedError

Read = TypeVar("Read")

_PLACE: Final = re.compile(r" - at `(?:key` in `)?\$(?P<path>[^`]*)`$")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(?P<name>.*)`", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(?P<name>.*)`")
_EXPECTED: Final = re.compile(r"Expected (?P<what>.*?)(?:, got .*)?$", re.DOTALL)
_ENUM: Final = re.compile(r"Invalid enum value ")
_STEP: Final = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
_MOST_SHOWN: Final = 60

_WORDS: Final = {"bool": "true or false", "object": "keys and values", "array": "a list", "str": "text"}
"""What msgspec calls the kinds of values → what the author of a YAML file calls them."""


def read_strictly(value: object, kind: type[Read], *, where: str, below: str = "") -> Read:
    """Return ``value`` as ``kind``, a ``msgspec.Struct`` that forbids unknown fields.

    ``where`` is the file, and ``below`` the path in it that ``value`` was found at.

    Raises:
        LoadFailedError: it does not fit; with the file, the path in it, what was found and what was expected.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise LoadFailedError(_told(str(error), value, kind, where, below)) from error


def _told(message: str, value: object, kind: type[Any], where: str, below: str) -> str:
    place = _PLACE.search(message)
    path = place["path"] if place else ""
    text = message[: place.start()] if place else message
    unknown = _UNKNOWN.fullmatch(text)
    if unknown:
        known = _fields_at(kind, path)
        expected = f", expected one of: {', '.join(known)}" if known else ""
        return f"{where}: {_joined(below, path, unknown['name'])}: found an unknown key{expected}"
    missing = _MISSING.fullmatch(text)
    if missing:
        return f"{where}: {_joined(below, path, missing['name'])}: found nothing, expected a value"
    choice = _ENUM.match(text)
    if choice:
        known = ", ".join(_choices_at(kind, path))
        return f"{where}: {_joined(below, path)}: found {shown(_value_at(value, path))}, expected one of: {known}"
    expected_text = _EXPECTED.match(text)
    expected = _in_words(expected_text["what"]) if expected_text else text
    at = _joined(below, path)
    return f"{where}: {at + ': ' if at else ''}found {shown(_value_at(value, path))}, expected {expected}"


def _joined(*parts: str) -> str:
    return ".".join(part.strip(".") for part in parts if part.strip("."))


def _in_words(expected: str) -> str:
    """``Expected `bool | object | null``` → ``true or false, or keys and values``."""

    def kinds(found: re.Match[str]) -> str:
        names = [name for name in found[1].split(" | ") if name != "null"]
        return ", or ".join(_WORDS.get(name, name) for name in names)

    return re.sub(r"`([^`]*)`", kinds, expected)


def shown(value: object) -> str:
    """Return a value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def _value_at(value: object, path: str) -> object:
    """Return what is at a path such as ``.inputs[0].name``; what cannot be followed ends it."""
    for name, index in _STEP.findall(path):
        if name and isinstance(value, Mapping) and name in value:
            value = value[name]
        elif index and isinstance(value, Sequence) and int(index) < len(value):
            value = value[int(index)]
        else:
            break
    return value


def _fields_at(kind: Any, path: str) -> Sequence[str]:
    """Return the keys that are known at a path; none where that is not told by the types."""
    return [field.encode_name for field in getattr(_type_at(kind, path), "fields", ())]


def _choices_at(kind: Any, path: str) -> Sequence[str]:
    return [str(value) for value in getattr(_type_at(kind, path), "values", ())]


def _type_at(kind: Any, path: str) -> Any:
    node: Any = msgspec.inspect.type_info(kind)
    for name, index in _STEP.findall(path):
        node = _with_something_below(node)
        if index:
            node = getattr(node, "item_type", None)
        else:
            fields = getattr(node, "fields", ())
            node = next((field.type for field in fields if field.encode_name == name), None)
    return _with_something_below(node)


def _with_something_below(node: Any) -> Any:
    """Of several types that a value may have, the one that tells more."""
    if not isinstance(node, msgspec.inspect.UnionType):
        return node
    deeper = [kind for kind in node.types if hasattr(kind, "fields") or hasattr(kind, "item_type")]
    return deeper[0] if deeper else None
