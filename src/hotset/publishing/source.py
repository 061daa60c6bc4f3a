"""The files that are to become a version: found in a directory, checked, and checked again once they are uploaded.

Blocking; the publisher calls it in threads.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hotset.catalog import PUBLISHING, SUCCESS, UnfaithfulVersionError, version_contents
from hotset.errors import InvalidInputError
from hotset.signing.manifest import SIGNATURE_FILE
from hotset.store import ObjectMeta


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file as it was found."""

    path: Path
    size: int
    modified_ns: int


def find_files(source: Path, *, with_signature: bool = True) -> Mapping[str, SourceFile]:
    """Return the files of a directory (or one file alone) by the path that they get in the version.

    The markers of an earlier upload are left out, and without ``with_signature`` its signature too.

    Raises:
        InvalidInputError: there are none, or one of them cannot be stored in every store.
    """
    try:
        files = {source.name: _file(source)} if source.is_file() else dict(_below(source, source))
    except OSError as error:
        raise InvalidInputError(f"cannot read {error.filename or source}: {error.strerror}") from error
    for marker in (SUCCESS, PUBLISHING, *[SIGNATURE_FILE] * (not with_signature)):
        files.pop(marker, None)
    if not files:
        raise InvalidInputError(f"expected the model's files in the directory, found none: {source}")
    try:
        version_contents([ObjectMeta(path, file.size, "-", 0.0) for path, file in files.items()], "")
    except UnfaithfulVersionError as error:
        raise InvalidInputError(f"{source} cannot be published: {error}") from error
    return files


def check_unchanged(files: Mapping[str, SourceFile]) -> None:
    """Return if every file is as it was found.

    Raises:
        InvalidInputError
    """
    for file in files.values():
        try:
            now = _file(file.path)
        except OSError as error:
            raise InvalidInputError(f"cannot read {file.path}: {error.strerror}") from error
        if now != file:
            raise InvalidInputError(f"the file changed while it was uploaded; publish again: {file.path}")


def _below(directory: Path, source: Path) -> Iterator[tuple[str, SourceFile]]:
    with os.scandir(directory) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from _below(path, source)
        elif entry.is_file():
            yield path.relative_to(source).as_posix(), _file(path)
        else:
            raise InvalidInputError(
                f"expected files and directories, found something else (a link to a directory, a socket): {path}"
            )


def _file(path: Path) -> SourceFile:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise InvalidInputError(f"expected a file, found something else: {path}")
    return SourceFile(path, status.st_size, status.st_mtime_ns)
