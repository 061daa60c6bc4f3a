"""Settings whose values have parts: what a cache holds, devices, what is preloaded, lists and mappings, and their kinds.

For ``config``, which puts them together, and for those whom such a value is given to. How a part is read, ``config_kinds``
says; nothing here knows which settings there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from hotset.config_kinds import (
    COUNT_SCHEMA,
    LOCATION,
    SIZE,
    SIZE_EXAMPLES,
    SIZE_SCHEMA,
    Kind,
    WrongValueError,
    from_yaml,
    number,
    read_each,
    read_part,
    whole_number,
)
from hotset.errors import InvalidInputError
from hotset.keys import LATEST, ModelRef, parse_name, parse_ref, parse_version
from hotset.tokens import SECRET_PREFIX, TokenSource
from hotset.units import format_bytes


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
        value = from_yaml(value, expected)
    if isinstance(value, Mapping):
        return _cache_size_of_parts(value, expected, kinds)
    models = whole_number(value)
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
    return CacheSize(**{name: read_part(name, kinds[name], part) for name, part in parts.items()})


def _read_devices(value: Any) -> Devices:
    if isinstance(value, Devices):
        return value
    if isinstance(value, str):
        word = value.strip().lower()
        if word in {"auto", "none"}:
            return Devices(None if word == "auto" else ())
        value = from_yaml(value, DEVICES.expected) if word.startswith("[") else word.split(",")
    if not isinstance(value, list | tuple):
        raise WrongValueError(value, DEVICES.expected)
    places = tuple(read_each(enumerate(value), lambda item: _read_device(item[1], path=f"[{item[0]}]")))
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
        value = from_yaml(value, MAPPING.expected)
    if not isinstance(value, Mapping):
        raise WrongValueError(value, MAPPING.expected)
    for key in value:
        if not isinstance(key, str):
            raise WrongValueError(key, "a string as the key; put it in quotes", path=f".{key}")
    return dict(value)


def _read_models(value: Any) -> dict[str, str]:
    if isinstance(value, str):
        value = from_yaml(value, MODELS.expected)
    if not isinstance(value, Mapping) or not value:
        raise WrongValueError(value, MODELS.expected)
    return dict(
        read_each(value.items(), lambda item: (_read_name(item[0]), read_part(item[0], LOCATION, item[1])))
    )


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
        value = from_yaml(word, PRELOAD.expected) if word.startswith("[") else whole_number(word)
        if value is None:
            value = [part.strip() for part in word.split(",") if part.strip()]
    count = whole_number(value)
    if count is not None and count >= 0:
        return Preload(recent=count)
    if not isinstance(value, list | tuple):
        raise WrongValueError(value, PRELOAD.expected)
    return Preload(
        refs=tuple(read_each(enumerate(value), lambda item: read_ref(item[1], path=f"[{item[0]}]")))
    )


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
            from_yaml(word, TEXTS.expected)
            if word.startswith("[")
            else [it.strip() for it in word.split(",")]
        )
    if not isinstance(value, list | tuple) or not all(isinstance(it, str) and it.strip() for it in value):
        raise WrongValueError(value, TEXTS.expected)
    return tuple(it.strip() for it in value)


def _cache_size_schema(**parts: Mapping[str, Any]) -> Mapping[str, Any]:
    mapping = {"type": "object", "properties": parts, "additionalProperties": False, "minProperties": 1}
    return {"anyOf": [COUNT_SCHEMA, {"type": "string", "examples": SIZE_EXAMPLES}, mapping]}


DISK_SIZE: Final = Kind(
    "cache size",
    "a count of models such as 100, a size such as 8GiB, or {models: 100, bytes: 8GiB}",
    _read_disk_size,
    _cache_size_schema(models=COUNT_SCHEMA, bytes=SIZE_SCHEMA),
)
MEMORY_SIZE: Final = Kind(
    "cache size",
    "a count of models such as 100, a size such as 8GiB, or {models: 100, bytes: 8GiB, device_bytes: 20GiB}",
    _read_memory_size,
    _cache_size_schema(models=COUNT_SCHEMA, bytes=SIZE_SCHEMA, device_bytes=SIZE_SCHEMA),
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
