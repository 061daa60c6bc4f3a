"""A large bucket on real servers, listed by several listings at a time: the same objects, with few more requests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store

from hotset.catalog import Layout, ListingReader
from hotset.store import ObjectMeta
from hotset.store.remote import RemoteStore
from servers import S3Server, rclone_s3

PATHS = [f"city-{number:03}/{version}/model" for number in range(60) for version in (1, 2)]
PAGE = 5


def bucket_of(server: S3Server, name: str) -> S3Store:
    return S3Store(name, config=dict(server.options), client_options={"allow_http": True})


async def listed(store: RemoteStore) -> Mapping[str, ObjectMeta]:
    found = [object_ async for page in store.list() for object_ in page]
    assert len(found) == len({object_.path for object_ in found})
    return {object_.path: object_ for object_ in found}


async def check(raw: S3Store) -> None:
    """Three passes, as the sync loop makes them: the first knows nothing of the keys, the others do."""
    alone = await listed(RemoteStore(raw, url="s3://b", max_listings=1))
    store = RemoteStore(raw, url="s3://b", max_listings=4, page_objects=PAGE)
    known = None
    for _ in range(3):
        assert await listed(store) == alone
        reader = ListingReader(Layout(), known=known)
        async for page in store.list():
            reader.feed(page)
        assert not reader.take_scattered()
        known = reader.finish().models
        assert known.version_count == len(PATHS)
    assert alone.keys() == set(PATHS)
    assert store._layout.is_ordered
    assert len(store._layout.pages) >= 16


@pytest.mark.xdist_group("moto")
async def test_moto(moto: S3Server) -> None:
    moto.make_bucket("large")
    raw = bucket_of(moto, "large")
    for path in PATHS:
        await obstore.put_async(raw, path, b"x")
    await check(raw)


async def test_rclone(tmp_path: Path) -> None:
    for path in PATHS:
        file = tmp_path / "large" / path
        file.parent.mkdir(parents=True)
        file.write_bytes(b"x")
    with rclone_s3(tmp_path, dir_cache_time="60s") as server:
        await check(bucket_of(server, "large"))
