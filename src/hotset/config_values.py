"""How one setting's value is read, shown and described: the kinds of values that ``config`` puts together.

A ``Kind`` reads what YAML, the environment or the command line gave, all by the same rules, so that a wrong value
gets the same message wherever it stands. Nothing here knows which settings there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import yaml
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from hotset.errors import InvalidInputError
from hotset.keys import LATEST, ModelRef, parse_name, parse_ref, parse_version
from hotset.tokens import SECRET_PREFIX, TokenSource
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
class CacheSize:
    """How much a tier may hold: models, bytes, or both; a part that is None is not bounded by the settings.

    ``device_bytes`` is for each device.
    """

    models: int | None = None
    bytes: int | None = None
    device_bytes: int | None = None

    def __str__(self) -> str:
        parts = [] if self.models is None else [f"{self.models} models"]
        parts += [] if self.bytes is None else [format_bytes(self.bytes)]
        parts += [] if self.device_bytes is None else [f"{format_bytes(self.device_bytes)} of each device"]
        return " and ".join(parts)


@dataclass(frozen=True, slots=True)
class Devices:
    """Which devices a replica uses, by their places among those that it sees; None: those that it has workers for."""

    places: tuple[int, ...] | None = None

    def __str__(self) -> str:
        if self.places is None:
            return "auto"
        return ", ".join(f"cuda:{place}" for place in self.places) or "none"


@dataclass(frozen=True, slots=True)
class Preload:
    """What is loaded before the server is ready: these refs, the ``recent`` most recently used, or ``everything``."""

    refs: tuple[ModelRef, ...] = ()
    recent: int = 0
    everything: bool = False

    def __str__(self) -> str:
        if self.everything:
            return "all"
        return str(self.recent) if self.recent else str([str(ref) for ref in self.refs])


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
        count = _whole(value)
        if count is None or count < lowest or (highest is not None and count > highest):
            raise WrongValueError(value, expected)
        return count

    schema = {"type": "integer", "minimum": lowest}
    return Kind(
        f"number {limits}", expected, read, schema if highest is None else {**schema, "maximum": highest}
    )


def _whole(value: Any) -> int | None:
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
        size = parse_bytes(value if isinstance(value, str) else _number_text(_whole(value)))
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


def _read_disk_size(value: Any) -> CacheSize:
    return _read_cache_size(value, DISK_SIZE.expected, {"models": number(1), "bytes": SIZE})


def _read_memory_size(value: Any) -> CacheSize:
    return _read_cache_size(
        value, MEMORY_SIZE.expected, {"models": number(1), "bytes": SIZE, "device_bytes": SIZE}
    )


def _read_cache_size(value: Any, expected: str, kinds: Mapping[str, Kind]) -> CacheSize:
    if isinstance(value, CacheSize):
        return value
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = _yaml(value, expected)
    if isinstance(value, Mapping):
        return _cache_size_of_parts(value, expected, kinds)
    models = _whole(value)
    if models is None and isinstance(value, str):
        try:
            return CacheSize(bytes=SIZE.read(value))
        except WrongValueError as error:
            raise WrongValueError(value, expected) from error
    if models is None or models < 1:
        raise WrongValueError(value, expected)
    return CacheSize(models=models)


def _cache_size_of_parts(parts: Mapping[Any, Any], expected: str, kinds: Mapping[str, Kind]) -> CacheSize:
    if not parts or not set(parts) <= set(kinds):
        raise WrongValueError(dict(parts), expected)
    return CacheSize(**{name: _read_part(name, kinds[name], part) for name, part in parts.items()})


def _read_part(name: str, kind: Kind, value: Any) -> Any:
    try:
        return kind.read(value)
    except WrongValueError as error:
        raise WrongValueError(value, kind.expected, path=f".{name}") from error


def _read_devices(value: Any) -> Devices:
    if isinstance(value, Devices):
        return value
    if isinstance(value, str):
        word = value.strip().lower()
        if word in {"auto", "none"}:
            return Devices(None if word == "auto" else ())
        value = _yaml(value, DEVICES.expected) if word.startswith("[") else word.split(",")
    if not isinstance(value, list | tuple):
        raise WrongValueError(value, DEVICES.expected)
    places = tuple(_each(enumerate(value), lambda item: _read_device(item[1], path=f"[{item[0]}]")))
    if len(set(places)) < len(places):
        raise WrongValueError(value, "each device once")
    return Devices(places)


def _read_device(value: Any, *, path: str) -> int:
    kind, _, place = value.strip().lower().partition(":") if isinstance(value, str) else ("", "", "")
    if kind != "cuda" or not place.isascii() or not place.isdigit() or len(place) > 3:
        raise WrongValueError(value, "a device such as cuda:0", path=path)
    return int(place)


def _read_mapping(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        value = _yaml(value, MAPPING.expected)
    if not isinstance(value, Mapping):
        raise WrongValueError(value, MAPPING.expected)
    for key in value:
        if not isinstance(key, str):
            raise WrongValueError(key, "a string as the key; put it in quotes", path=f".{key}")
    return dict(value)


def _read_models(value: Any) -> dict[str, str]:
    if isinstance(value, str):
        value = _yaml(value, MODELS.expected)
    if not isinstance(value, Mapping) or not value:
        raise WrongValueError(value, MODELS.expected)
    return dict(
        _each(value.items(), lambda item: (_read_name(item[0]), _read_part(item[0], LOCATION, item[1])))
    )


def _each(items: Iterable[T], read: Callable[[T], R]) -> list[R]:
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


def _read_name(name: Any) -> str:
    if not isinstance(name, str):
        raise WrongValueError(name, "a string as the name; put it in quotes", path=f".{name}")
    try:
        return parse_name(name)
    except InvalidInputError as error:
        raise WrongValueError(name, f"a model's name ({error})", path=f".{name}") from error


def _read_preload(value: Any) -> Preload:
    if isinstance(value, Preload):
        return value
    if isinstance(value, str):
        word = value.strip()
        if word.lower() == "all":
            return Preload(everything=True)
        value = _yaml(word, PRELOAD.expected) if word.startswith("[") else _whole(word)
        if value is None:
            value = [part.strip() for part in word.split(",") if part.strip()]
    count = _whole(value)
    if count is not None and count >= 0:
        return Preload(recent=count)
    if not isinstance(value, list | tuple):
        raise WrongValueError(value, PRELOAD.expected)
    return Preload(refs=tuple(_each(enumerate(value), lambda item: read_ref(item[1], path=f"[{item[0]}]"))))


def read_ref(value: Any, *, path: str = "") -> ModelRef:
    """Return the ref in ``paris``, ``paris@3`` or ``paris@latest``.

    Raises:
        WrongValueError: it is none of these.
    """
    expected = "a model's name, or name@version"
    if not isinstance(value, str):
        raise WrongValueError(value, expected, path=path)
    # A name may itself hold an @, so only a version word after the last one counts as a version.
    name, _, version = value.rpartition("@")
    is_version = bool(name) and (version == LATEST or parse_version(version) is not None)
    try:
        return parse_ref(name, version) if is_version else parse_ref(value)
    except InvalidInputError as error:
        raise WrongValueError(value, f"{expected} ({error})", path=path) from error


def _read_tokens(value: Any) -> TokenSource:
    """A file, or the lines themselves. What may be a token itself is not shown in a message."""
    if isinstance(value, TokenSource):
        return value
    if isinstance(value, str) and value.lstrip().startswith(SECRET_PREFIX):
        raise WrongValueError(_HIDDEN, AUTH.expected)
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = yaml.safe_load(value)
        except yaml.YAMLError:  # which would show what was given
            value = None
    elif isinstance(value, str) and (value.lstrip().startswith("sha256:") or "\n" in value):
        value = value.splitlines()
    if isinstance(value, list) and value and all(isinstance(line, str) for line in value):
        return TokenSource(lines=tuple(value))
    if not isinstance(value, str) or not value.strip():
        raise WrongValueError(_HIDDEN, AUTH.expected)
    return TokenSource(path=value.strip())


def _read_texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        word = value.strip()
        value = (
            _yaml(word, TEXTS.expected) if word.startswith("[") else [it.strip() for it in word.split(",")]
        )
    if not isinstance(value, list | tuple) or not all(isinstance(it, str) and it.strip() for it in value):
        raise WrongValueError(value, TEXTS.expected)
    return tuple(it.strip() for it in value)


def _yaml(value: str, expected: str) -> Any:
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise WrongValueError(value, expected) from error


_SIZES: Final = ["8GiB", "500MB"]
_COUNT_SCHEMA: Final = {"type": "integer", "minimum": 1}
_SIZE_SCHEMA: Final = {"type": ["string", "integer"], "minimum": 1, "examples": _SIZES}

SIZE: Final = Kind("size", "a size such as 64MiB", _read_size, _SIZE_SCHEMA, format_bytes)
SWITCH: Final = Kind(
    "`true` or `false`", "true or false", _read_switch, {"type": "boolean"}, lambda on: str(on).lower()
)
SIZE_OR_NONE: Final = Kind(
    "size",
    "a size such as 256MiB, or 0 for none",
    lambda value: 0 if _whole(value) == 0 else _read_size(value),
    {**_SIZE_SCHEMA, "minimum": 0},
    format_bytes,
)


def _cache_size_schema(**parts: Mapping[str, Any]) -> Mapping[str, Any]:
    mapping = {"type": "object", "properties": parts, "additionalProperties": False, "minProperties": 1}
    return {"anyOf": [_COUNT_SCHEMA, {"type": "string", "examples": _SIZES}, mapping]}


DISK_SIZE: Final = Kind(
    "cache size",
    "a count of models such as 100, a size such as 8GiB, or {models: 100, bytes: 8GiB}",
    _read_disk_size,
    _cache_size_schema(models=_COUNT_SCHEMA, bytes=_SIZE_SCHEMA),
)
MEMORY_SIZE: Final = Kind(
    "cache size",
    "a count of models such as 100, a size such as 8GiB, or {models: 100, bytes: 8GiB, device_bytes: 20GiB}",
    _read_memory_size,
    _cache_size_schema(models=_COUNT_SCHEMA, bytes=_SIZE_SCHEMA, device_bytes=_SIZE_SCHEMA),
)
DEVICES: Final = Kind(
    "list of devices, `auto` or `none`",
    "auto, none, or a list of devices such as [cuda:0, cuda:1]",
    _read_devices,
    {
        "anyOf": [
            {"enum": ["auto", "none"]},
            {
                "type": "array",
                "items": {"type": "string", "pattern": "^cuda:[0-9]{1,3}$"},
                "uniqueItems": True,
            },
        ]
    },
)
_HIDDEN: Final = "(hidden)"

AUTH: Final = Kind(
    "path or lines",
    "a file with the hash lines of tokens, or a list of such lines; `hotset token` makes them",
    _read_tokens,
    {"type": ["string", "array"], "items": {"type": "string"}, "minLength": 1},
)
TEXTS: Final = Kind(
    "list",
    "a list such as [a, b]",
    _read_texts,
    {"type": "array", "items": {"type": "string"}},
    ", ".join,
)
LOCATION: Final = text("URL or path", "a directory or a URL such as s3://bucket/models")
PATH: Final = text("path", "a path")
MAPPING: Final = Kind("mapping", "a mapping such as {key: value}", _read_mapping, {"type": "object"})
MODELS: Final = Kind(
    "mapping of name to URL or path",
    "a mapping of names to URLs or directories such as {paris: s3://bucket/paris/}",
    _read_models,
    {"type": "object", "additionalProperties": {"type": "string", "minLength": 1}, "minProperties": 1},
)
PRELOAD: Final = Kind(
    "list of names, count, or `all`",
    "a list of names or name@version, a number of models, or all",
    _read_preload,
    {
        "anyOf": [
            {"type": "array", "items": {"type": "string"}},
            {"type": "integer", "minimum": 0},
            {"const": "all"},
        ]
    },
)
