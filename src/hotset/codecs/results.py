"""What the user's ``predict`` returned, as named arrays. Called by the codecs whose protocols carry only tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from hotset.errors import InvalidInputError, PredictFailedError
from hotset.payload import Array, InferRequest, InferResponse

ONLY_OUTPUT: Final = "output-0"


def as_response(result: Any, request: InferRequest) -> InferResponse:
    """Return the outputs that the request asks for, of a mapping by name, or of one array-like.

    Raises:
        PredictFailedError: it is not made of arrays.
        InvalidInputError: there is no output of a name that was asked for.
    """
    outputs = _arrays(result)
    if request.outputs:
        outputs = {name: _wanted(name, outputs) for name in request.outputs}
    return InferResponse(outputs)


def _arrays(result: Any) -> dict[str, Array]:
    if isinstance(result, InferResponse):
        return result.outputs
    if isinstance(result, Mapping):
        return {str(name): _array(str(name), value) for name, value in result.items()}
    return {ONLY_OUTPUT: _array(ONLY_OUTPUT, result)}


def _array(name: str, value: Any) -> Array:
    if isinstance(value, np.ndarray):
        return value  # a scalar too, where it is an array: its shape is []
    try:
        if isinstance(value, bytes | bytearray):
            return np.array([bytes(value)], dtype=object)
        return np.atleast_1d(np.asarray(value))
    except (ValueError, TypeError, OverflowError) as error:
        raise PredictFailedError(f"output {name!r} is not an array: {error}") from error


def _wanted(name: str, outputs: Mapping[str, Array]) -> Array:
    array = outputs.get(name)
    if array is None:
        raise InvalidInputError(f"no output {name!r}; this model has: {', '.join(outputs) or 'none'}")
    return array
