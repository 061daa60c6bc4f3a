"""A directory becomes a version in a store: claimed, uploaded, verified, marked complete, and only then offered.

From the first object on, the version holds ``_PUBLISHING``, and as long as it does no server offers it: a publisher
that dies midway leaves something that is never served. That object is made on the condition that there is none, so of
two publishers of one version one is told. It goes last, after ``_SUCCESS`` has come.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

from hotset.catalog import PUBLISHING, SUCCESS
from hotset.clock import Clock
from hotset.errors import InvalidInputError, StoreError
from hotset.keys import MAX_VERSION, ModelKey, parse_version
from hotset.publishing.source import SourceFile, check_unchanged, find_files
from hotset.publishing.target import Target
from hotset.signing.manifest import SIGNATURE_FILE
from hotset.store import ConflictError, WritableStore

T = TypeVar("T")

Sign: TypeAlias = Callable[[ModelKey, Mapping[str, Path]], bytes]
"""Makes the signature's file for a version of these files, by the paths that they have in it. Blocking."""

PARALLEL_FILES: Final = 8
CLEAN_UP_LIMIT_S: Final = 30.0
_MOST_CLAIMS: Final = 20
"""How many numbers are tried for the next version, while others take them."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an upload is."""

    files: int
    files_in_all: int
    bytes: int
    bytes_in_all: int


@dataclass(frozen=True, slots=True)
class Published:
    """What was put where."""

    key: ModelKey
    url: str
    files: int
    bytes: int


class Publisher:
    """Owned by one event loop; any number of ``publish`` at once."""

    def __init__(
        self,
        store: WritableStore,
        *,
        clock: Clock,
        report: Callable[[Progress], None] = lambda _: None,
        parallel_files: int = PARALLEL_FILES,
    ) -> None:
        """``report`` is told how far an upload is, after each part."""
        self._store = store
        self._clock = clock
        self._report = report
        self._parallel_files = parallel_files

    async def publish(
        self, source: Path, target: Target, *, overwrite: bool = False, sign: Sign | None = None
    ) -> Published:
        """Upload the files of ``source`` as a version; without a number, as the next one. ``sign`` makes its signature.

        Raises:
            InvalidInputError: there is such a version already, or somebody is publishing it, or the files do not fit.
            StoreError: the store did not answer, or refused. What was uploaded is removed again, as far as possible.
        """
        files = await asyncio.to_thread(find_files, source, with_signature=sign is None)
        key, prefix = await self._claim(target, overwrite=overwrite)
        try:
            await self._upload(files, prefix)
            ours = {path: file.size for path, file in files.items()}
            if sign is not None:
                signature = await asyncio.to_thread(sign, key, {path: it.path for path, it in files.items()})
                ours[SIGNATURE_FILE] = len(signature)
                await self._store.write(f"{prefix}{SIGNATURE_FILE}", signature)
            await asyncio.to_thread(check_unchanged, files)
            await self._verify(ours, prefix, overwrite=overwrite)
            await self._store.write(f"{prefix}{SUCCESS}", b"")
            await self._store.delete(f"{prefix}{PUBLISHING}")
        except BaseException as error:
            if overwrite:
                error.add_note(f"{key} is half replaced and not offered; publish it again with --overwrite")
            else:
                await self._clean_up((*files, SIGNATURE_FILE), prefix)
            raise
        url = f"{self._store.url.rstrip('/')}/{prefix[:-1]}"
        return Published(key, url, len(ours), sum(ours.values()))

    async def _claim(self, target: Target, *, overwrite: bool) -> tuple[ModelKey, str]:
        taken = await self._folders(target.name)
        if target.folder is not None:
            version = target.version
            assert version is not None
            folder = taken.get(version, target.folder) if overwrite else target.folder
            if version in taken and not overwrite:
                raise _taken(f"{target.name}@{version}")
            prefix = f"{target.name}/{folder}/"
            await self._claim_version(prefix, f"{target.name}@{version}", overwrite=overwrite)
            return ModelKey(target.name, version), prefix
        return await self._claim_next(target.name, max(taken, default=0) + 1)

    async def _claim_next(self, name: str, number: int) -> tuple[ModelKey, str]:
        for version in range(number, min(number + _MOST_CLAIMS, MAX_VERSION + 1)):
            try:
                await self._claim_version(f"{name}/{version}/", f"{name}@{version}", overwrite=False)
            except InvalidInputError:
                continue  # another publisher was faster
            return ModelKey(name, version), f"{name}/{version}/"
        raise InvalidInputError(f"no number is free for the next version of {name!r}; tried from {number} on")

    async def _claim_version(self, prefix: str, key: str, *, overwrite: bool) -> None:
        path = f"{prefix}{PUBLISHING}"
        claim = {
            "by": f"{socket.gethostname()}, process {os.getpid()}",
            "since": self._clock.wall(),
            "token": secrets.token_hex(8),
        }
        data = json.dumps(claim).encode()
        if overwrite:
            await self._store.write(path, data)
            return
        try:
            await self._store.write_if(path, data, None)
        except ConflictError as error:
            found = await self._store.read(path)
            if found != data:  # else it is ours after all: its first answer was lost, and it was sent again
                raise InvalidInputError(
                    f"{key} is being published by {_holder(found)}; if that one has died, give --overwrite"
                ) from error
        await self._check_empty(prefix, key)

    async def _check_empty(self, prefix: str, key: str) -> None:
        """Look again under the claim: another publisher may have come and gone since the folders were listed."""
        claim = f"{prefix}{PUBLISHING}"
        async for page in self._store.list(prefix):
            if any(meta.path != claim for meta in page):
                await self._store.delete(claim)
                raise _taken(key)

    async def _folders(self, name: str) -> Mapping[int, str]:
        """Return the directories of the versions that are there, whole or not."""
        taken: dict[int, str] = {}
        beside = False
        async for page in self._store.list(f"{name}/"):
            for meta in page:
                folder, slash, _ = meta.path[len(name) + 1 :].partition("/")
                version = parse_version(folder) if slash else None
                if version is not None:
                    taken.setdefault(version, folder)
                elif folder[:1] not in {"_", "."} and meta.size:
                    beside = True
        if beside and not taken:
            raise InvalidInputError(
                f"the model {name!r} has files and no version directories in the store; move them to {name}/1/ first"
            )
        return taken

    async def _upload(self, files: Mapping[str, SourceFile], prefix: str) -> None:
        in_all = sum(file.size for file in files.values())
        done_files = done_bytes = 0

        def show(sent: int) -> None:
            nonlocal done_bytes
            done_bytes += sent
            self._report(Progress(done_files, len(files), done_bytes, in_all))

        async def upload(path: str, file: SourceFile) -> None:
            nonlocal done_files
            try:
                await self._store.upload(f"{prefix}{path}", file.path, sent=show)
            except OSError as error:
                raise InvalidInputError(f"cannot read {file.path}: {error.strerror}") from error
            done_files += 1
            show(0)

        largest_first = sorted(files.items(), key=lambda item: -item[1].size)
        await _side_by_side((partial(upload, *item) for item in largest_first), self._parallel_files)

    async def _verify(self, sizes: Mapping[str, int], prefix: str, *, overwrite: bool) -> None:
        """Compare what the store has with what was sent; with ``overwrite``, remove what is left of the old files."""
        found = {
            meta.path[len(prefix) :]: meta.size async for page in self._store.list(prefix) for meta in page
        }
        found.pop(PUBLISHING, None)
        wrong = [path for path, size in sizes.items() if found.get(path) != size]
        if wrong:
            raise StoreError(f"{self._store.url} does not show what was uploaded: {prefix}{min(wrong)}")
        others = found.keys() - sizes.keys()
        if others and not overwrite:
            raise InvalidInputError(
                f"somebody else writes into {prefix}, expected only our own files there; found: {min(others)}"
            )
        await self._delete(f"{prefix}{path}" for path in others)

    async def _clean_up(self, files: Iterable[str], prefix: str) -> None:
        """Remove what was uploaded, the claim last. What cannot be removed is never offered because of the claim."""
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(CLEAN_UP_LIMIT_S):
                await self._delete(f"{prefix}{path}" for path in (*files, SUCCESS))
                await self._store.delete(f"{prefix}{PUBLISHING}")

    async def _delete(self, paths: Iterable[str]) -> None:
        await _side_by_side((partial(self._store.delete, path) for path in paths), self._parallel_files)


async def _side_by_side(calls: Iterable[Callable[[], Awaitable[object]]], most: int) -> None:
    """Make all calls, ``most`` at a time; the first failure ends the others and is the one that is raised."""
    waiting = iter(calls)

    async def work() -> None:
        for call in waiting:
            await call()

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(most):
                group.create_task(work())
    except BaseExceptionGroup as failures:
        first = failures.exceptions[0]
    else:
        return
    raise first


def _taken(key: str) -> InvalidInputError:
    return InvalidInputError(f"{key} is in the store already; publish the next number, or give --overwrite")


def _holder(claim: bytes | None) -> str:
    """Return who holds a version, as far as the claim tells."""
    try:
        found = json.loads(claim or b"")
        return str(found["by"])[:200]
    except (ValueError, KeyError, TypeError):
        return "somebody else"
