"""Natural batching: the calls that wait for one model are predicted at once. Pure; the host acts on it.

Nothing ever waits for a batch to fill. Requests are joined along their first dimension if they are alike in all else;
the outputs are parted the same way. Whether a model treats its rows one by one is not written in its files, so the
first batch of each model is compared with single predictions, and a model that answers otherwise is never batched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hotset.payload import Array, InferRequest, InferResponse, Signature
from hotset.runtimes.base import Servable
from hotset.runtimes.modelyaml import ModelOptions, wrong

_RELATIVE = 1e-4
_ABSOLUTE = 1e-6


def can_batch(signature: Signature) -> bool:
    """Whether every input and output has a first dimension of any size."""
    specs = (*signature.inputs, *signature.outputs)
    both = bool(signature.inputs) and bool(signature.outputs)
    return both and all(spec.shape and spec.shape[0] == -1 for spec in specs)


def check_batching(servable: Servable, options: ModelOptions) -> None:
    """Refuse ``batching: true`` for what cannot be batched.

    Raises:
        LoadFailedError: it cannot; the message says why.
    """
    if not options.batching:
        return
    if not hasattr(servable, "infer"):
        if not getattr(servable, "batches", False):
            raise wrong("batching", "true", "a Predictor with predict_batch")
        return
    signature = servable.signature
    if not can_batch(signature):
        shapes = ", ".join(
            f"{spec.name}: {list(spec.shape)}" for spec in (*signature.inputs, *signature.outputs)
        )
        expected = "inputs and outputs whose first dimension is of any size (-1); this model has"
        raise wrong("batching", "true", f"{expected} {shapes or 'none'}")


def batches(servable: Servable, options: ModelOptions) -> bool:
    """Whether calls of this model may be predicted together: as its owner says, else as its runtime does."""
    if options.batching is not None:
        return options.batching
    if hasattr(servable, "infer"):
        return can_batch(servable.signature) and bool(getattr(servable, "rows_are_independent", False))
    return bool(getattr(servable, "batches", False))


def alike(requests: Sequence[InferRequest], *, most_rows: int) -> list[list[int]]:
    """Return groups of indexes, each of requests that can be joined, of at most ``most_rows`` rows together.

    A request that cannot be joined with any (no input, a scalar, inputs of different lengths) is a group of its own.
    """
    if requests and _all_simple(requests, most_rows=most_rows):
        return [list(range(len(requests)))]
    open_groups: dict[Any, tuple[list[int], int]] = {}
    groups: list[list[int]] = []
    for index, request in enumerate(requests):
        rows = rows_of(request)
        if rows is None:
            groups.append([index])
            continue
        key = _likeness(request)
        group, taken = open_groups.get(key, ([], 0))
        if group and taken + rows > most_rows:
            group, taken = [], 0
        if not group:
            groups.append(group)
        group.append(index)
        open_groups[key] = (group, taken + rows)
    return groups


def _all_simple(requests: Sequence[InferRequest], *, most_rows: int) -> bool:
    """Whether all have one input of the same kind and ask for the same: nearly every batch, told in a moment."""
    first = requests[0]
    if len(first.inputs) != 1:
        return False
    name, array = next(iter(first.inputs.items()))
    if not array.ndim:
        return False
    dtype, shape, outputs, parameters = array.dtype, array.shape[1:], first.outputs, first.parameters
    rows = 0
    for request in requests:
        other = request.inputs.get(name)
        if (
            other is None
            or len(request.inputs) != 1
            or other.dtype != dtype
            or not other.ndim
            or other.shape[1:] != shape
            or request.outputs != outputs
            or request.parameters != parameters
        ):
            return False
        rows += other.shape[0]
    return rows <= most_rows


def rows_of(request: InferRequest) -> int | None:
    """Return the first dimension that all inputs share, or None."""
    sizes = {array.shape[0] if array.ndim else -1 for array in request.inputs.values()}
    return sizes.pop() if len(sizes) == 1 and -1 not in sizes else None


def _likeness(request: InferRequest) -> Any:
    tensors = tuple((name, array.dtype, array.shape[1:]) for name, array in request.inputs.items())
    return tensors, request.outputs, repr(request.parameters) if request.parameters else ""


def joined(requests: Sequence[InferRequest]) -> InferRequest:
    """Return one request with the rows of all, which are ``alike``, in order."""
    first = requests[0]
    inputs = {name: np.concatenate([request.inputs[name] for request in requests]) for name in first.inputs}
    return InferRequest(inputs, first.outputs, parameters=first.parameters)


def parted(response: InferResponse, rows: Sequence[int]) -> list[InferResponse] | None:
    """Return a response for each request, or None if an output has not the rows of the inputs."""
    total = sum(rows)
    if any(not array.ndim or array.shape[0] != total for array in response.outputs.values()):
        return None
    ends = np.cumsum(rows).tolist()
    return [
        InferResponse({name: array[end - size : end] for name, array in response.outputs.items()})
        for size, end in zip(rows, ends, strict=True)
    ]


def same(one: InferResponse, other: InferResponse) -> bool:
    """Whether two responses say the same, up to the rounding of another order of sums."""
    return one.outputs.keys() == other.outputs.keys() and all(
        _same_array(array, other.outputs[name]) for name, array in one.outputs.items()
    )


def _same_array(one: Array, other: Array) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.dtype.kind in "fc":
        return bool(np.allclose(one, other, rtol=_RELATIVE, atol=_ABSOLUTE, equal_nan=True))
    return bool(np.array_equal(one, other))
