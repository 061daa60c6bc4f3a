"""How much of this process's memory is mapped from models' files. Runtimes note what they map; the heap's meter asks.

A mapped page is the file's own in the page cache: it costs memory as a copy would as long as the model is used, and the
system may drop it and read it again when memory is short. It counts like a copy, so that the memory tier holds no
more models than there is memory to use them.
"""

from __future__ import annotations

import mmap
import weakref
from typing import Final

_live: Final[dict[int, int]] = {}
"""Bytes used of each mapping that is alive, by its identity. Single steps of a dictionary need no lock, and a lock could
not be taken where a mapping is collected."""


def note_mapped(mapping: mmap.mmap, used_bytes: int) -> None:
    """Count ``used_bytes`` of ``mapping`` until nothing refers to it any more."""
    key = id(mapping)
    _live[key] = used_bytes
    weakref.finalize(mapping, _live.pop, key, None).atexit = False


def mapped_bytes() -> int:
    """Return the bytes that models use of mapped files now."""
    return sum(list(_live.values()))
