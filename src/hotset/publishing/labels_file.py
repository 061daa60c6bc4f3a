"""A model's file of labels in the store, changed by whoever moves them: read, and written on the condition that it is the same.

For the command line and for deployments. Of two that change it at the same time neither is lost.
"""

from __future__ import annotations

import asyncio
import random as random_module
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from hotset.catalog import LABELS_FILE, LabelsFormatError, parse_labels
from hotset.catalog.labels import with_label
from hotset.errors import InvalidInputError, StoreError
from hotset.keys import parse_label, parse_version
from hotset.store import ConflictError, ObjectChangedError, Revision, WritableStore

MOST_ATTEMPTS: Final = 20
_MOST_PAUSE_S: Final = 0.5
_MOST_NAMED: Final = 5

Sleep = Callable[[float], Awaitable[object]]


def parse_changes(words: Sequence[str]) -> Mapping[str, int | None]:
    """Return what ``stable=3`` and ``canary=`` mean: the label's version, or None to take it away.

    Raises:
        InvalidInputError: one is neither, or a label comes twice.
    """
    changes: dict[str, int | None] = {}
    for word in words:
        label, sign, version = word.partition("=")
        number = parse_version(version)
        if not sign or (version and number is None):
            raise InvalidInputError(
                f"expected a label and a version's number, such as stable=3, found: {word!r}"
            )
        if parse_label(label) in changes:
            raise InvalidInputError(f"found the label {label!r} twice, expected it once")
        changes[label] = number
    return changes


async def set_labels(
    store: WritableStore,
    name: str,
    changes: Mapping[str, int | None],
    *,
    ahead: bool = False,
    sleep: Sleep = asyncio.sleep,
    random: Callable[[], float] = random_module.random,
) -> Mapping[str, int]:
    """Give labels to versions, or with None take them away; return all that the model has then.

    ``ahead``: to versions that are not there yet, too.

    Raises:
        InvalidInputError: a label is none, there is no such version, or the file as it is cannot be changed.
        StoreError: the store did not answer, refused, or others were faster time and again.
    """
    await _check_versions(store, name, changes, ahead=ahead)
    path = f"{name}/{LABELS_FILE}"
    for _ in range(MOST_ATTEMPTS):
        try:
            revision, data = await _read(store, path)
            new = _changed(path, data, changes)
            if new != data and (data is not None or any(it is not None for it in changes.values())):
                await store.write_if(path, new, revision)
        except (ConflictError, ObjectChangedError):
            await sleep(random() * _MOST_PAUSE_S)
        else:
            return dict(parse_labels(new))
    raise StoreError(
        f"{path} in {store.url} changed {MOST_ATTEMPTS} times while it was being written; try again"
    )


def _changed(path: str, data: bytes | None, changes: Mapping[str, int | None]) -> bytes:
    new = data
    try:
        for label, number in changes.items():
            new = with_label(new, label, number)
    except LabelsFormatError as error:
        raise InvalidInputError(f"{path}: {error}") from error
    return new if new is not None else b"{}\n"


async def _read(store: WritableStore, path: str) -> tuple[Revision | None, bytes | None]:
    content = await store.open(path)
    if content is None or content.chunks is None:
        return None, None
    return content.revision, b"".join([chunk async for chunk in content.chunks])


async def _check_versions(
    store: WritableStore, name: str, changes: Mapping[str, int | None], *, ahead: bool
) -> None:
    """Refuse numbers that no version has: a typing error would show only when somebody looks."""
    there = await _versions(store, name)
    for label, number in changes.items():
        if number is not None and number not in there and not ahead:
            named = ", ".join(map(str, sorted(there, reverse=True)[:_MOST_NAMED])) or "none"
            raise InvalidInputError(
                f"{label}={number}: {name!r} has no version {number}, found: {named};"
                " give --ahead if it is going to be published"
            )


async def _versions(store: WritableStore, name: str) -> set[int]:
    there: set[int] = set()
    is_unversioned = False
    async for page in store.list(f"{name}/"):
        for meta in page:
            folder, slash, _ = meta.path[len(name) + 1 :].partition("/")
            number = parse_version(folder) if slash else None
            if number is not None:
                there.add(number)
            elif folder[:1] not in {"_", "."} and folder != LABELS_FILE and meta.size:
                is_unversioned = True
    if is_unversioned and not there:
        raise InvalidInputError(
            f"{name!r} has no version directories, so that {LABELS_FILE} would be one of its files"
        )
    return there
