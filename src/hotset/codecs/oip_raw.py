"""A raw binary request of the Open Inference Protocol: the body is the data of a model's only input, and nothing else.

Pure; called by ``oip_request``. Name and type come from what the model declares, and the shape, where one of its sizes
may vary, from how many bytes there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from hotset.codecs.rawtensors import BYTES, item_size, read_tensor
from hotset.errors import InvalidInputError
from hotset.payload import ANY_NUMBER, Array, Signature


def read_raw(body: bytes | memoryview, signature: Signature | None) -> dict[str, Array]:
    """Return the only input by its name. ``signature`` is None for the user's own code, which declares nothing.

    Raises:
        InvalidInputError: the model has not one input, or the body does not fit it.
    """
    inputs = signature.inputs if signature is not None else ()
    if len(inputs) != 1:
        raise InvalidInputError(
            "a raw request (Inference-Header-Content-Length: 0) needs a model that declares one input; "
            f"this one declares: {', '.join(spec.name for spec in inputs) or 'none'}"
        )
    spec = inputs[0]
    where, datatype = f"input {spec.name!r}", spec.datatype or ANY_NUMBER
    if datatype == BYTES:
        return {spec.name: _one_element(body, spec.shape, where)}
    shape = raw_shape(spec.shape, len(body), item_size(datatype, where), where)
    return {spec.name: read_tensor(body, datatype, shape, where)}


def raw_shape(declared: Sequence[int], size_bytes: int, item_bytes: int, where: str) -> tuple[int, ...]:
    """Return the shape that so many bytes have; a first size that varies beside another is one, as of one example.

    Raises:
        InvalidInputError: too many sizes vary, or no size fits the bytes.
    """
    shape = list(declared)
    free = [index for index, size in enumerate(shape) if size < 0]
    if len(free) > 1 and free[0] == 0:
        shape[0] = 1
        free = free[1:]
    if len(free) > 1:
        raise InvalidInputError(
            f"{where}: a raw request cannot tell the sizes of {list(declared)}; send its shape, in JSON"
        )
    if free:
        step = item_bytes * prod(size for size in shape if size >= 0)
        if not step or size_bytes % step:
            raise InvalidInputError(
                f"{where}: {list(declared)} takes a multiple of {step} bytes, found: {size_bytes}"
            )
        shape[free[0]] = size_bytes // step
    return tuple(shape)


def _one_element(body: bytes | memoryview, declared: Sequence[int], where: str) -> Array:
    """The whole body is one element, without a length in front of it."""
    shape = [1 if size < 0 else size for size in declared]
    if prod(shape) != 1:
        raise InvalidInputError(
            f"{where}: a raw request has one element of BYTES, expected: {list(declared)}"
        )
    array = np.empty(1, dtype=object)
    array[0] = bytes(body)
    return array.reshape(shape)
