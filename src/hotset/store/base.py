"""The seam between hotset and whatever holds the models: objects by path, listed, read whole or downloaded to a file.

The catalog and the sync loop list; the disk tier downloads. No implementation holds a large object whole in memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hotset.errors import StoreError


@dataclass(frozen=True, slots=True)
class ObjectMeta:
    """One object as a listing shows it. ``path`` is relative to the store's root, ``/`` between parts.

    ``etag`` is never empty and has no quotes; a store without etags gets one made of the time of the last change.
    ``path`` is the store's own text: it may hold anything, and only the catalog decides what is a model's.
    """

    path: str
    size: int
    etag: str
    modified_s: float


@dataclass(frozen=True, slots=True)
class Revision:
    """One state of an object that is written over: its etag, and the store's own number of it, where it has one."""

    etag: str
    generation: str = ""


@dataclass(frozen=True, slots=True)
class Content:
    """An object as ``open`` found it. ``chunks`` is None where it is still the one that the caller knew."""

    revision: Revision
    chunks: AsyncIterator[bytes] | None


class ObjectChangedError(StoreError):
    """The object is gone, or no longer the one that was listed (another size or etag): list again."""


class StoreBusyError(StoreError):
    """The store refuses for now, because it is asked too much or is not up to it."""


class ConflictError(StoreError):
    """The object is not in the state on whose condition it was to be written: read it again."""


class ObjectStore(Protocol):
    """A bucket below a prefix, or a directory. Paths are relative to it. Safe for many tasks at once."""

    @property
    def url(self) -> str:
        """Where it is, for people; without credentials."""
        ...

    def list(self, prefix: str = "") -> AsyncIterator[Sequence[ObjectMeta]]:
        """Yield pages of all objects below ``prefix`` (empty, or whole path parts ending in ``/``).

        A prefix without objects yields nothing.

        Raises:
            StoreError: the store did not answer, or refused.
        """
        ...

    def scan(self, start: str = "", *, behind: str = "") -> AsyncIterator[Sequence[ObjectMeta]]:
        """Yield pages of the objects whose path begins with the text ``start``, without those up to the folder ``behind``.

        In the store's own order, in which all that is in a folder stands together; ``behind`` and all that is in it
        is left out. A page is one request, so a caller who stops early has paid for no more.

        Raises:
            StoreError: the store did not answer, or refused.
        """
        ...

    async def open(self, path: str, *, unless: str | None = None) -> Content | None:
        """Return an object of any size, or None if there is none; without content if its etag is ``unless``.

        Raises:
            StoreError: the store did not answer, or refused; also while the content is read.
        """
        ...

    async def read(self, path: str, *, limit_bytes: int = 1 << 20) -> bytes | None:
        """Return a small object whole, or None if there is none.

        Raises:
            StoreError: also when it is larger than ``limit_bytes``.
        """
        ...

    async def download(self, object_: ObjectMeta, target: Path) -> None:
        """Write the object to the new file ``target``, verified against its listed size and etag.

        Directories above it that are missing are made, for their owner alone.

        Raises:
            ObjectChangedError: it is no longer the object that was listed.
            StoreError: the store did not answer, refused or cut the answer short.
            OSError: the disk's fault.
        """
        ...


class WritableStore(ObjectStore, Protocol):
    """A store that objects can be put into: for tests and for publishing, never used to serve."""

    async def write(self, path: str, data: bytes) -> None:
        """Put an object, replacing the one of that path.

        Raises:
            StoreError: the store did not answer, or refused.
        """
        ...

    async def write_if(self, path: str, data: bytes, revision: Revision | None) -> None:
        """Put an object if it is in that state; None: if there is none yet.

        Raises:
            ConflictError: it is in another state.
            StoreError: the store did not answer, refused or knows no conditions.
        """
        ...

    async def upload(self, path: str, source: Path, *, sent: Callable[[int], None]) -> None:
        """Put a file of any size, replacing the object of that path; ``sent`` is told of bytes as they go.

        Raises:
            StoreError: the store did not answer, or refused.
            OSError: the file cannot be read.
        """
        ...

    async def delete(self, path: str) -> None:
        """Remove an object; one that is not there is no error.

        Raises:
            StoreError: the store did not answer, or refused.
        """
        ...
