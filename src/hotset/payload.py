"""What crosses between a door and a runtime: named tensors, whatever the protocol and whatever the framework.

Codecs build an ``InferRequest`` from bytes, runtimes turn it into an ``InferResponse``, codecs write that out.
The names of types are those of the Open Inference Protocol v2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

DTYPES: Final[Mapping[str, np.dtype[Any]]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}
"""Open Inference type name → NumPy type. BYTES elements are ``bytes`` or ``str`` objects."""

ANY_NUMBER: Final = "FP64"
"""Stands for a type that is None, any number, wherever one has to be named."""

_NAMES: Final = {dtype: name for name, dtype in DTYPES.items()}


def datatype_of(array: Array) -> str:
    """Return the Open Inference type name of an array; strings and objects are BYTES.

    Raises:
        TypeError: the array's type has no such name (complex numbers, dates, records).
    """
    if array.dtype.kind in "SUO":
        return "BYTES"
    name = _NAMES.get(array.dtype.newbyteorder("="))
    if name is None:
        raise TypeError(f"no Open Inference type for the NumPy type: {array.dtype}")
    return name


CODINGS: Final = frozenset({"gzip", "deflate"})
"""How a body may be compressed, in HTTP's words."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A declared input or output: name, Open Inference type (or None: any), shape with -1 for any size."""

    name: str
    datatype: str | None
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model declares: its platform (``sklearn``, ``onnxruntime``, ``python`` …), inputs and outputs.

    Models of some platforms can be asked in several ways, each with a ``name``; ``others`` are those beside the default
    one, and a request asks for one of them with the parameter ``signature_name``. One that is ``decoupled`` answers in
    parts, or may.
    """

    platform: str
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    name: str = ""
    others: tuple[Signature, ...] = ()
    decoupled: bool = False


SIGNATURE_NAME: Final = "signature_name"
"""The parameter of a request that chooses among a model's signatures."""


@dataclass(slots=True)
class InferRequest:
    """Named input arrays in the order given; ``outputs`` names those wanted, empty for the default ones."""

    inputs: dict[str, Array]
    outputs: tuple[str, ...] = ()
    id: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class InferResponse:
    """Named output arrays, in order."""

    outputs: dict[str, Array]


@dataclass(frozen=True, slots=True)
class Encoded:
    """An answer as bytes, ready for any door that carries bytes.

    ``body`` is a view, of bytes, where it is large and lies in memory that somebody else owns: use it, and let it go.
    """

    body: bytes | memoryview
    content_type: str = "application/json"
    headers: Sequence[tuple[str, str]] = ()


class Rest(Protocol):
    """The parts of an answer behind its first one, as they come. Owned by the event loop, and by one who iterates.

    Iterate to the end, or ``close`` it: until then whoever makes it goes on, and its model stays in use.
    """

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> bytes:
        """Return the next part.

        Raises:
            HotsetError: it broke off.
        """
        ...

    def close(self) -> None:
        """Nobody wants any more of it. Safe to call at any time, also after the end."""
        ...


@dataclass(frozen=True, slots=True)
class Streamed(Encoded):
    """An answer of which ``body`` is the first part, and more comes."""

    rest: Rest = field(kw_only=True)
