"""A loaded model that declares its tensors and is called as one function: what TensorFlow, Keras, LiteRT and PyTorch
have in common.

Made by their runtimes. Inputs are checked here against the declaration, so that a client reads which one is wrong before
the framework sees it, and are never cast. It imports no framework.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from hotset.errors import HotsetError, InvalidInputError, PredictFailedError
from hotset.payload import (
    SIGNATURE_NAME,
    Array,
    InferRequest,
    InferResponse,
    Signature,
    TensorSpec,
    datatype_of,
)
from hotset.runtimes.exhaustion import is_out_of_memory
from hotset.runtimes.reason import reason_of

Answer: TypeAlias = Callable[[dict[str, Array]], dict[str, Array]]
"""From all inputs by name, checked, to all outputs by name. Thread-safe."""


class GraphServable:
    """One model and the function that asks it. Thread-safe as far as the function is, which the runtimes see to.

    Legal order: any calls of ``infer``, then ``close`` once.
    """

    def __init__(
        self,
        signature: Signature,
        answer: Answer,
        *,
        model: object,
        unranked: Collection[str] = (),
        refusals: tuple[type[Exception], ...] = (),
        no_memory: tuple[type[Exception], ...] = (),
        reason: Callable[[Exception], str] = reason_of,
        others: Sequence[GraphServable] = (),
    ) -> None:
        """``model`` is kept until ``close``. ``others`` are the same model, asked through another of its signatures.

        ``unranked`` names the inputs of which not even the rank is known; their shape is declared as ``()``, and so is a
        scalar's. ``refusals`` are what the framework raises for values that it does not take, ``no_memory`` what it raises
        when there is none left, and ``reason`` makes one sentence of anything else.
        """
        self._others = {other.signature.name: other for other in others}
        self._signature = replace(signature, others=tuple(other.signature for other in others))
        self._answer: Answer | None = answer
        self._model: object = model
        self._unranked = frozenset(unranked)
        self._refusals = refusals
        self._no_memory: tuple[type[Exception], ...] = (MemoryError, *no_memory)
        self._reason = reason
        self._outputs = tuple(spec.name for spec in signature.outputs)

    @property
    def signature(self) -> Signature:
        return self._signature

    def infer(self, request: InferRequest) -> InferResponse:
        if self._others and SIGNATURE_NAME in request.parameters:
            named = self._named(request.parameters[SIGNATURE_NAME])
            if named is not self:
                return named.infer(request)
        inputs = fitting(self._signature.inputs, request.inputs, unranked=self._unranked)
        if self._outputs:  # else they are known once the model has answered
            _check_outputs(request.outputs, self._outputs)
        found = self._ask(inputs)
        if not request.outputs:
            return InferResponse(found)
        _check_outputs(request.outputs, tuple(found))
        return InferResponse({name: found[name] for name in request.outputs})

    def _named(self, name: object) -> GraphServable:
        if name == self._signature.name:
            return self
        found = self._others.get(name) if isinstance(name, str) else None
        if found is None:
            known = ", ".join((self._signature.name, *self._others))
            raise InvalidInputError(f"no signature {str(name)[:200]!r}; this model has: {known}")
        return found

    def close(self) -> None:
        self._answer = self._model = None
        for other in self._others.values():
            other.close()

    def _ask(self, inputs: dict[str, Array]) -> dict[str, Array]:
        if self._answer is None:
            raise PredictFailedError("the model was unloaded before this call")
        try:
            return self._answer(inputs)
        except HotsetError:
            raise
        except self._no_memory as error:
            raise MemoryError(reason_of(error)) from error
        except Exception as error:
            if is_out_of_memory(error):
                raise MemoryError(reason_of(error)) from error
            if isinstance(error, self._refusals):
                raise InvalidInputError(f"the model refused the inputs: {self._reason(error)}") from error
            raise PredictFailedError(self._reason(error)) from error


def fitting(
    declared: Sequence[TensorSpec], inputs: Mapping[str, Array], *, unranked: Collection[str] = ()
) -> dict[str, Array]:
    """Return the inputs in the order declared; text as arrays of ``bytes`` objects.

    Nothing is checked of the shapes of those that are ``unranked``.

    Raises:
        InvalidInputError: one is missing, unknown, or of a wrong type or shape; the message names it.
    """
    found = {spec.name: _checked(spec, inputs, spec.name in unranked) for spec in declared}
    if len(found) != len(inputs):
        unknown = [name for name in inputs if name not in found]
        raise InvalidInputError(
            f"unknown input: {', '.join(unknown)}; this model has: {', '.join(found) or 'none'}"
        )
    return found


def _checked(spec: TensorSpec, inputs: Mapping[str, Array], any_shape: bool) -> Array:
    array = inputs.get(spec.name)
    if array is None:
        raise InvalidInputError(f"input {spec.name!r} is missing; found: {', '.join(inputs) or 'no inputs'}")
    try:
        datatype = datatype_of(array)
    except TypeError as error:
        raise InvalidInputError(f"input {spec.name!r}: {error}") from error
    if spec.datatype is not None and datatype != spec.datatype:
        raise InvalidInputError(f"input {spec.name!r}: expected {spec.datatype}, found: {datatype}")
    if not any_shape and not _fits(array.shape, spec.shape):
        raise InvalidInputError(
            f"input {spec.name!r}: expected the shape {list(spec.shape)}, found: {list(array.shape)}"
        )
    return as_bytes(array) if datatype == "BYTES" else array


def _fits(shape: tuple[int, ...], declared: tuple[int, ...]) -> bool:
    if len(shape) != len(declared):
        return False
    return all(size in (-1, found) for size, found in zip(declared, shape, strict=True))


def _check_outputs(wanted: Sequence[str], known: Sequence[str]) -> None:
    for name in wanted:
        if name not in known:
            raise InvalidInputError(f"no output {name!r}; this model has: {', '.join(known)}")


def as_bytes(array: Array) -> Array:
    """Return text of any kind as an array of ``bytes`` objects."""
    flat = [item if isinstance(item, bytes) else str(item).encode() for item in array.ravel().tolist()]
    text: Array = np.empty(len(flat), dtype=object)
    text[:] = flat
    return text.reshape(array.shape)


def shape_of(sizes: Sequence[Any] | None) -> tuple[int, ...]:
    """Return declared sizes with -1 for every one that is not a number, and ``()`` where not even the rank is known."""
    return tuple(size if isinstance(size, int) and size >= 0 else -1 for size in sizes or ())
