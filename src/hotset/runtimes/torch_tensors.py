"""PyTorch as its two runtimes use it: the import, the device, arrays to tensors, and names for what a model returns.

It knows no file format. The framework is imported by ``framework`` and not before.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from hotset.errors import LoadFailedError, PredictFailedError
from hotset.payload import Array
from hotset.runtimes.options import RuntimeOptions

DATATYPES: Final[Mapping[str, str]] = {
    "torch.bool": "BOOL",
    "torch.uint8": "UINT8",
    "torch.uint16": "UINT16",
    "torch.uint32": "UINT32",
    "torch.uint64": "UINT64",
    "torch.int8": "INT8",
    "torch.int16": "INT16",
    "torch.int32": "INT32",
    "torch.int64": "INT64",
    "torch.float16": "FP16",
    "torch.float32": "FP32",
    "torch.float64": "FP64",
    "torch.bfloat16": "FP32",
}
"""PyTorch's names of types → what hotset gives and takes for them: bfloat16, which NumPy does not have, as FP32."""


def framework() -> Any:
    """Import PyTorch and return it, with one thread for the work within an operation and one for that beside it.

    Raises:
        ImportError: it is not installed.
    """
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    with contextlib.suppress(
        RuntimeError
    ):  # only the first call in a process counts, and somebody's code had it
        torch.set_num_interop_threads(1)
    return torch


def device_of(torch: Any, options: RuntimeOptions) -> Any:
    """Return the device that the options name.

    Raises:
        LoadFailedError: it is not there.
    """
    if options.device.kind == "cuda":
        if not torch.cuda.is_available():
            raise options.no_device("PyTorch finds no CUDA device")
        count = torch.cuda.device_count()
        if (options.device.index or 0) >= count:
            raise options.no_device(f"PyTorch finds {count}, counted from 0")
    return torch.device(str(options.device))


def datatype(name: str, dtype: Any) -> str:
    """Return the Open Inference type of an input or output.

    Raises:
        LoadFailedError: there is none, as for complex and quantized numbers.
    """
    found = DATATYPES.get(str(dtype))
    if found is None:
        raise LoadFailedError(
            f"{name!r} is of a type that hotset cannot carry: {dtype}; cast it in the model"
        )
    return found


def to_tensor(torch: Any, array: Array, *, dtype: Any = None, device: Any) -> Any:
    """Return the array as a tensor on ``device``, without a copy where the array may be written to."""
    # A model may write into what it is given, and what was read from a request may lie in memory that is another's.
    mine = array if array.flags.writeable and array.flags.c_contiguous else array.copy(order="C")
    return torch.from_numpy(mine).to(device=device, dtype=dtype)


def to_array(torch: Any, tensor: Any) -> Array:
    """Return a tensor that a model gave as an array."""
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    return np.asarray(tensor.detach().cpu().numpy())


def named(torch: Any, value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what a model returned, name by name: the keys of mappings and the places in lists, joined by ``_``.

    A tensor alone is ``output_0``, and so is the first of a tuple. None is left out; a number is a tensor without
    dimensions.

    Raises:
        PredictFailedError: there is something else among it.
    """
    if isinstance(value, torch.Tensor):
        yield name or "output_0", value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from named(torch, item, f"{name}_{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        keys = getattr(value, "_fields", None) or range(len(value))
        for key, item in zip(keys, value, strict=True):
            own = key if isinstance(key, str) else f"output_{key}"
            yield from named(torch, item, f"{name}_{key}" if name else own)
    elif isinstance(value, bool | int | float):
        yield name or "output_0", torch.tensor(value)
    elif value is not None:
        raise PredictFailedError(
            f"the model returned {type(value).__name__} as {name or 'its output'}; expected tensors"
        )
