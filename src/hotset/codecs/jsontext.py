"""JSON at the border: bytes to values and back, with every failure turned into the error that its side deserves.

Called by the codecs. Reading fails as ``InvalidInputError`` whatever the bytes are; writing as
``PredictFailedError``, because what cannot be written came from a model.
"""

from __future__ import annotations

import json
from typing import Any, Final, TypeVar

import msgspec

from hotset.errors import InvalidInputError, PredictFailedError

T = TypeVar("T")

_TOO_DEEP: Final = "nested too deeply"


def read_json(decoder: msgspec.json.Decoder[T], data: Any, *, what: str = "the body", root: str = "") -> T:
    """Return what the decoder makes of ``data``. ``root`` stands for ``$`` in the place that a message names.

    Raises:
        InvalidInputError: it is not JSON, or not of the decoder's type.
    """
    try:
        return decoder.decode(data)
    except RecursionError as error:
        raise InvalidInputError(f"{what} is {_TOO_DEEP}") from error
    except msgspec.ValidationError as error:
        raise InvalidInputError(f"{what}: {_placed(error, root)}") from error
    except ValueError as error:
        # DecodeError and UnicodeDecodeError are both ValueErrors.
        raise InvalidInputError(f"{what} is not valid JSON: {error}") from error


def read_json_numbers(
    decoder: msgspec.json.Decoder[T], data: bytes | memoryview, *, what: str = "the body"
) -> T:
    """As ``read_json``, but ``NaN``, ``Infinity`` and ``-Infinity`` are numbers, which JSON does not have.

    Raises:
        InvalidInputError: it is not JSON otherwise, or not of the decoder's type.
    """
    try:
        return read_json(decoder, data, what=what)
    except InvalidInputError:
        text = bytes(data)
        if b"NaN" not in text and b"Infinity" not in text:
            raise
    try:
        value = json.loads(text.decode("utf-8"))
        msgspec.json.encode(value)  # refuses halves of characters, which the other reader refuses too
        return msgspec.convert(value, decoder.type)
    except RecursionError as error:
        raise InvalidInputError(f"{what} is {_TOO_DEEP}") from error
    except msgspec.ValidationError as error:
        raise InvalidInputError(f"{what}: {error}") from error
    except ValueError as error:
        raise InvalidInputError(f"{what} is not valid JSON: {error}") from error


def _placed(error: Exception, root: str) -> str:
    return str(error).replace("`$.", "`").replace("`$", f"`{root}")


def write_json(value: Any) -> bytes:
    """Return ``value`` as JSON; NaN and infinities become ``null``.

    NumPy, pandas and torch values are written as lists and numbers, pydantic models as objects.

    Raises:
        PredictFailedError: part of it is of a type that JSON cannot carry.
    """
    try:
        return _ENCODER.encode(value)
    except RecursionError as error:
        raise PredictFailedError(f"the result is {_TOO_DEEP} for JSON") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise PredictFailedError(f"the result cannot be written as JSON: {error}") from error


def write_json_numbers(value: Any) -> bytes:
    """As ``write_json``, but NaN and infinities become ``NaN``, ``Infinity`` and ``-Infinity``, which JSON does not have.

    Raises:
        PredictFailedError: part of it is of a type that JSON cannot carry.
    """
    data = write_json(value)
    if b"null" not in data:
        return data  # nearly always: what takes longer is for those that hold such a number, or None
    return json.dumps(
        msgspec.to_builtins(value, enc_hook=_plain, str_keys=True), separators=(",", ":")
    ).encode()


def _plain(value: Any) -> Any:
    for name in ("tolist", "model_dump"):
        method = getattr(value, name, None)
        if callable(method):
            plain = method()
            if type(plain) is not type(value):
                return plain
    raise TypeError(f"a value of type {type(value).__name__}")


_ENCODER: Final = msgspec.json.Encoder(enc_hook=_plain)
