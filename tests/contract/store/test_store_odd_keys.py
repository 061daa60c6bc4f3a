"""Keys that a bucket may hold and a path may not: each is shown for the catalog to reject, and hides no neighbour."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest

from bucket_server import bucket
from fault_server import BODY, FaultServer, fault_server
from hotset.errors import StoreError
from hotset.store import ObjectStore, open_store
from servers import S3Server
from store_places import listed

GOOD = ["berlin/1/model", "paris/1/model", "paris/2/model", "rome/1/a", "rome/1/b/c", "zagreb/1/model"]


def store_at(server: FaultServer, url: str = "s3://bucket") -> ObjectStore:
    return open_store(url, options=server.options)


@pytest.mark.parametrize("page", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    "bad",
    [
        ["paris//model"],
        ["paris//1/model", "paris//2/model"],
        ["paris/../../etc/passwd"],
        ["paris/1/./model"],
        ["paris/1//x", "rome//x", "zagreb/../c"],
        ["//x"],
        ["../x"],
        ["zagreb/1//"],
        ["zürich//x"],
        ["rome/1/b/\nc"],
    ],
)
async def test_a_bad_key_hides_no_neighbour(bad: list[str], page: int) -> None:
    async with fault_server(bucket([*GOOD, *bad], page=page)) as server:
        found = await listed(store_at(server))
        assert set(GOOD) <= set(found)
        assert set(found) - set(GOOD) <= set(bad)
        assert len(set(found) - set(GOOD)) >= 1
        paths = [object_.path async for some in store_at(server).list() for object_ in some]
        assert len(paths) == len(set(paths))


@pytest.mark.parametrize("page", [1, 2, 1000])
async def test_a_bad_key_below_the_stores_own_prefix(page: int) -> None:
    keys = [f"prod/models/{path}" for path in [*GOOD, "paris//x", "paris/0"]]
    async with fault_server(bucket([*keys, "prod//x", "other"], page=page)) as server:
        found = await listed(store_at(server, "s3://bucket/prod/models/"))
        assert set(found) == {*GOOD, "paris//x", "paris/0"}
        assert set(await listed(store_at(server, "s3://bucket/prod/models"), "rome/")) == {
            "rome/1/a",
            "rome/1/b/c",
        }
        assert set(await listed(store_at(server, "s3://bucket/prod/models"), "paris/")) == {
            "paris//x",
            "paris/0",
            "paris/1/model",
            "paris/2/model",
        }


async def test_a_control_character_that_may_hide_neighbours_fails_the_listing() -> None:
    async with fault_server(bucket([*GOOD, "paris/Icon\r"])) as server:
        with pytest.raises(StoreError, match=r"remove the object: 'paris/Icon\\r'"):
            await listed(store_at(server))


async def test_too_many_bad_keys_end() -> None:
    async with fault_server(bucket([*GOOD, *(f"m{number}//x" for number in range(100))])) as server:
        with pytest.raises(StoreError, match="remove the object"):
            await listed(store_at(server))


async def test_markers_of_folders_are_no_objects(tmp_path: Path) -> None:
    markers = ["prod/", "prod/paris/", "prod/paris/1/", "prod/paris/1/empty/"]
    for page in (1, 2, 3, 1000):
        async with fault_server(
            bucket([*markers, "prod/paris/1/model", "prod/paris/2/model"], page=page)
        ) as server:
            store = store_at(server, "s3://bucket/prod")
            found = await listed(store)
            assert set(found) == {"paris/1/empty", "paris/1/model", "paris/2/model"}
            assert set(await listed(store, "paris/1/")) == {"paris/1/empty", "paris/1/model"}
            await store.download(found["paris/1/empty"], tmp_path / f"empty-{page}")
            assert (tmp_path / f"empty-{page}").read_bytes() == b""
            await store.download(found["paris/1/model"], tmp_path / f"model-{page}")
            assert (tmp_path / f"model-{page}").read_bytes() == BODY


@pytest.mark.xdist_group("moto")
async def test_bad_keys_and_markers_on_a_real_server(moto: S3Server) -> None:
    url = moto.make_bucket("odd-keys")
    for key in ["a/", "a/1/m", "a//b", "b/../c", "b/1/m"]:
        request = urllib.request.Request(f"{moto.endpoint}/odd-keys/{key}", data=b"", method="PUT")
        with urllib.request.urlopen(request, timeout=10):
            pass
    found = await listed(open_store(url, options=moto.options))
    assert {"a/1/m", "b/1/m"} <= set(found) <= {"a/1/m", "a//b", "b/../c", "b/1/m"}
