"""Tables as ``text/csv``: a row for each example, as SageMaker's clients send them. Called by the native codec.

There is no header, unless the content type says ``header=present``: columns go by their order.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from hotset.body_limits import check_elements
from hotset.errors import InvalidInputError
from hotset.payload import DTYPES, Array, Signature, TensorSpec

CSV: Final = "text/csv"
CSV_ANSWER: Final = "text/csv; charset=utf-8"

_READERS: Final[Mapping[str, Callable[[str], Any]]] = {"i": int, "u": int, "f": float, "O": str}
_WORDS: Final = {"i": "a whole number", "u": "a whole number", "f": "a number"}


def read_csv(
    body: bytes | memoryview, content_type: str, signature: Signature, only: str
) -> dict[str, Array]:
    """Return the inputs of a table: all columns are the only input, or each is one of several.

    Raises:
        InvalidInputError: it is no such table; the message names the row and the column.
    """
    rows = _rows(body, content_type)
    check_elements(len(rows) * len(rows[0]), "the body")
    specs = signature.inputs
    if len(specs) <= 1:
        spec = specs[0] if specs else TensorSpec(only, None, (-1, -1))
        columns = [_column(rows, index, spec) for index in range(len(rows[0]))]
        is_flat = len(spec.shape) == 1 and len(columns) == 1
        return {spec.name: columns[0] if is_flat else np.stack(columns, axis=1)}
    if len(rows[0]) != len(specs):
        names = ", ".join(spec.name for spec in specs)
        raise InvalidInputError(f"expected {len(specs)} columns ({names}), found: {len(rows[0])}")
    found = {spec.name: _column(rows, index, spec) for index, spec in enumerate(specs)}
    return {spec.name: _shaped(found[spec.name], spec) for spec in specs}


def _rows(body: bytes | memoryview, content_type: str) -> list[list[str]]:
    try:
        text = str(body, "utf-8-sig")
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInputError(f"the body is no CSV in UTF-8: {error}") from error
    if "header=present" in content_type.lower().replace(" ", ""):
        rows = rows[1:]
    if not rows:
        raise InvalidInputError("expected at least one row, found none")
    width = len(rows[0])
    for number, row in enumerate(rows, 1):
        if len(row) != width:
            raise InvalidInputError(f"row {number}: expected {width} columns as in row 1, found: {len(row)}")
    return rows


def _column(rows: list[list[str]], index: int, spec: TensorSpec) -> Array:
    dtype = DTYPES["FP64"] if spec.datatype is None else DTYPES.get(spec.datatype, DTYPES["FP32"])
    read = _READERS.get(dtype.kind)
    if read is None:
        raise InvalidInputError(f"input {spec.name!r} is {spec.datatype}, which a CSV cannot hold; send JSON")
    column = np.empty(len(rows), dtype)
    for number, row in enumerate(rows):
        try:
            column[number] = read(row[index])
        except (ValueError, OverflowError) as error:
            raise InvalidInputError(
                f"row {number + 1}, column {index + 1}: expected {_WORDS[dtype.kind]}"
                f"{f' ({spec.datatype})' if spec.datatype else ''}, found: {row[index][:40]!r}"
            ) from error
    return column


def _shaped(column: Array, spec: TensorSpec) -> Array:
    return column if len(spec.shape) == 1 else column[:, np.newaxis]


def write_csv(outputs: Mapping[str, Array]) -> bytes:
    """Return the outputs side by side, a row for each example.

    Raises:
        InvalidInputError: one of them is no column and no table.
    """
    tables = [_table(name, array) for name, array in outputs.items()]
    lengths = {len(table) for table in tables}
    if len(lengths) > 1:
        raise InvalidInputError(
            "the outputs have different numbers of rows, which a CSV cannot hold; ask for JSON"
        )
    written = io.StringIO(newline="")
    writer = csv.writer(written, lineterminator="\n")
    for parts in zip(*(table.tolist() for table in tables), strict=True):
        writer.writerow([_text(value) for part in parts for value in part])
    return written.getvalue().encode()


def _table(name: str, array: Array) -> Array:
    if array.ndim == 1:
        return array[:, np.newaxis]
    if array.ndim == 2:
        return array
    shape = list(array.shape)
    raise InvalidInputError(f"output {name!r} has the shape {shape}, which a CSV cannot hold; ask for JSON")


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
