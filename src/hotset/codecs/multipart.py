"""Forms with files: ``multipart/form-data`` bodies. Pure; called by ``content.py``."""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from hotset.errors import InvalidInputError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FORM_DATA: Final = "multipart/form-data"
MOST_PARTS: Final = 1000
_MOST_HEADER: Final = 8192

# What is wrong with a body is for its client, and not for the log.
logging.getLogger("python_multipart").setLevel(logging.ERROR)


@dataclass(slots=True, eq=False)
class FormFile:
    """A file in a form: what the client called it, its type, and its contents, as ``bytes`` and as a file to read."""

    filename: str
    content_type: str
    content: bytes
    file: io.BytesIO = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.file = io.BytesIO(self.content)

    def read(self) -> bytes:
        """Return the contents."""
        return self.content


@dataclass(slots=True)
class _Part:
    headers: dict[str, str] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)


class _Parts:
    """Takes what the parser finds. One for each body."""

    def __init__(self) -> None:
        self.done: list[_Part] = []
        self.is_ended = False
        self._part = _Part()
        self._name = bytearray()
        self._value = bytearray()

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_part_data": self._data,
            "on_part_end": lambda: self.done.append(self._part),
            "on_header_field": lambda data, start, end: self._grow(self._name, data[start:end]),
            "on_header_value": lambda data, start, end: self._grow(self._value, data[start:end]),
            "on_header_end": self._header,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.done) >= MOST_PARTS:
            raise InvalidInputError(f"the form has more than {MOST_PARTS} parts")
        self._part = _Part()

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._part.data += data[start:end]

    def _grow(self, text: bytearray, more: bytes) -> None:
        text += more
        if len(text) > _MOST_HEADER:
            raise InvalidInputError(f"a part of the form has a header of more than {_MOST_HEADER} bytes")

    def _header(self) -> None:
        self._part.headers[self._name.decode("latin-1").lower()] = self._value.decode("latin-1")
        self._name.clear()
        self._value.clear()

    def _end(self) -> None:
        self.is_ended = True


def read_form_data(body: bytes | memoryview, content_type: str) -> dict[str, Any]:
    """Return a form's fields: ``str``, or ``FormFile`` for what has a file name; a list where one is given several times.

    Raises:
        InvalidInputError: it is no such form, or it is cut short.
    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise InvalidInputError(f"expected a boundary in the content type, found: {content_type!r}")
    parts = _Parts()
    try:
        parser = MultipartParser(boundary, parts.callbacks())
        parser.write(bytes(body))
        parser.finalize()
    except FormParserError as error:
        raise InvalidInputError(f"the body is not {FORM_DATA}: {error}") from error
    if not parts.is_ended:
        raise InvalidInputError(
            f"the body is not whole: expected the closing boundary of {FORM_DATA}, found none"
        )
    fields: dict[str, Any] = {}
    for part in parts.done:
        name, value = _field(part)
        if name not in fields:
            fields[name] = value
        elif isinstance(fields[name], list):
            fields[name].append(value)
        else:
            fields[name] = [fields[name], value]
    return fields


def _field(part: _Part) -> tuple[str, str | FormFile]:
    kind, options = parse_options_header(part.headers.get("content-disposition", ""))
    if kind != b"form-data" or b"name" not in options:
        raise InvalidInputError("a part of the form has no Content-Disposition of form-data with a name")
    name = options[b"name"].decode("utf-8", "replace")
    content = bytes(part.data)
    if b"filename" in options:
        filename = options[b"filename"].decode("utf-8", "replace")
        return name, FormFile(filename, part.headers.get("content-type", "application/octet-stream"), content)
    try:
        return name, content.decode()
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"the field {name!r} of the form is not UTF-8: {error}") from error
