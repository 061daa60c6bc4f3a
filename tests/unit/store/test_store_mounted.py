"""Stores joined by name."""

from __future__ import annotations

import pytest

from hotset.errors import ConfigError
from hotset.store import MountedStore, WritableStore, open_store
from store_places import listed


async def filled(*paths: str) -> WritableStore:
    store = open_store("memory://")
    for path in paths:
        await store.write(path, path.encode())
    return store


async def test_names_may_hold_slashes_and_begin_alike() -> None:
    store = MountedStore(
        {"eu/paris": await filled("m"), "eu/paris2": await filled("n"), "rome": await filled("1/m")}
    )
    assert set(await listed(store)) == {"eu/paris/m", "eu/paris2/n", "rome/1/m"}
    assert set(await listed(store, "eu/")) == {"eu/paris/m", "eu/paris2/n"}
    assert set(await listed(store, "eu/paris/")) == {"eu/paris/m"}
    assert set(await listed(store, "rome/1/")) == {"rome/1/m"}
    assert await listed(store, "oslo/") == {}
    assert await store.read("eu/paris2/n") == b"n"
    assert await store.read("eu/paris2") is None
    assert await store.read("oslo/m") is None


async def test_no_mounts_is_an_empty_store() -> None:
    assert await listed(MountedStore({})) == {}


async def test_its_url_names_all() -> None:
    assert MountedStore({"b": await filled(), "a": await filled()}).url == "a: memory://, b: memory://"


@pytest.mark.parametrize(
    "names", [("a", "a/b"), ("a", "a-x", "a/b"), ("a/b/c", "a/b")], ids=["next", "between", "deep"]
)
async def test_one_model_inside_another_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="lies inside"):
        MountedStore({name: await filled() for name in names})
