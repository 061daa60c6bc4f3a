"""What would make a model load faster, measured on its own files. Called by ``hotset check``; it asks no server.

It loads every file as a worker does, so whatever a pickle does when it is loaded, it does here. It changes nothing:
other ways to write a file down are tried on copies in a directory that goes away.
"""

from __future__ import annotations

import asyncio
import filecmp
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Final

import numpy as np

from hotset.errors import ConfigError, HotsetError, InvalidInputError, LoadFailedError, PredictFailedError
from hotset.payload import DTYPES, InferRequest, Signature
from hotset.runtimes import registry
from hotset.runtimes.base import Runtime, Servable
from hotset.runtimes.gcpause import collector_pause
from hotset.runtimes.remedies import Remedy, remedies_for
from hotset.store import ObjectMeta, ObjectStore, open_store

MANY_FILES: Final = 16
"""A version with more costs the store as many requests."""

WORTH: Final = 1.25
WORTH_S: Final = 0.002
"""A remedy is one if the load is so many times as fast, and so much faster."""

_TIMES: Final = 5
_LIMIT_S: Final = 3.0


_WHOLE: Final = frozenset({"mlflow", "predictor", "tensorflow"})
"""Runtimes that load a directory, with all that is below it. The others load one file."""


@dataclass(frozen=True, slots=True)
class Version:
    """The files of one directory of a store, one of which a runtime can load. Paths are relative to the store."""

    directory: str
    files: tuple[ObjectMeta, ...]
    model: ObjectMeta
    is_whole: bool = False
    """Whether the runtime loads the directory, and ``model`` is only what tells so."""

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True)
class Better:
    """A remedy that was tried: processor time to load it and ask it once, the size of its file, how to get it."""

    title: str
    seconds: float
    bytes: int
    command: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one version. ``reason`` says why it could not be loaded; then nothing else is known."""

    path: str
    files: int
    bytes: int
    seconds: float = 0.0
    tried: tuple[Better, ...] = ()
    reason: str = ""

    @property
    def best(self) -> Better | None:
        """The fastest of what was tried, if it is worth it."""
        best = min(self.tried, key=lambda better: better.seconds, default=None)
        if best is None or not is_worth(self.seconds, best.seconds):
            return None
        return best

    @property
    def has_many_files(self) -> bool:
        return self.files > MANY_FILES


def is_worth(now_s: float, then_s: float) -> bool:
    """Whether a load that takes ``then_s`` and not ``now_s`` is worth another file."""
    return now_s >= then_s * WORTH and now_s - then_s >= WORTH_S


def versions_among(objects: Iterable[ObjectMeta]) -> list[Version]:
    """Return the versions, the largest first: each directory with files that one runtime can load.

    What is below the directory of a format that is a directory belongs to it.
    """
    ordered = sorted(objects, key=lambda item: item.path.rpartition("/")[::2])
    found: dict[str, Version] = {}
    for directory, group in groupby(ordered, key=lambda item: item.path.rpartition("/")[0]):
        files = tuple(group)
        # Sorted by their directories, a directory's own files come before all that is below it.
        above = next((found[it] for it in _above(directory) if it in found and found[it].is_whole), None)
        if above is not None:
            found[above.directory] = replace(above, files=(*above.files, *files))
            continue
        model = _model_among(files)
        if model is not None:
            meta, runtime = model
            found[directory] = Version(directory, files, meta, is_whole=runtime.name in _WHOLE)
    return sorted(found.values(), key=lambda version: version.bytes, reverse=True)


def _above(directory: str) -> Iterator[str]:
    """Give the directories that this one is in, up to the root, which is empty."""
    while directory:
        directory = directory.rpartition("/")[0]
        yield directory


def _model_among(files: Sequence[ObjectMeta]) -> tuple[ObjectMeta, Runtime] | None:
    names = {file.path.rpartition("/")[2]: file for file in files}
    try:
        runtime = registry.detect(list(names))
    except LoadFailedError:
        return None
    loadable = [file for name, file in names.items() if runtime.detect([name])]
    return max(loadable, key=lambda file: file.size), runtime


async def examined_versions(location: str, scratch: Path, *, most: int) -> AsyncIterator[Finding]:
    """Give what is found of the ``most`` largest versions of a file, a directory or a store.

    Raises:
        ConfigError: there is nothing that can be loaded.
        StoreError: the store does not answer.
    """
    store, only = _opened(location)
    objects = [item async for page in store.list() for item in page if only in (None, item.path)]
    versions = versions_among(objects)
    if not versions:
        raise ConfigError(
            f"found no model in {location}; expected files ending in {', '.join(registry.suffixes())}"
        )
    for number, version in enumerate(versions[:most]):
        folder = scratch / str(number)
        folder.mkdir()
        for file in version.files:
            target = folder / Path(file.path).relative_to(version.directory)
            target.parent.mkdir(parents=True, exist_ok=True)
            await store.download(file, target)
        source = folder / Path(version.model.path).name
        yield await asyncio.to_thread(_examined, version, source, location)


def _opened(location: str) -> tuple[ObjectStore, str | None]:
    path = Path(location)
    if "://" not in location and path.is_file():
        return open_store(str(path.parent)), path.name
    return open_store(location), None


def _examined(version: Version, source: Path, location: str) -> Finding:
    """Load one file, and what each remedy makes of it."""
    path = version.model.path
    runtime = registry.detect([source.name])
    files = [str(Path(file.path).relative_to(version.directory)) for file in version.files]
    try:
        seconds = _load_seconds(runtime, source.parent, files if version.is_whole else [source.name])
    except HotsetError as error:
        return Finding(path, len(version.files), version.bytes, reason=str(error))
    shown = _shown(location, path)
    tried = (_tried(runtime, remedy, source, shown) for remedy in remedies_for(runtime.name))
    better = tuple(it for it in tried if it is not None)
    return Finding(path, len(version.files), version.bytes, seconds, better)


def _shown(location: str, path: str) -> Path:
    """Return the file as the user has it: where it is, or where a copy of it from the store would be."""
    if "://" in location:
        return Path(path).relative_to(Path(path).parent)
    return Path(location) if Path(location).is_file() else Path(location) / path


def _tried(runtime: Runtime, remedy: Remedy, source: Path, shown: Path) -> Better | None:
    """Return what a remedy brings, or None where it cannot be had, or was had already."""
    target = source.with_name(f"hotset-check{remedy.suffix}")
    try:
        remedy.apply(source, target)
        if filecmp.cmp(source, target, shallow=False):
            return None
        seconds = _load_seconds(runtime, target.parent, [target.name])
    except HotsetError:
        return None
    better = Better(remedy.title, seconds, target.stat().st_size, remedy.command(shown))
    target.unlink()
    return better


def _load_seconds(runtime: Runtime, folder: Path, files: Sequence[str]) -> float:
    """Return the least processor time that it took to load the files and ask once: what is mapped is read by the
    asking. Not the time of the clock, which tells as much of the machine's other work."""
    taken: list[float] = []
    end_s = time.perf_counter() + _LIMIT_S
    _load_once(runtime, folder, files)  # imports, and fills caches
    while len(taken) < _TIMES and (not taken or time.perf_counter() < end_s):
        began_s = time.thread_time()
        _load_once(runtime, folder, files)
        taken.append(time.thread_time() - began_s)
    return min(taken)


def _load_once(runtime: Runtime, folder: Path, files: Sequence[str]) -> None:
    with collector_pause:
        servable = runtime.load(folder, files)
    _ask(servable)
    servable.close()


def _ask(servable: Servable) -> None:
    infer = getattr(servable, "infer", None)
    if infer is None:
        return
    try:
        infer(InferRequest(_zeros(servable.signature)))
    except (InvalidInputError, PredictFailedError, MemoryError):
        return  # it takes something else than zeros: then it was loaded, and that is all


def _zeros(signature: Signature) -> dict[str, np.ndarray]:
    return {
        spec.name: np.zeros(
            tuple(max(1, size) for size in spec.shape), DTYPES.get(spec.datatype or "FP64", np.dtype("f8"))
        )
        for spec in signature.inputs
    }
