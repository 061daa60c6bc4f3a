"""Kinds of values, and those that are one word or number: how such a value is read, shown and described.

A ``Kind`` reads what YAML, the environment or the command line gave, all by the same rules, so that a wrong value
gets the same message wherever it stands. Nothing here knows which settings there are; ``config_values`` has the kinds
whose values have parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import yaml
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from hotset.units import format_bytes, format_duration, parse_bytes, parse_duration

T = TypeVar("T")
R = TypeVar("R")


class WrongValueError(ValueError):
    """A value does not fit. ``path`` is the way to it inside the setting: empty, or such as ``.paris``.

    ``others`` are the further ones of the same setting.
    """

    def __init__(
        self, found: object, expected: str, *, path: str = "", others: Sequence[WrongValueError] = ()
    ) -> None:
        super().__init__(f"found {_shown(found)}, expected {expected}")
        self.found = found
        self.expected = expected
        self.path = path
        self.others = tuple(others)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value. As metadata of a pydantic field it is that field's whole validation.

    ``name`` stands in the docs, ``expected`` in messages; ``read`` raises ``WrongValueError`` and nothing else.
    """

    name: str
    expected: str
    read: Callable[[Any], Any]
    schema: Mapping[str, Any]
    show: Callable[[Any], str] = str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)


def text(name: str, expected: str) -> Kind:
    """Return the kind of a string that is not empty."""

    def read(value: Any) -> str:
        if not isinstance(value, str) or not value.strip():
            raise WrongValueError(value, expected)
        return value.strip()

    return Kind(name, expected, read, {"type": "string", "minLength": 1})


def choice(*words: str) -> Kind:
    """Return the kind of one of these words, in any case."""
    expected = f"one of: {', '.join(words)}"

    def read(value: Any) -> str:
        word = value.strip().lower() if isinstance(value, str) else None
        if word not in words:
            raise WrongValueError(value, expected)
        return word

    return Kind(" or ".join(f"`{word}`" for word in words), expected, read, {"enum": list(words)})


def number(lowest: int, highest: int | None = None) -> Kind:
    """Return the kind of a whole number within limits."""
    limits = f"from {lowest}" if highest is None else f"from {lowest} to {highest}"
    expected = f"a whole number {limits}"

    def read(value: Any) -> int:
        count = whole_number(value)
        if count is None or count < lowest or (highest is not None and count > highest):
            raise WrongValueError(value, expected)
        return count

    schema = {"type": "integer", "minimum": lowest}
    return Kind(
        f"number {limits}", expected, read, schema if highest is None else {**schema, "maximum": highest}
    )


def whole_number(value: Any) -> int | None:
    """Return a whole number that is given as such or in digits; None if it is none."""
    if isinstance(value, str):
        digits = value.strip()
        return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 20 else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def share(lowest: float, highest: float, *, zero: str | None = None) -> Kind:
    """Return the kind of a part of a whole, as `0.9` or `90%`; ``zero`` says what 0 means, None that 0 is as any other."""
    limits = f"from {lowest:g} to {highest:g}"
    expected = f"a share such as 90% or 0.9, {limits}" + ("" if zero is None else f", or 0: {zero}")

    def read(value: Any) -> float:
        text_ = value.strip() if isinstance(value, str) else _number_text(value)
        try:
            part = float(text_[:-1]) / 100 if text_.endswith("%") else float(text_)
        except ValueError as error:
            raise WrongValueError(value, expected) from error
        if not (lowest <= part <= highest or (part == 0 and zero is not None)):
            raise WrongValueError(value, expected)
        return part

    schema = {"type": ["number", "string"], "minimum": 0 if zero is not None else lowest, "maximum": highest}
    return Kind(f"share {limits}", expected, read, schema, lambda part: f"{part:.0%}")


def duration(*, zero: str | None = None) -> Kind:
    """Return the kind of a duration; ``zero`` says what 0 means, None that 0 is refused."""
    expected = "a duration such as 10s" + ("" if zero is None else f", or 0: {zero}")

    def read(value: Any) -> float:
        try:
            seconds = parse_duration(value if isinstance(value, str) else _number_text(value))
        except ValueError as error:
            raise WrongValueError(value, expected) from error
        if seconds == 0 and zero is None:
            raise WrongValueError(value, f"{expected}, and more than 0")
        return seconds

    schema = {"type": ["string", "number"], "minimum": 0, "examples": ["10s", "1m30s", "500ms"]}
    return Kind("duration", expected, read, schema, format_duration)


def _number_text(value: Any) -> str:
    """Return a number as text; a boolean or anything else becomes text that no parser accepts."""
    return repr(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""


def _read_size(value: Any) -> int:
    try:
        size = parse_bytes(value if isinstance(value, str) else _number_text(whole_number(value)))
    except ValueError as error:
        raise WrongValueError(value, SIZE.expected) from error
    if size < 1:
        raise WrongValueError(value, SIZE.expected)
    return size


def _read_switch(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else None
    if word in {"true", "yes", "on", "1"}:
        return True
    if word in {"false", "no", "off", "0"}:
        return False
    raise WrongValueError(value, SWITCH.expected)


def read_part(name: str, kind: Kind, value: Any) -> Any:
    """Read a part of a value; a message says which part does not fit."""
    try:
        return kind.read(value)
    except WrongValueError as error:
        raise WrongValueError(value, kind.expected, path=f".{name}") from error


def read_each(items: Iterable[T], read: Callable[[T], R]) -> list[R]:
    """Read every item, and raise for all that do not fit at once."""
    values: list[R] = []
    wrong: list[WrongValueError] = []
    for item in items:
        try:
            values.append(read(item))
        except WrongValueError as error:
            wrong.append(error)
    if wrong:
        first, *others = wrong
        raise WrongValueError(first.found, first.expected, path=first.path, others=others) from first
    return values


def from_yaml(value: str, expected: str) -> Any:
    """Return what a value says that is written in one line of YAML."""
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise WrongValueError(value, expected) from error


SIZE_EXAMPLES: Final = ["8GiB", "500MB"]
COUNT_SCHEMA: Final = {"type": "integer", "minimum": 1}
SIZE_SCHEMA: Final = {"type": ["string", "integer"], "minimum": 1, "examples": SIZE_EXAMPLES}

SIZE: Final = Kind("size", "a size such as 64MiB", _read_size, SIZE_SCHEMA, format_bytes)
SWITCH: Final = Kind(
    "`true` or `false`", "true or false", _read_switch, {"type": "boolean"}, lambda on: str(on).lower()
)
SIZE_OR_NONE: Final = Kind(
    "size",
    "a size such as 256MiB, or 0 for none",
    lambda value: 0 if whole_number(value) == 0 else _read_size(value),
    {**SIZE_SCHEMA, "minimum": 0},
    format_bytes,
)
LOCATION: Final = text("URL or path", "a directory or a URL such as s3://bucket/models")
PATH: Final = text("path", "a path")
