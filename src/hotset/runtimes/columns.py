"""The columns that a model of tables was trained on, and an input turned into them. Used by the runtimes of trees.

An input is one tensor of rows, whatever its name, or one tensor for each column where the columns have names. It is
checked here, so that a client reads which one is wrong; numbers are never cast, as each framework casts in its own way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from hotset.errors import InvalidInputError
from hotset.payload import Array, TensorSpec, datatype_of

INPUT_NAME: Final = "input-0"
_NUMBERS: Final = frozenset("fiub")


class Columns:
    """How many columns, and their names where there are any. Immutable, so thread-safe."""

    __slots__ = ("_names", "_set", "count")

    def __init__(self, count: int, names: Sequence[str] = ()) -> None:
        self.count: Final = count
        self._names: Final = tuple(names)
        self._set: Final = frozenset(names)

    @property
    def names(self) -> tuple[str, ...]:
        """The names in order, or none."""
        return self._names

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """What the signature says: one tensor of rows, of any type of number."""
        return (TensorSpec(INPUT_NAME, None, (-1, self.count)),)

    def rows(self, inputs: Mapping[str, Array]) -> Array:
        """Return the input as one array of rows, of numbers.

        Raises:
            InvalidInputError: it is none; the message names the input.
        """
        if len(inputs) == 1:
            name, array = next(iter(inputs.items()))
            if array.ndim == 2 or name not in self._set:
                _check_numbers(name, array)
                return self.checked(name, array)
        columns = self.by_name(inputs)
        for name, column in columns.items():
            _check_numbers(name, column)
        return np.column_stack(list(columns.values()))

    def checked(self, name: str, array: Array) -> Array:
        """Return an array that has rows, and as many columns as the model.

        Raises:
            InvalidInputError: it has not.
        """
        if array.ndim != 2:
            raise InvalidInputError(
                f"input {name!r}: expected the shape [-1, {self.count}], found: {list(array.shape)}"
            )
        if array.shape[1] != self.count:
            raise InvalidInputError(
                f"input {name!r}: expected {self.count} features, found: {array.shape[1]}"
            )
        if not array.shape[0]:
            raise InvalidInputError(f"input {name!r}: expected at least one row, found none")
        return array

    def by_name(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the columns in the model's order, each of one dimension.

        Raises:
            InvalidInputError: some are missing, unknown, empty, of different lengths, or no columns.
        """
        if not self._names or inputs.keys() != self._set:
            raise InvalidInputError(wrong_names(inputs, self._names))
        columns = {name: _column(name, inputs[name]) for name in self._names}
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise InvalidInputError(f"the columns differ in length: {lengths}")
        if not next(iter(lengths.values())):
            raise InvalidInputError(f"input {self._names[0]!r}: expected at least one row, found none")
        return columns


def wrong_names(inputs: Mapping[str, Array], columns: Sequence[str]) -> str:
    """Return what is wrong with inputs that are neither one tensor nor one for each of the ``columns``, if it has any."""
    if not columns:
        return f"expected one input tensor, found {len(inputs)}: {', '.join(inputs) or 'none'}"
    missing = [name for name in columns if name not in inputs]
    unknown = [name for name in inputs if name not in columns]
    return (
        "expected one input tensor, or one for each column; "
        f"missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}"
    )


def _check_numbers(name: str, array: Array) -> None:
    if array.dtype.kind not in _NUMBERS:
        try:
            found = datatype_of(array)
        except TypeError:
            found = str(array.dtype)
        raise InvalidInputError(f"input {name!r}: expected numbers, found: {found}")


def _column(name: str, array: Array) -> Array:
    if array.ndim == 1:
        return array
    if array.ndim == 2 and array.shape[1] == 1:
        return array.reshape(-1)
    raise InvalidInputError(
        f"input {name!r}: expected a column of shape [-1] or [-1, 1], found: {list(array.shape)}"
    )
