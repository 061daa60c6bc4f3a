"""A body by its content type: what the user's ``predict`` gets as its payload.

Called by the native codec. JSON becomes its value, a form a dict, text a ``str``, NumPy's files arrays, an Arrow stream a
table; all else stays as it is.
"""

from __future__ import annotations

from codecs import lookup
from collections.abc import Callable, Mapping
from email.message import Message
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec

from hotset.body_limits import check_depth
from hotset.codecs.arrow import ARROW, read_table
from hotset.codecs.jsontext import read_json
from hotset.codecs.multipart import FORM_DATA, read_form_data
from hotset.codecs.npy import NPY, NPZ, read_npy, read_npz
from hotset.errors import InvalidInputError

JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"
BINARY: Final = "application/octet-stream"
_FORM: Final = "application/x-www-form-urlencoded"

_CHARSETS: Final = frozenset(
    {"utf-8", "utf-16", "utf-16-le", "utf-16-be", "ascii", "iso8859-1", "iso8859-15", "cp1252"}
)
"""What the web uses. Python knows many more, some of which take time that grows with the square of the length."""

_VALUE: Final = msgspec.json.Decoder()


def media_type(content_type: str) -> str:
    """Return the type without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def read_payload(body: bytes | memoryview, content_type: str) -> Any:
    """Return the payload in ``body``.

    ``curl -d`` and many small clients send JSON as a form or with no type at all, so both of those are tried as
    JSON first. An empty body of no type is None.

    Raises:
        InvalidInputError: the body is not what its type says.
        UnsupportedError: reading that type needs a package that is not installed.
    """
    kind = media_type(content_type)
    if kind == JSON or kind.endswith("+json"):
        check_depth(body, "the body")
        return read_json(_VALUE, body)
    if kind in {"", _FORM}:
        try:
            check_depth(body, "the body")
            return _VALUE.decode(body)
        except (ValueError, RecursionError, InvalidInputError):
            return _form(body) if kind else body or None
    if kind.startswith("text/"):
        return _text(body, content_type)
    if kind == FORM_DATA:
        return read_form_data(body, content_type)
    return _READERS.get(kind, _as_it_is)(body, "the body")


def _as_it_is(body: bytes | memoryview, _where: str) -> bytes | memoryview:
    return body


_READERS: Final[Mapping[str, Callable[[bytes | memoryview, str], Any]]] = {
    NPY: read_npy,
    NPZ: read_npz,
    ARROW: read_table,
}


def _form(body: bytes | memoryview) -> dict[str, str | list[str]]:
    """Return a form's fields; one that is given several times is a list."""
    fields = parse_qs(str(body, "utf-8", "replace"), keep_blank_values=True)
    return {name: values[0] if len(values) == 1 else values for name, values in fields.items()}


def _text(body: bytes | memoryview, content_type: str) -> str:
    message = Message()
    message["Content-Type"] = content_type
    charset = message.get_content_charset("utf-8")
    try:
        encoding = lookup(charset).name
    except (LookupError, ValueError) as error:
        raise InvalidInputError(f"unknown charset in the content type: {charset!r}") from error
    if encoding not in _CHARSETS:
        raise InvalidInputError(f"expected a charset of {', '.join(sorted(_CHARSETS))}, found: {charset!r}")
    try:
        return str(body, encoding)
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"the body is not text in {charset}: {error}") from error
