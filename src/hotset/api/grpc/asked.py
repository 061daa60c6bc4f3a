"""What is read of a ``ModelInferRequest`` before it goes to a worker: what it asks for, and nothing of its tensors."""

from __future__ import annotations

from typing import Final, NamedTuple

from hotset.errors import InvalidInputError
from hotset.messages.fields import MalformedError, spans, tag_of

_NAME: Final = tag_of(1)
_VERSION: Final = tag_of(2)
_ID: Final = tag_of(3)


class Asked(NamedTuple):
    """What a request says of itself, before it was looked at whether such a model may be asked for."""

    name: bytes
    version: bytes
    id: bytes


NOTHING: Final = Asked(b"", b"", b"")
"""Of a request that says nothing of itself, or could not be read."""


def read_asked(body: bytes) -> Asked:
    """Return what a request asks for.

    Raises:
        InvalidInputError: it is not a message.
    """
    name = version = own_id = b""
    try:
        for tag, start, end in spans(body):
            if tag == _NAME:
                name = body[start:end]
            elif tag == _VERSION:
                version = body[start:end]
            elif tag == _ID:
                own_id = body[start:end]
    except MalformedError as error:
        raise InvalidInputError(f"not a ModelInferRequest: {error}") from error
    return Asked(name, version, own_id)
