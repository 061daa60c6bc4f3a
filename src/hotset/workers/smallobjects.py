"""Where a model's small objects come from while it is loaded: malloc, in the place of Python's own allocator. For children.

Python keeps blocks of up to 512 bytes in arenas of a mebibyte. It tells how many blocks there are and not what they
take, and an arena goes back to the system only once all of it is free: of 71 MB of vocabularies and tables, 17 MB stayed
when they were unloaded, and nothing but other small objects could use that. What malloc gave out is measured to the byte,
and trimmed page by page: 0.1 MB stayed. Predictions keep Python's allocator, which is the faster one.

Python frees each block by where it lies, so blocks of both may live side by side: only where new ones come from is
changed, and how they are resized and freed is not. Small buffers of lists that grow still come from Python's own.
"""

from __future__ import annotations

import ctypes
import sys
import sysconfig
import threading
from typing import Final, Self

_RAW, _MEMORY, _OBJECTS = 0, 1, 2
"""The domains of Python's allocators: the first is malloc's, the others are its own allocator's."""


class _Functions(ctypes.Structure):
    """``PyMemAllocatorEx``."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in ("context", "malloc", "calloc", "realloc", "free"))

    context: int | None
    malloc: int | None
    calloc: int | None
    realloc: int | None
    free: int | None


class SmallObjects:
    """A switch for all threads of this process. Thread-safe; ``from_malloc`` and ``from_python`` come in pairs, and nest.

    ``SmallObjects.of_process()`` makes it, once, where this interpreter can be switched.
    """

    def __init__(self, own: dict[int, _Functions], malloc: dict[int, _Functions]) -> None:
        self._own = own
        self._malloc = malloc
        self._lock = threading.Lock()
        self._wanted = 0

    @classmethod
    def of_process(cls) -> Self | None:
        """Return the switch; None where Python's allocator is not in use (``PYTHONMALLOC``), or is being watched."""
        if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
            return None
        raw = _functions(_RAW)
        own = {domain: _functions(domain) for domain in (_MEMORY, _OBJECTS)}
        if any(it.context or it.malloc == raw.malloc for it in own.values()):
            return None  # a debugger's or a profiler's functions want to see each of their blocks from first to last
        mixed = {
            domain: _Functions(raw.context, raw.malloc, raw.calloc, it.realloc, it.free)
            for domain, it in own.items()
        }
        return cls(own, mixed)

    def from_malloc(self) -> None:
        """New small objects come from malloc from now on."""
        with self._lock:
            self._wanted += 1
            if self._wanted == 1:
                _set(self._malloc)

    def from_python(self) -> None:
        """As before, once all who called ``from_malloc`` have said so."""
        with self._lock:
            self._wanted -= 1
            if not self._wanted:
                _set(self._own)


_get: Final = ctypes.pythonapi.PyMem_GetAllocator
_get.argtypes = (ctypes.c_int, ctypes.POINTER(_Functions))
_get.restype = None
_put: Final = ctypes.pythonapi.PyMem_SetAllocator
_put.argtypes = (ctypes.c_int, ctypes.POINTER(_Functions))
_put.restype = None
# Both keep the interpreter's lock, and whoever allocates holds it: nobody sees the functions half changed.


def _functions(domain: int) -> _Functions:
    found = _Functions()
    _get(domain, found)
    return found


def _set(functions: dict[int, _Functions]) -> None:
    for domain, them in functions.items():
        _put(domain, them)
