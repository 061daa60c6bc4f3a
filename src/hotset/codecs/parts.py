"""The parts of a streamed answer as bytes: as they are, as lines of JSON, or as server-sent events.

Called by the native codec. One writer for each answer; none of them ever looks back at a part.
"""

from __future__ import annotations

import re
from typing import Any, Final

from hotset.codecs.jsontext import write_json
from hotset.errors import PredictFailedError

LINES: Final = "application/x-ndjson"
EVENTS: Final = "text/event-stream"

_LINE_ENDS: Final = re.compile(rb"\r\n|\n|\r")


class Plain:
    """Text and bytes as they are."""

    def __init__(self, content_type: str) -> None:
        self.content_type: Final = content_type

    def write(self, part: Any) -> bytes:
        if isinstance(part, str):
            return _encoded(part)
        if isinstance(part, bytes | bytearray | memoryview):
            return bytes(part)
        raise PredictFailedError(
            f"expected all parts to be str or bytes, as the first one was; found: {type(part).__name__}"
        )


class Lines:
    """Each part as JSON, on a line of its own."""

    def __init__(self, content_type: str | None = None) -> None:
        self.content_type: Final = content_type or LINES

    def write(self, part: Any) -> bytes:
        return write_json(part) + b"\n"


class Events:
    """Each part as an event, whose data it is: text as it is, all else as JSON."""

    def __init__(self, content_type: str | None = None) -> None:
        self.content_type: Final = content_type or EVENTS

    def write(self, part: Any) -> bytes:
        if isinstance(part, str):
            return event(_encoded(part))
        if isinstance(part, bytes | bytearray | memoryview):
            return event(_text_of(bytes(part)))
        return event(write_json(part))


def event(data: bytes) -> bytes:
    """Return one server-sent event. Whoever reads it gets each end of a line as a newline."""
    lines = _LINE_ENDS.split(data)
    return b"".join(b"data: %b\n" % line for line in lines) + b"\n"


def _encoded(part: str) -> bytes:
    try:
        return part.encode()
    except UnicodeEncodeError as error:
        raise PredictFailedError(f"a part of the answer is not Unicode: {error}") from error


def _text_of(part: bytes) -> bytes:
    try:
        part.decode()
    except UnicodeDecodeError as error:
        raise PredictFailedError(f"expected UTF-8 for a server-sent event: {error}") from error
    return part
