"""Whether an exception says that memory ran out, the host's or a device's. Called wherever a framework or the user's code raised.

Frameworks have no type for it in common, and most of those that they have are no ``MemoryError``. They are told by name,
so that none is imported for this; and by words, where a library in C++ has but one exception for everything.
"""

from __future__ import annotations

from typing import Final

from hotset.errors import HotsetError

_TYPES: Final = frozenset(
    {
        ("torch", "OutOfMemoryError"),
        ("cupy", "OutOfMemoryError"),
        ("tensorflow", "ResourceExhaustedError"),
    }
)
"""By the package and the name of the type, or of one that it is derived from."""

_WORDS: Final = (
    "bad_alloc",
    "out of memory",
    "can't allocate memory",
    "ailed to allocate",
    "CUDA_ERROR_OUT_OF_MEMORY",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "RESOURCE_EXHAUSTED",
)
_LIBRARIES: Final = frozenset(
    {"RuntimeError", "RuntimeException", "XGBoostError", "XlaRuntimeError", "JaxRuntimeError"}
)
"""The types whose text is believed in the user's own code, where anything may be raised."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a framework says that memory ran out."""
    if isinstance(error, HotsetError):
        return False
    return isinstance(error, MemoryError) or _is_named(error) or any(words in str(error) for words in _WORDS)


def is_out_of_memory_in_code(error: BaseException) -> bool:
    """Whether it does, where the user's own code raised, which may use these words for something else."""
    if isinstance(error, MemoryError) or _is_named(error):
        return True
    return type(error).__name__ in _LIBRARIES and is_out_of_memory(error)


def _is_named(error: BaseException) -> bool:
    return any((kind.__module__.partition(".")[0], kind.__name__) in _TYPES for kind in type(error).__mro__)
