"""TensorFlow Serving's two JSON forms of tensors: rows (``instances``, ``predictions``) and columns (``inputs``,
``outputs``).

Pure; called by the codecs that speak them. In rows, every value belongs to one example: bare where the model has
one input, an object by name where it has several. In columns, each tensor is whole.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

from hotset.codecs.arrays import is_base64, to_array, to_lists
from hotset.errors import InvalidInputError, PredictFailedError
from hotset.payload import Array, Signature

ONLY_INPUT: Final = "input-0"


def read_rows(instances: list[Any], signature: Signature, *, where: str = "instances") -> dict[str, Array]:
    """Return the input arrays in ``instances``, which messages call ``where``.

    Raises:
        InvalidInputError: the message names the place.
    """
    first = instances[0] if instances else None
    if type(first) is not dict or is_base64(first):
        name, datatype = _only_input(signature, where)
        return {name: to_array(instances, datatype, where)}
    names = first.keys()
    for index, row in enumerate(instances):
        if type(row) is not dict or row.keys() != names:
            found = ", ".join(row) if type(row) is dict else type(row).__name__
            raise InvalidInputError(
                f"{where}[{index}]: expected the keys of {where}[0] ({', '.join(names)}), found: {found}"
            )
    datatypes = _datatypes(signature)
    return {
        name: to_array([row[name] for row in instances], datatypes.get(name), f"{where}[*].{name}")
        for name in names
    }


def read_columns(inputs: Any, signature: Signature) -> dict[str, Array]:
    """Return the input arrays in ``inputs``.

    Raises:
        InvalidInputError: the message names the place.
    """
    if type(inputs) is dict and not is_base64(inputs):
        datatypes = _datatypes(signature)
        return {
            name: to_array(value, datatypes.get(name), f"inputs.{name}") for name, value in inputs.items()
        }
    name, datatype = _only_input(signature, "inputs")
    return {name: to_array(inputs, datatype, "inputs")}


def _only_input(signature: Signature, where: str) -> tuple[str, str | None]:
    if not signature.inputs:
        return ONLY_INPUT, None
    if len(signature.inputs) > 1:
        names = ", ".join(spec.name for spec in signature.inputs)
        raise InvalidInputError(f"{where}: the model has several inputs, so name them in objects: {names}")
    spec = signature.inputs[0]
    return spec.name, spec.datatype


def _datatypes(signature: Signature) -> dict[str, str | None]:
    return {spec.name: spec.datatype for spec in signature.inputs}


def write_rows(outputs: Mapping[str, Array]) -> list[Any]:
    """Return one value for each example, or one object by name where there are several outputs.

    Raises:
        PredictFailedError: the outputs do not have one row for each example.
    """
    if len(outputs) == 1:
        name, array = next(iter(outputs.items()))
        if array.ndim:
            rows: list[Any] = _written(name, array)
            return rows
    sizes = {name: array.shape[0] if array.ndim else None for name, array in outputs.items()}
    if None in sizes.values() or len(set(sizes.values())) > 1:
        raise PredictFailedError(
            f"the outputs do not have the same number of rows: {sizes}; ask with 'inputs' in place of 'instances'"
        )
    lists = {name: _written(name, array) for name, array in outputs.items()}
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def write_columns(outputs: Mapping[str, Array]) -> Any:
    """Return each output whole, without its name where there is only one."""
    lists = {name: _written(name, array) for name, array in outputs.items()}
    return next(iter(lists.values())) if len(lists) == 1 else lists


def _written(name: str, array: Array) -> Any:
    """Outputs named ``…_bytes`` go out as base64, all other text as it is."""
    if name.endswith("_bytes") and array.dtype.kind in "SO":
        return _base64_of(array.tolist())
    return to_lists(array, name)


def _base64_of(value: Any) -> Any:
    if isinstance(value, list):
        return [_base64_of(item) for item in value]
    raw = value if isinstance(value, bytes) else str(value).encode()
    return {"b64": base64.b64encode(raw).decode("ascii")}
