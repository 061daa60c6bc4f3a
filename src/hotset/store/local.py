"""A local directory as a store.

Not through obstore's own local store, which was tried first: there a link that makes a loop, a control character or a
byte that is not UTF-8 in one name fails the listing of all the others, names that end in ``#1`` are not shown at all,
links lead out of the root, and a named pipe blocks the reader for ever.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple

from hotset.errors import StoreError
from hotset.store.base import Content, ObjectChangedError, ObjectMeta, Revision
from hotset.store.local_writing import LocalWriter, failed, is_plain, meta_of
from hotset.store.target import TargetFile, copied_in_kernel, in_thread, opened, write_at, write_new

_PAGE = 1000
_BUFFER_BYTES = 1 << 20
_SLICE_BYTES = 16 << 20
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
"""Not blocking, for the sake of named pipes; it changes nothing for files."""

_MAX_LINKS = 4
"""Directory links followed on the way to one file: enough for ``latest`` inside a linked model, few enough that
directories full of links to each other cannot make a listing endless."""

_NO_NAMES = frozenset({"", ".", ".."})
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR})
_SKIPPED = _GONE | {errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG}
"""What hides one entry and not its neighbours: gone since, a dangling link, a ``lost+found`` that is not ours to read.
Any other error (EIO, ESTALE) fails the listing, so that a disk's fault is not taken for deleted models."""


class LocalStore:
    """A directory. Links are followed as long as they stay inside it; ones that lead out are not shown.

    Safe for many tasks at once; all file work is done in threads.
    """

    def __init__(self, root: Path, *, max_parallel: int = 16) -> None:
        self._root = os.path.realpath(root)
        self._slots = asyncio.Semaphore(max_parallel)
        self._device: int | None = None
        """The file system that had objects. Where it is unmounted, an empty directory takes its place."""
        self._writer = LocalWriter(self._root)

    @property
    def url(self) -> str:
        return self._root

    async def list(self, prefix: str = "") -> AsyncIterator[Sequence[ObjectMeta]]:
        objects = self._walk(prefix)
        while page := await in_thread(lambda: [*islice(objects, _PAGE)]):
            yield page
            if len(page) < _PAGE:  # another step of a thread would find nothing
                return

    async def scan(self, start: str = "", *, behind: str = "") -> AsyncIterator[Sequence[ObjectMeta]]:
        objects = self._walk("", _Range(start, behind))
        while page := await in_thread(lambda: [*islice(objects, _PAGE)]):
            yield page

    async def open(self, path: str, *, unless: str | None = None) -> Content | None:
        found = await in_thread(partial(self._find, path))
        if found is None:
            return None
        return Content(Revision(found.etag), None if found.etag == unless else self._chunks(found))

    async def _chunks(self, object_: ObjectMeta) -> AsyncIterator[bytes]:
        """Of the file that is opened, whatever takes its place while it is read."""
        try:
            async with opened(Path(self._real(object_.path))) as file:
                self._check(object_, file.fileno())
                while chunk := await in_thread(partial(self._read_on, object_.path, file)):
                    yield chunk
        except FileNotFoundError as error:
            raise ObjectChangedError(f"{object_.path!r} in {self.url} is gone; read it again") from error

    async def read(self, path: str, *, limit_bytes: int = 1 << 20) -> bytes | None:
        return await in_thread(partial(self._read, path, limit_bytes))

    async def download(self, object_: ObjectMeta, target: Path) -> None:
        async with self._slots:
            if object_.size <= _SLICE_BYTES:
                await write_new(target, partial(self._copy_slice, object_, 0))
                return
            async with TargetFile(target) as file:
                for start in range(0, object_.size, _SLICE_BYTES):
                    await in_thread(partial(self._copy_slice, object_, start, file.descriptor))

    async def write(self, path: str, data: bytes) -> None:
        await in_thread(partial(self._writer.put, path, [data]))

    async def write_if(self, path: str, data: bytes, revision: Revision | None) -> None:
        await in_thread(partial(self._writer.put_if, path, data, revision))

    async def upload(self, path: str, source: Path, *, sent: Callable[[int], None]) -> None:
        async with self._slots, opened(source) as file:
            await in_thread(partial(self._writer.put, path, _reported(file, sent), durable=True))

    async def delete(self, path: str) -> None:
        await in_thread(partial(self._writer.delete, path))

    # The rest runs in threads.

    def _walk(self, prefix: str, wanted: _Range | None = None) -> Iterator[ObjectMeta]:
        root = self._stat_root()
        if not stat.S_ISDIR(root.st_mode) or not is_plain(prefix.rstrip("/")):
            return
        self._check_mounted(root)
        start = self._real(prefix)
        if self._contains(start):
            for object_ in self._below(start, prefix, (start,), 0, _Walk(root, wanted)):
                self._device = root.st_dev
                yield object_

    def _check_mounted(self, root: os.stat_result) -> None:
        """Fail where a file system that had objects is not mounted now: nothing is deleted, whatever is missing."""
        if self._device not in {None, root.st_dev} and not self._scan(self._root, root):
            raise StoreError(
                f"the directory {self.url} is away: another file system is there than before, and it is empty"
            )

    def _is_still(self, root: os.stat_result) -> None:
        """Fail a listing whose root is another by now: what is not found in it then may be all there."""
        if not os.path.samestat(self._stat_root(), root):
            raise StoreError(f"the directory {self.url} was exchanged while it was listed")

    def _stat_root(self) -> os.stat_result:
        try:
            return Path(self._root).stat()
        except OSError as error:
            raise self._failed("is away", error) from error

    def _below(
        self,
        directory: str,
        prefix: str,
        above: tuple[str, ...],
        links: int,
        walk: _Walk,
    ) -> Iterator[ObjectMeta]:
        """Yield the files below the real path ``directory``; ``above`` has the real paths that led here."""
        for entry in self._scan(directory, walk.root):
            if walk.wanted is not None and not walk.wanted.touches(prefix, entry.name):
                continue
            found = self._look(entry, walk.root)
            if found is None:
                continue
            real, status = found
            path = prefix + entry.name
            if status is not None and stat.S_ISREG(status.st_mode):
                yield meta_of(path, status)
            elif (status is None or stat.S_ISDIR(status.st_mode)) and real not in above:
                followed = links + (real != entry.path)
                if followed <= _MAX_LINKS:
                    yield from self._below(real, f"{path}/", (*above, real), followed, walk)

    def _scan(self, directory: str, root: os.stat_result) -> Sequence[os.DirEntry[str]]:
        try:
            with os.scandir(directory) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if error.errno in _SKIPPED and directory != self._root:
                self._is_still(root)
                return ()
            raise self._failed("cannot be listed", error) from error

    def _look(
        self, entry: os.DirEntry[str], root: os.stat_result
    ) -> tuple[str, os.stat_result | None] | None:
        """Return the real path and what is there; nothing more of a directory, as that would be another system call."""
        try:
            if entry.is_dir(follow_symlinks=False):
                return entry.path, None
            if not entry.is_symlink():
                return entry.path, entry.stat(follow_symlinks=False)
            real = os.path.realpath(entry.path)
            return (real, Path(real).stat()) if self._contains(real) else None
        except OSError as error:
            if error.errno in _SKIPPED:
                self._is_still(root)
                return None
            raise self._failed("cannot be listed", error) from error

    def _real(self, path: str) -> str:
        """Return where a path leads. The root is real already, so only what is below it is looked at, until there is a link."""
        real = self._root
        try:
            for part in path.removesuffix("/").split("/"):
                real = f"{real}/{part}"
                if part in _NO_NAMES or stat.S_ISLNK(os.lstat(real).st_mode):
                    return os.path.realpath(f"{self._root}/{path}")
        except OSError:
            return os.path.realpath(f"{self._root}/{path}")
        return real

    def _contains(self, real: str) -> bool:
        return real == self._root or real.startswith(self._root.rstrip("/") + "/")

    def _open(self, path: str) -> int:
        """Open a regular file of the store; anything else at its path counts as no such file."""
        if not is_plain(path) or not self._contains(real := self._real(path)):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        source = os.open(real, _READ)
        if not stat.S_ISREG(os.fstat(source).st_mode):
            os.close(source)
            raise FileNotFoundError(errno.ENOENT, "Not a regular file", path)
        return source

    def _find(self, path: str) -> ObjectMeta | None:
        try:
            source = self._open(path)
        except OSError as error:
            if error.errno in _GONE:
                return None
            raise self._failed(f"cannot be read at {path!r}", error) from error
        try:
            return meta_of(path, os.fstat(source))
        finally:
            os.close(source)

    def _read_on(self, path: str, file: IO[bytes]) -> bytes:
        try:
            return file.read(_BUFFER_BYTES)
        except OSError as error:
            raise self._failed(f"cannot be read at {path!r}", error) from error

    def _read(self, path: str, limit_bytes: int) -> bytes | None:
        try:
            with os.fdopen(self._open(path), "rb") as source:
                data = source.read(limit_bytes + 1)
        except OSError as error:
            if error.errno in _GONE:
                return None
            raise self._failed(f"cannot be read at {path!r}", error) from error
        if len(data) > limit_bytes:
            raise StoreError(f"{path!r} in {self.url} is larger than the limit of {limit_bytes} bytes")
        return data

    def _copy_slice(self, object_: ObjectMeta, start: int, target: int) -> None:
        """Copy one slice. Checked before and after each, because a path has no version that one could ask for."""
        source = self._open_listed(object_)
        try:
            end = min(start + _SLICE_BYTES, object_.size)
            while start < end:
                copied = copied_in_kernel(source, target, end - start, start)
                if not copied:
                    data = self._read_at(object_, source, min(_BUFFER_BYTES, end - start), start)
                    write_at(target, data, start)
                    copied = len(data)
                start += copied
            self._check(object_, source)
        finally:
            os.close(source)

    def _open_listed(self, object_: ObjectMeta) -> int:
        try:
            source = self._open(object_.path)
        except OSError as error:
            if error.errno in _GONE:
                raise ObjectChangedError(f"{object_.path!r} in {self.url} is gone; list again") from error
            raise self._failed(f"cannot be read at {object_.path!r}", error) from error
        try:
            self._check(object_, source)
        except BaseException:
            os.close(source)
            raise
        return source

    def _read_at(self, object_: ObjectMeta, source: int, count: int, offset: int) -> bytes:
        try:
            data = os.pread(source, count, offset)
        except OSError as error:
            raise self._failed(f"cannot be read at {object_.path!r}", error) from error
        if not data:
            raise ObjectChangedError(f"{object_.path!r} in {self.url} became shorter; list again")
        return data

    def _check(self, object_: ObjectMeta, source: int) -> None:
        found = meta_of(object_.path, os.fstat(source))
        if (found.size, found.etag) != (object_.size, object_.etag):
            raise ObjectChangedError(f"{object_.path!r} in {self.url} has changed since it was listed")

    def _failed(self, what: str, error: OSError) -> StoreError:
        return failed(self.url, what, error)


class _Range(NamedTuple):
    """What a scan wants: paths that begin with ``start``, behind the folder ``behind``, in the order of the walk."""

    start: str
    behind: str

    def touches(self, folder: str, name: str) -> bool:
        """Whether the entry ``name`` of ``folder`` is wanted, or may hold what is."""
        path = folder + name
        if not (path.startswith(self.start) or self.start.startswith(f"{path}/")):
            return False
        if not self.behind.startswith(folder):
            return True  # it lies behind, or the walk would not have come here
        part, slash, _ = self.behind[len(folder) :].partition("/")
        return name > part or (name == part and bool(slash))


class _Walk(NamedTuple):
    """A walk through the store: its root as it was at the beginning, and what is wanted, None for all."""

    root: os.stat_result
    wanted: _Range | None


def _reported(file: IO[bytes], sent: Callable[[int], None]) -> Iterator[bytes]:
    while chunk := file.read(_BUFFER_BYTES):
        yield chunk
        sent(len(chunk))
