"""A declared signature in force: around a servable, what ``model.yaml`` says of its inputs and outputs.

Called by the workers after a load, only where a signature is declared; a model without one pays nothing. It completes
what the framework declares and never contradicts it: where both say something and it differs, the load fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from hotset.errors import InvalidInputError, PredictFailedError
from hotset.payload import Array, InferRequest, InferResponse, Signature, TensorSpec, datatype_of
from hotset.runtimes.base import CallMeta, PayloadServable, Servable, TensorServable
from hotset.runtimes.modelyaml import DeclaredTensor, ModelOptions, wrong


def declare(servable: Servable, options: ModelOptions) -> Servable:
    """Return ``servable`` with the declared signature in force, or as it is where none is declared.

    Raises:
        LoadFailedError: the declaration contradicts what the framework says; the servable is still open.
    """
    if options.inputs is None and options.outputs is None:
        return servable
    own = servable.signature
    inputs, input_names = _merged(options.inputs, own.inputs, "inputs")
    outputs, output_names = _merged(options.outputs, own.outputs, "outputs")
    signature = Signature(own.platform, inputs, outputs, decoupled=own.decoupled)
    if hasattr(servable, "infer"):
        tensors = cast("TensorServable", servable)
        return DeclaredTensors(tensors, signature, input_names=input_names, output_names=output_names)
    return DeclaredPayload(servable, signature)


def _merged(
    declared: Sequence[DeclaredTensor] | None, own: Sequence[TensorSpec], where: str
) -> tuple[tuple[TensorSpec, ...], dict[str, str]]:
    """Return what is declared, completed by what the framework says, and each name → the framework's own name.

    One tensor of one may be renamed. Where the framework tells no types it takes any names (columns, say).
    """
    if declared is None:
        return tuple(own), {spec.name: spec.name for spec in own}
    by_name = {spec.name: spec for spec in own}
    if len(declared) == len(own) == 1:
        by_name = {declared[0].name: own[0]}
    takes_any = all(spec.datatype is None for spec in own)
    specs, names = [], {}
    for index, tensor in enumerate(declared):
        spec = by_name.get(tensor.name)
        place = f"{where}[{index}]"
        if spec is None and not takes_any:
            raise wrong(f"{place}.name", repr(tensor.name), f"one that the model has: {', '.join(by_name)}")
        specs.append(_completed(tensor, spec, place))
        names[tensor.name] = spec.name if spec is not None else tensor.name
    lacking = [spec for name, spec in by_name.items() if name not in names]
    if where == "inputs" and lacking and not takes_any:
        specs += lacking
        names |= {spec.name: spec.name for spec in lacking}
    return tuple(specs), names


def _completed(tensor: DeclaredTensor, spec: TensorSpec | None, place: str) -> TensorSpec:
    if spec is None:
        return TensorSpec(tensor.name, tensor.datatype, tensor.shape if tensor.shape is not None else (-1,))
    datatype, shape = tensor.datatype or spec.datatype, tensor.shape
    if spec.datatype is not None and datatype != spec.datatype:
        raise wrong(f"{place}.datatype", datatype, f"{spec.datatype}, as the model has it")
    # A rank of 0 is also what is said where nothing is known.
    if shape is not None and spec.shape and not _agree(shape, spec.shape):
        raise wrong(f"{place}.shape", list(shape), f"one that fits the model's, which is {list(spec.shape)}")
    return TensorSpec(tensor.name, datatype, spec.shape if shape is None else shape)


def _agree(one: Sequence[int], other: Sequence[int]) -> bool:
    return len(one) == len(other) and all(
        -1 in (size, found) or size == found for size, found in zip(one, other, strict=True)
    )


def misfit(spec: TensorSpec, array: Array) -> str | None:
    """Return how an array is not as declared, or None."""
    try:
        datatype = datatype_of(array)
    except TypeError:
        datatype = str(array.dtype)
    if spec.datatype is not None and datatype != spec.datatype:
        return f"expected {spec.datatype}, found: {datatype}"
    shape = spec.shape
    if not shape:
        return None  # a scalar's, which the framework checks, or not known
    if len(shape) != array.ndim or any(
        -1 != size != got for size, got in zip(shape, array.shape, strict=True)
    ):
        return f"expected the shape {list(shape)}, found: {list(array.shape)}"
    return None


def _check_inputs(specs: Mapping[str, TensorSpec], inputs: Mapping[str, Array]) -> None:
    for name, spec in specs.items():
        array = inputs.get(name)
        if array is None:
            raise InvalidInputError(f"input {name!r} is missing; found: {', '.join(inputs) or 'no inputs'}")
        problem = misfit(spec, array)
        if problem:
            raise InvalidInputError(f"input {name!r}: {problem}")
    unknown = [name for name in inputs if name not in specs]
    if unknown:
        raise InvalidInputError(f"unknown input: {', '.join(unknown)}; this model has: {', '.join(specs)}")


class DeclaredTensors:
    """A ``TensorServable`` that takes and gives what is declared, in the names that are declared. Thread-safe as its own.

    Legal order: any calls of ``infer``, then ``close`` once.
    """

    def __init__(
        self,
        servable: TensorServable,
        signature: Signature,
        *,
        input_names: Mapping[str, str],
        output_names: Mapping[str, str],
    ) -> None:
        self._servable = servable
        self._signature = signature
        self._inputs = {spec.name: spec for spec in signature.inputs}
        self._outputs = {spec.name: spec for spec in signature.outputs}
        self._input_names = input_names
        self._output_names = output_names
        self._default = tuple(output_names.values())
        self._declared_names = {own: name for name, own in output_names.items()}
        self.rows_are_independent = bool(getattr(servable, "rows_are_independent", False))

    @property
    def signature(self) -> Signature:
        return self._signature

    def infer(self, request: InferRequest) -> InferResponse:
        _check_inputs(self._inputs, request.inputs)
        inputs = {self._input_names[name]: array for name, array in request.inputs.items()}
        wanted = tuple(map(self._own_output, request.outputs)) or self._default
        response = self._servable.infer(InferRequest(inputs, wanted, request.id, request.parameters))
        return InferResponse(dict(map(self._as_declared, response.outputs.items())))

    def close(self) -> None:
        self._servable.close()

    def _own_output(self, name: str) -> str:
        own = self._output_names.get(name)
        if own is None:
            raise InvalidInputError(f"no output {name!r}; this model has: {', '.join(self._output_names)}")
        return own

    def _as_declared(self, output: tuple[str, Array]) -> tuple[str, Array]:
        own, array = output
        name = self._declared_names.get(own, own)
        spec = self._outputs.get(name)
        problem = misfit(spec, np.asarray(array)) if spec is not None else None
        if problem:
            raise PredictFailedError(f"output {name!r} is not as model.yaml declares it: {problem}")
        return name, array


class DeclaredPayload:
    """A ``PayloadServable`` that shows what is declared, and takes tensors only as declared; any other payload as it is.

    Thread-safe as its own. Legal order: any calls of ``predict`` and ``predict_batch``, then ``close`` once.
    """

    def __init__(self, servable: PayloadServable, signature: Signature) -> None:
        self._servable = servable
        self._signature = signature
        self._inputs = {spec.name: spec for spec in signature.inputs}
        self.brings_code = bool(getattr(servable, "brings_code", False))

    @property
    def signature(self) -> Signature:
        return self._signature

    @property
    def wants(self) -> frozenset[str]:
        return self._servable.wants

    @property
    def batches(self) -> bool:
        return bool(getattr(self._servable, "batches", False))

    def predict(self, payload: Any, meta: CallMeta) -> Any:
        self._check(payload)
        return self._servable.predict(payload, meta)

    def predict_batch(self, payloads: list[Any]) -> list[Any]:
        """Legal only where ``batches``."""
        for payload in payloads:
            self._check(payload)
        return list(cast("Any", self._servable).predict_batch(payloads))

    def close(self) -> None:
        self._servable.close()

    def _check(self, payload: Any) -> None:
        is_tensors = isinstance(payload, dict) and all(isinstance(it, np.ndarray) for it in payload.values())
        if self._inputs and is_tensors:
            _check_inputs(self._inputs, payload)
