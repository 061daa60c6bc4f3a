"""Putting objects into a remote store: files of any size in parts, and small objects on a condition.

The remote store calls it. Nothing is decided here; obstore does the multipart upload, and gives it up on failure.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import obstore
from obstore.exceptions import AlreadyExistsError, NotSupportedError, PreconditionError

from hotset.errors import StoreError
from hotset.store.base import ConflictError, Revision
from hotset.store.target import in_thread, opened
from hotset.store.translation import OBSTORE_ERRORS, if_match, store_error, translated

if TYPE_CHECKING:  # obstore has these only for type checkers
    from obstore import PutMode, UpdateVersion
    from obstore.store import ObjectStore as RawStore

_MOST_PARTS: Final = 9000
"""S3 takes 10,000 parts of one object."""


class _UnreadableError(Exception):
    """The file could not be read: apart from what obstore raises, which may be an ``OSError`` too."""


async def upload_file(
    store: RawStore,
    path: str,
    source: Path,
    *,
    url: str,
    part_bytes: int,
    parallel_parts: int,
    sent: Callable[[int], None],
) -> None:
    """Put a file: whole if it is one part, else in parts side by side."""
    failed: list[OSError] = []
    async with opened(source) as file:
        size = os.fstat(file.fileno()).st_size
        part_bytes = max(part_bytes, -(-size // _MOST_PARTS))
        doing = f"to write {path!r}"
        if size <= part_bytes:
            data = await in_thread(file.read)
            with translated(url, doing):
                await obstore.put_async(store, path, data, use_multipart=False)
            sent(len(data))
            return
        parts = _parts(file, part_bytes, sent, failed)
        try:
            await obstore.put_async(store, path, parts, chunk_size=part_bytes, max_concurrency=parallel_parts)
        except (*OBSTORE_ERRORS, _UnreadableError) as error:
            if failed:
                raise failed[0] from error
            raise store_error(error, url=url, doing=doing) from error


async def _parts(
    file: IO[bytes], part_bytes: int, sent: Callable[[int], None], failed: list[OSError]
) -> AsyncIterator[bytes]:
    while True:
        try:
            data = await in_thread(lambda: file.read(part_bytes))
        except OSError as error:
            failed.append(error)
            raise _UnreadableError from error
        if not data:
            return
        yield data
        sent(len(data))


async def write_on_condition(
    store: RawStore, path: str, data: bytes, revision: Revision | None, *, url: str
) -> None:
    """Put an object if it is in that state, or, with None, if there is none."""
    doing = f"to write {path!r}"
    try:
        mode: PutMode = "create" if revision is None else _state(revision, url)
        await obstore.put_async(store, path, data, mode=mode, use_multipart=False)
    except (PreconditionError, AlreadyExistsError, FileNotFoundError) as error:
        raise ConflictError(f"{path!r} in {url} was written by somebody else meanwhile") from error
    except NotSupportedError as error:
        raise StoreError(f"{url} cannot write on a condition, which {path!r} needs") from error
    except OBSTORE_ERRORS as error:
        raise store_error(error, url=url, doing=doing) from error


def _state(revision: Revision, url: str) -> UpdateVersion:
    etag = if_match(revision.etag)
    state: UpdateVersion = {}
    if etag is not None:
        state["e_tag"] = etag
    if revision.generation:
        state["version"] = revision.generation
    if not state:
        raise StoreError(f"{url} gives no etags, so nothing there can be changed safely")
    return state
