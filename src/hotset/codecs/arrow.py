"""Apache Arrow's IPC stream as a body: one table, a column for each input or feature. Both ways.

Called by the native codec and by ``content.py``. ``pyarrow`` is an extra, imported with the first such body.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any, Final

import numpy as np

from hotset.body_limits import check_elements, check_unpacked
from hotset.codecs.arrow_sizes import unpacked_bytes
from hotset.errors import InvalidInputError, PredictFailedError, UnsupportedError
from hotset.payload import Array, Signature, datatype_of

ARROW: Final = "application/vnd.apache.arrow.stream"


def read_table(body: bytes | memoryview, where: str) -> Any:
    """Return the ``pyarrow.Table`` in ``body``; its columns refer to the body's memory.

    Raises:
        InvalidInputError: it is not a whole Arrow IPC stream, or unpacks to too much.
        UnsupportedError: ``pyarrow`` is not installed.
    """
    pa = _pyarrow()
    try:
        data = pa.py_buffer(body)
        check_unpacked(_size(pa, data), where)
        with pa.ipc.open_stream(data) as stream:
            table = stream.read_all()
        check_elements(table.num_rows, where)  # of nothing but nulls there may be many in few bytes
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError, struct.error) as error:
        raise InvalidInputError(f"{where} is not an Arrow IPC stream: {error}") from error
    return table


def _size(pa: Any, data: Any) -> int:
    """Return what all batches of a stream unpack to; nothing of them is unpacked or copied for it."""
    total = 0
    with suppress(StopIteration):
        messages = pa.ipc.MessageReader.open_stream(data)
        while True:
            total += unpacked_bytes(messages.read_next_message())
    return total


def write_table(table: Any) -> bytes:
    """Return a ``pyarrow`` table or record batch as a stream."""
    pa = _pyarrow()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write(table)
    written: bytes = sink.getvalue().to_pybytes()
    return written


def is_table(value: Any) -> bool:
    """Whether ``value`` is a ``pyarrow`` table or record batch; imports nothing."""
    kind = type(value)
    return kind.__module__ == "pyarrow.lib" and kind.__name__ in {"Table", "RecordBatch"}


def read_inputs(body: bytes | memoryview, signature: Signature, only_input: str) -> dict[str, Array]:
    """Return the input arrays in a table.

    Where the columns are the inputs by name, each is one; else all columns together, in order, are the rows of the only
    input, which is called ``only_input`` if the model names none.

    Raises:
        InvalidInputError, UnsupportedError: as ``read_table``, or a column is of no type that a tensor can have.
    """
    table = read_table(body, "the body")
    names = [spec.name for spec in signature.inputs]
    columns = {
        name: _array(column, name) for name, column in zip(table.column_names, table.columns, strict=True)
    }
    if len(columns) != table.num_columns:
        raise InvalidInputError("the body: two columns have the same name")
    if (names and set(names) == set(columns)) or len(names) > 1:
        return columns  # whether they are the model's inputs is for the model to say
    flat = [array[:, None] if array.ndim == 1 else array for array in columns.values()]
    if not flat:
        raise InvalidInputError("the body: expected a column at least, found none")
    if any(array.ndim != 2 for array in flat):
        raise InvalidInputError(
            "the body: expected columns of values or of lists of values, found deeper ones"
        )
    check_elements(table.num_rows * sum(array.shape[1] for array in flat), "the body")
    return {names[0] if names else only_input: np.concatenate(flat, axis=1)}


def write_outputs(outputs: Mapping[str, Array]) -> bytes:
    """Return a table with a column for each output; one of several dimensions is a column of lists of a fixed size.

    Raises:
        PredictFailedError: the outputs do not have the same number of rows, or cannot be a column.
    """
    pa = _pyarrow()
    rows = {name: array.shape[0] if array.ndim else None for name, array in outputs.items()}
    if None in rows.values() or len(set(rows.values())) > 1:
        raise PredictFailedError(
            f"the outputs are no table, as they have not the same number of rows: {rows}"
        )
    columns = {}
    for name, array in outputs.items():
        try:
            datatype_of(array)
            columns[name] = _column(pa, array)
        except (TypeError, ValueError, pa.ArrowException) as error:
            raise PredictFailedError(f"output {name!r} cannot be written as Arrow: {error}") from error
    return write_table(pa.table(columns))


def _column(pa: Any, array: Array) -> Any:
    flat = np.ascontiguousarray(array).reshape(-1)
    values = pa.array(flat.astype(object).tolist() if flat.dtype.kind in "SUO" else flat)
    for size in reversed(array.shape[1:]):
        values = pa.FixedSizeListArray.from_arrays(values, size)
    return values


def _array(column: Any, name: str) -> Array:
    """Return a column as an array: lists of one length in each row are further dimensions."""
    pa = _pyarrow()
    values = column.combine_chunks()
    shape = [len(values)]
    while _is_list(pa, values.type):
        if values.null_count:
            raise InvalidInputError(f"column {name!r}: expected a list in each row, found null")
        sizes = set(pa.compute.list_value_length(values).to_pylist())
        if len(sizes) > 1:
            raise InvalidInputError(
                f"column {name!r}: expected lists of one length, found: {sorted(sizes)[:10]}"
            )
        shape.append(sizes.pop() if sizes else 0)
        values = values.flatten()
    check_elements(len(values), f"column {name!r}")
    if pa.types.is_dictionary(values.type):
        return _named(pa, values, name).reshape(shape)
    return _flat(pa, values, name).reshape(shape)


def _named(pa: Any, values: Any, name: str) -> Array:
    """Return values that are named in a dictionary. Each text is there once, however often it is named: Arrow would write it
    out each time, and a long one a thousand times is more than anybody has memory for."""
    if pa.types.is_primitive(values.type.value_type):
        return _flat(pa, values.dictionary_decode(), name)
    if values.null_count:
        raise _null(name)
    known = _flat(pa, values.dictionary, name)
    named: Array = known[values.indices.to_numpy(zero_copy_only=False)]
    return named


def _null(name: str) -> InvalidInputError:
    return InvalidInputError(f"column {name!r}: expected a value in each row, found null")


def _is_list(pa: Any, kind: Any) -> bool:
    types = pa.types
    return bool(types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind))


def _flat(pa: Any, values: Any, name: str) -> Array:
    types, kind = pa.types, values.type
    is_text = types.is_string(kind) or types.is_large_string(kind)
    if values.null_count and not types.is_floating(kind):
        raise _null(name)
    if is_text or types.is_binary(kind) or types.is_large_binary(kind):
        flat = np.empty(len(values), dtype=object)
        flat[:] = values.to_pylist()
        return flat
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind):
        whole: Array = values.to_numpy(zero_copy_only=False)
        return whole
    raise InvalidInputError(f"column {name!r}: expected numbers, booleans or text, found: {kind}")


def _pyarrow() -> Any:
    try:
        for part in ("compute", "ipc"):
            import_module(f"pyarrow.{part}")
        return import_module("pyarrow")
    except ImportError as error:
        raise UnsupportedError(
            "Arrow bodies need pyarrow, which is not installed here; install it with: pip install 'hotset[arrow]'"
        ) from error
