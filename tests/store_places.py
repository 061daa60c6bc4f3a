"""A store under test together with the way by which objects get there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hotset.store import ObjectMeta, ObjectStore, StoreLimits, WritableStore, open_store
from servers import S3Server


@dataclass(frozen=True, slots=True)
class Place:
    """A store under test, and how objects get there: rclone's are files (its PUT takes seconds, its DELETE hangs)."""

    store: ObjectStore
    writer: WritableStore


Open = Callable[..., Place]


async def listed(store: ObjectStore, prefix: str = "") -> dict[str, ObjectMeta]:
    return {object_.path: object_ async for page in store.list(prefix) for object_ in page}


def make_place(url: str, limits: Mapping[str, Any], server: S3Server | None = None) -> Place:
    store = open_store(url, options=server.options if server else {}, limits=StoreLimits(**limits))
    if server is None or server.directory is None:
        return Place(store, store)
    folder = server.directory / url.removeprefix("s3://")
    folder.mkdir(parents=True)
    return Place(store, open_store(str(folder)))
