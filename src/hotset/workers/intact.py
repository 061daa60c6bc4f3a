"""The files of a version as a worker finds them: those that were published, each of the size that it had, and untouched.

Called by whoever loads (the loader, and the shipped fake) just before a load, so that nobody has to look at the files
twice. It reads sizes and times and no contents: what was on disk whole was verified when it was fetched.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from hotset.errors import ErrorKind, LoadFailedError
from hotset.keys import DiskFile

Files: TypeAlias = tuple[DiskFile, ...]


def intact_files(path: str, files: Files) -> Sequence[str]:
    """Return the paths of ``files``, all of which are below ``path`` as they were.

    Raises:
        LoadFailedError: of kind ``files_damaged`` where one is missing, or is not what was published; else the disk
            cannot be read.
    """
    for file, size, modified_ns in files:
        try:
            found = os.lstat(f"{path}/{file}")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise _damaged(f"{file} is missing") from error
        except OSError as error:
            raise LoadFailedError(f"{file} cannot be read from disk: {error}") from error
        if not stat.S_ISREG(found.st_mode):
            raise _damaged(f"{file} is no file any more")
        if found.st_size != size:
            raise _damaged(f"{file} was published with {size} bytes, found: {found.st_size}")
        if modified_ns and found.st_mtime_ns != modified_ns:
            raise _damaged(f"{file} was written to since it was published")
    return [file for file, _, _ in files]


def files_below(path: Path) -> list[str]:
    """Return the relative paths of all files below ``path``, with ``/`` between parts, in order.

    Raises:
        LoadFailedError: ``path`` is no directory.
    """
    if not path.is_dir():
        raise LoadFailedError(f"expected a directory with the version's files, found none: {path}")
    files = []
    for folder, _, names in os.walk(path):
        relative = Path(folder).relative_to(path)
        files += [(relative / name).as_posix() for name in names]
    return sorted(files)


def _damaged(reason: str) -> LoadFailedError:
    return LoadFailedError(f"the files on disk are damaged: {reason}", kind=ErrorKind.FILES_DAMAGED)
