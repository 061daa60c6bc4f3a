"""Putting files into a local directory, each in one step: written beside its place, then renamed or linked to it.

``LocalStore`` calls it in threads. Here is also what both of them mean by an object's etag and by a path of the store.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from hotset.errors import StoreError
from hotset.store.base import ConflictError, ObjectMeta, Revision

_LOCK: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC


class LocalWriter:
    """Thread-safe, and safe beside writers of other processes."""

    def __init__(self, root: str) -> None:
        self._root = root

    def put(
        self, path: str, chunks: Iterable[bytes], *, replaces: bool = True, durable: bool = False
    ) -> None:
        """Write an object. Whatever ends it early, ``chunks`` too, the store is as it was.

        Raises:
            ConflictError: there is such an object, and it is not to be replaced.
            StoreError: it cannot be written.
        """
        target = self._target(path)
        # What may fail because another was faster is written at the root, where nobody takes it for a model's file.
        folder = target.parent if replaces else Path(self._root)
        part = folder / f".{secrets.token_hex(8)}.part"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _write(part, chunks, durable=durable)
            if replaces:
                part.replace(target)
            else:
                os.link(part, target)
        except FileExistsError as error:
            raise self._conflict(path) from error
        except OSError as error:
            raise failed(self._root, f"cannot be written at {path!r}", error) from error
        finally:
            with contextlib.suppress(OSError):
                part.unlink()

    def put_if(self, path: str, data: bytes, revision: Revision | None) -> None:
        """Write an object if it is in that state; None: if there is none.

        Raises:
            ConflictError: it is in another state.
            StoreError: it cannot be written.
        """
        if revision is None:
            self.put(path, [data], replaces=False, durable=True)
            return
        target = self._target(path)
        with self._turn(target, path):
            try:
                found = meta_of(path, target.stat())
            except OSError as error:
                raise self._conflict(path) from error
            if found.etag != revision.etag:
                raise self._conflict(path)
            self.put(path, [data], durable=True)

    def delete(self, path: str) -> None:
        if not is_plain(path):
            return
        try:
            Path(self._root, path).unlink(missing_ok=True)
        except OSError as error:
            raise failed(self._root, f"cannot be written at {path!r}", error) from error

    @contextlib.contextmanager
    def _turn(self, target: Path, path: str) -> Iterator[None]:
        """One writer of this object at a time, of all processes: a lock that ends with its holder.

        Its empty file stays beside the object: were it removed, a third could lock a new one beside the second.
        """
        try:
            lock = os.open(target.with_name(f".{target.name}.lock"), _LOCK, 0o644)
        except OSError as error:
            raise failed(self._root, f"cannot be locked at {path!r}", error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _target(self, path: str) -> Path:
        if not is_plain(path):
            raise StoreError(f"not a path that {self._root} could hold: {path!r}")
        return Path(self._root, path)

    def _conflict(self, path: str) -> ConflictError:
        return ConflictError(f"{path!r} in {self._root} was written by somebody else meanwhile")


def _write(part: Path, chunks: Iterable[bytes], *, durable: bool) -> None:
    with part.open("xb") as file:
        for chunk in chunks:
            file.write(chunk)
        if durable:
            file.flush()
            os.fsync(file.fileno())


def failed(root: str, what: str, error: OSError) -> StoreError:
    return StoreError(f"the directory {root} {what}: {error.strerror or error}")


def is_plain(path: str) -> bool:
    """Tell whether joining ``path`` to a directory stays below it, as far as the text alone can tell."""
    return "\0" not in path and not path.startswith("/") and ".." not in path.split("/")


def meta_of(path: str, status: os.stat_result) -> ObjectMeta:
    # The inode too: files of one model family often have one size, and a build may give them one date.
    etag = f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"
    return ObjectMeta(path=path, size=status.st_size, etag=etag, modified_s=status.st_mtime)
