"""A signature of MLflow's, in the words of the Open Inference Protocol: tensors in, what its model takes; and back.

Called by the MLflow runtime. Columns become a data frame in the schema's order, tensors stay arrays. What a value is
worth in the type that the schema wants, MLflow decides; here it is seen to that the right ones are there, of the right
kind, and what is wrong is named.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from hotset.body_limits import check_depth
from hotset.errors import InvalidInputError
from hotset.payload import DTYPES, Array, TensorSpec, datatype_of
from hotset.runtimes.columns import INPUT_NAME
from hotset.runtimes.graphs import fitting

OUTPUT_NAME: Final = "output-1"
"""As MLServer calls the one output of an MLflow model that has no name."""

_DATATYPES: Final[Mapping[str, str]] = {
    "boolean": "BOOL",
    "integer": "INT32",
    "long": "INT64",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
    "binary": "BYTES",
    "datetime": "BYTES",
}
"""MLflow's types of columns → ours. Dates are text as ISO 8601 has it; nested values, which are not here, are JSON."""

_ANY_ROWS: Final = TensorSpec(INPUT_NAME, None, (-1, -1))


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of a schema; ``kind`` is MLflow's type, or empty for nested values."""

    name: str | int
    kind: str
    required: bool

    @property
    def spec(self) -> TensorSpec:
        return TensorSpec(str(self.name), _DATATYPES.get(self.kind, "BYTES"), (-1,))


class Inputs:
    """What a model takes. Immutable, so thread-safe. Imports pandas, which MLflow has imported."""

    def __init__(self, schema: Any | None) -> None:
        """``schema`` is MLflow's ``Schema`` of the inputs, or None where the model was saved without a signature."""
        self._columns: tuple[_Column, ...] = ()
        self._tensors: tuple[TensorSpec, ...] = ()
        self._kinds: dict[str, Any] = {}
        self._has_names = schema is not None and schema.has_input_names()
        if schema is not None and schema.is_tensor_spec():
            self._tensors = tuple(_tensor(item, INPUT_NAME) for item in schema.inputs)
            self._kinds = {
                spec.name: np.dtype(item.type)
                for spec, item in zip(self._tensors, schema.inputs, strict=True)
            }
        elif schema is not None:
            self._columns = tuple(_column(index, item) for index, item in enumerate(schema.inputs))
        unnamed = self._columns and not self._has_names
        self.specs: Final = (
            (TensorSpec(INPUT_NAME, None, (-1, len(self._columns))),)
            if unnamed
            else self._tensors or tuple(column.spec for column in self._columns) or (_ANY_ROWS,)
        )

    def data(self, inputs: Mapping[str, Array]) -> Any:
        """Return what the model's ``predict`` is given.

        Raises:
            InvalidInputError: an input is missing, unknown, of a wrong kind or shape; the message names it.
        """
        if self._tensors and self._has_names:
            given = fitting(self._tensors, inputs)
            return {name: _of_kind(array, self._kinds[name]) for name, array in given.items()}
        if self._tensors:
            # It has no name in the model, so the client may call it anything.
            alone = len(inputs) == 1
            given = fitting(
                self._tensors, dict.fromkeys([INPUT_NAME], next(iter(inputs.values()))) if alone else inputs
            )
            return _of_kind(given[INPUT_NAME], self._kinds[INPUT_NAME])
        if self._columns:
            return self._frame(inputs)
        if not inputs:
            raise InvalidInputError("expected one input tensor, or one for each column, found none")
        if len(inputs) == 1:
            return _plain(next(iter(inputs.values())))
        return _as_frame({name: _flat(name, array) for name, array in inputs.items()})

    def _frame(self, inputs: Mapping[str, Array]) -> Any:
        whole = self._whole(inputs)
        if whole is not None:
            return whole
        names = {str(column.name) for column in self._columns}
        missing = [str(it.name) for it in self._columns if it.required and str(it.name) not in inputs]
        unknown = [name for name in inputs if name not in names]
        if missing or unknown:
            raise InvalidInputError(
                f"expected one input tensor for each column; missing: {', '.join(missing) or 'none'}; "
                f"unknown: {', '.join(unknown) or 'none'}"
            )
        given = [column for column in self._columns if str(column.name) in inputs]
        return _as_frame({it.name: _values(it, inputs[str(it.name)]) for it in given})

    def _whole(self, inputs: Mapping[str, Array]) -> Any:
        """Return the frame where all columns come as one tensor of rows, else None."""
        if len(inputs) != 1:
            return None
        name, array = next(iter(inputs.items()))
        if self._has_names and (array.ndim != 2 or any(name == it.name for it in self._columns)):
            return None
        if array.ndim != 2 or array.shape[1] != len(self._columns):
            raise InvalidInputError(
                f"input {name!r}: expected the shape [-1, {len(self._columns)}], found: {list(array.shape)}"
            )
        columns = np.ascontiguousarray(array.T)
        return _as_frame(
            {it.name: _values(it, _exactly(it, columns[index])) for index, it in enumerate(self._columns)}
        )


class Outputs:
    """What a model gives, as named tensors. Immutable, so thread-safe."""

    def __init__(self, schema: Any | None) -> None:
        """``schema`` is MLflow's ``Schema`` of the outputs, or None where the signature does not tell."""
        specs: list[TensorSpec] = []
        for index, item in enumerate(schema.inputs if schema is not None else ()):
            name = OUTPUT_NAME if item.name is None else str(item.name)
            name = name if index == 0 or item.name is not None else f"output-{index + 1}"
            specs.append(
                _tensor(item, name)
                if schema is not None and schema.is_tensor_spec()
                else _any_type(item, name)
            )
        self.specs: Final = tuple(specs)

    def tensors(self, result: Any) -> dict[str, Array]:
        """Return the tensors of what the model's ``predict`` returned."""
        if isinstance(result, Mapping):
            return {str(name): _array(value) for name, value in result.items()}
        if hasattr(result, "columns") and hasattr(result, "to_dict"):
            return {str(name): _array(result[name]) for name in result.columns}
        array = _array(result)
        if len(self.specs) > 1 and array.ndim == 2 and array.shape[1] == len(self.specs):
            return {spec.name: array[:, index] for index, spec in enumerate(self.specs)}
        return {self.specs[0].name if len(self.specs) == 1 else OUTPUT_NAME: array}


def _tensor(item: Any, name: str) -> TensorSpec:
    kind = np.dtype(item.type)
    datatype = "BYTES" if kind.kind in "SUO" else datatype_of(np.empty(0, kind))
    return TensorSpec(name if item.name is None else str(item.name), datatype, tuple(item.shape))


def _column(index: int, item: Any) -> _Column:
    kind = getattr(item.type, "name", "")
    return _Column(
        index if item.name is None else str(item.name),
        kind if kind in _DATATYPES else "",
        bool(item.required),
    )


def _any_type(item: Any, name: str) -> TensorSpec:
    """Columns that a model gives may have more dimensions than one, and no one checks their types."""
    kind = getattr(item.type, "name", "")
    return TensorSpec(name, _DATATYPES.get(kind, "BYTES"), (-1,))


def _values(column: _Column, array: Array) -> Any:
    """Return the values of a column as its type wants them."""
    name = str(column.name)
    if not column.kind:
        return _nested(name, array)
    flat = _flat(name, array)
    datatype = _DATATYPES[column.kind]
    is_text = flat.dtype.kind in "SUO"
    if is_text != (datatype == "BYTES"):
        raise InvalidInputError(f"input {name!r}: expected {datatype}, found: {datatype_of(flat)}")
    if column.kind == "binary":
        return [item.encode() if isinstance(item, str) else item for item in flat.tolist()]
    if column.kind == "datetime":
        try:
            return importlib.import_module("pandas").to_datetime(_plain(flat))
        except ValueError as error:
            raise InvalidInputError(
                f"input {name!r}: expected dates as ISO 8601 has them: {error}"
            ) from error
    return _plain(flat)


def _exactly(column: _Column, values: Array) -> Array:
    """Return a column of a tensor that has one type for all, in the column's own where no value changes."""
    kind = DTYPES[_DATATYPES.get(column.kind, "BYTES")]
    if kind.kind not in "biuf" or values.dtype.kind not in "biuf" or not np.isfinite(values).all():
        return values
    with np.errstate(all="ignore"):
        own = values.astype(kind)
    return own if np.array_equal(own, values) else values


def _nested(name: str, array: Array) -> list[Any]:
    """Return lists, objects and the like: each row of a tensor of more dimensions, or the JSON of each element."""
    if array.ndim > 1 and array.dtype.kind not in "SUO":
        rows: list[Any] = array.tolist()
        return rows
    try:
        return [
            _read(item, name) if isinstance(item, bytes | str) else item
            for item in _flat(name, array).tolist()
        ]
    except ValueError as error:
        raise InvalidInputError(f"input {name!r}: expected JSON in each element: {error}") from error


def _read(item: bytes | str, name: str) -> Any:
    check_depth(item if isinstance(item, bytes) else item.encode("utf-8", "surrogatepass"), f"input {name!r}")
    return json.loads(item)


def _flat(name: str, array: Array) -> Array:
    if array.ndim == 1:
        return array
    if array.ndim == 2 and array.shape[1] == 1:
        return array.reshape(-1)
    raise InvalidInputError(
        f"input {name!r}: expected a column of shape [-1] or [-1, 1], found: {list(array.shape)}"
    )


def _plain(array: Array) -> Array:
    """Return text as ``str``, and all else as it is."""
    if array.dtype.kind not in "SUO":
        return array
    text = np.empty(array.size, dtype=object)
    text[:] = [item.decode("utf-8", "replace") if isinstance(item, bytes) else item for item in array.flat]
    return text.reshape(array.shape)


def _of_kind(array: Array, kind: np.dtype[Any]) -> Array:
    """Return text as the kind of text that a schema of tensors has, and all else as it is."""
    plain = array if kind.kind == "S" else _plain(array)
    return plain.astype(kind.kind) if kind.kind in "SU" else plain


def _as_frame(columns: Mapping[Any, Any]) -> Any:
    lengths = {str(name): len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise InvalidInputError(f"the columns differ in length: {lengths}")
    return importlib.import_module("pandas").DataFrame(dict(columns))


def _array(value: Any) -> Array:
    """Return a result, or one column of it, as an array with at least one dimension."""
    if hasattr(value, "toarray"):
        value = value.toarray()
    try:
        array = np.asarray(value)
    except ValueError:  # rows of different lengths
        array = np.empty(len(value), dtype=object)
        array[:] = list(value)
    if array.dtype.kind in "Mm":
        array = array.astype(str).astype(object)
    if array.dtype.kind == "O":
        array = _of_objects(array)
    return array if array.ndim else array.reshape(1)


def _of_objects(array: Array) -> Array:
    """Return an array of numbers if all are, else one of text: the JSON of what is neither text nor bytes."""
    items = array.ravel().tolist()
    if items and all(isinstance(item, bool | int | float) for item in items):
        return np.array(items).reshape(array.shape)
    texts = np.empty(len(items), dtype=object)
    texts[:] = [
        item if isinstance(item, str | bytes) else json.dumps(item, default=_for_json) for item in items
    ]
    return texts.reshape(array.shape)


def _for_json(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)
