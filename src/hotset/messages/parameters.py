"""A request's parameters as plain values, of as much of the message as there is to them. For the codec, and for the gRPC door."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from hotset.messages.fields import framed, spans, tag_of
from hotset.messages.pool import decoded, message_class

_NUMBER: Final = 4
PARAMETER: Final = tag_of(_NUMBER)
"""The tag of one of them."""

_Request: Final = message_class("ModelInferRequest")


def plain_values(entries: Iterable[bytes | memoryview]) -> dict[str, Any]:
    """Return parameters by name, of the values of their fields.

    Raises:
        MalformedError: they are not parameters.
    """
    joined = b"".join(piece for entry in entries for piece in (framed(_NUMBER, len(entry)), entry))
    values = decoded(_Request, joined).parameters
    chosen = {name: value.WhichOneof("parameter_choice") for name, value in values.items()}
    return {name: getattr(values[name], choice) for name, choice in chosen.items() if choice}


def parameters_of(request: bytes) -> dict[str, Any]:
    """Return those of a whole request.

    Raises:
        MalformedError: it is not a message.
    """
    view = memoryview(request)
    entries = [view[start:end] for tag, start, end in spans(request) if tag == PARAMETER]
    return plain_values(entries) if entries else {}
