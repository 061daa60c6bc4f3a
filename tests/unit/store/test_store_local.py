"""The local directory: what may lie in one, and what must not break the listing of its neighbours."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from hotset.errors import StoreError
from hotset.store import ObjectChangedError, ObjectStore, open_store
from hotset.store.local import LocalStore
from store_places import listed


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    (folder / "paris" / "1").mkdir(parents=True)
    (folder / "paris" / "1" / "model").write_bytes(b"paris")
    return folder


@pytest.fixture
def store(root: Path) -> ObjectStore:
    return open_store(str(root))


async def content(store: ObjectStore, path: str, folder: Path) -> bytes:
    await store.download((await listed(store))[path], folder / "target")
    return (folder / "target").read_bytes()


async def test_links_inside_the_directory_are_followed(
    store: ObjectStore, root: Path, tmp_path: Path
) -> None:
    (root / "paris" / "2").symlink_to("1")
    (root / "rome").symlink_to(root / "paris")
    (root / "paris" / "1" / "same").symlink_to("model")
    assert set(await listed(store)) == {
        f"{name}/{version}/{file}"
        for name in ("paris", "rome")
        for version in (1, 2)
        for file in ("model", "same")
    }
    assert set(await listed(store, "rome/2/")) == {"rome/2/model", "rome/2/same"}
    assert await content(store, "rome/2/same", tmp_path) == b"paris"


async def test_links_out_of_the_directory_are_not(store: ObjectStore, root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_bytes(b"secret")
    (tmp_path / "models-too").mkdir()
    (root / "paris" / "1" / "key").symlink_to(tmp_path / "secret" / "key")
    (root / "paris" / "2").symlink_to(tmp_path / "secret")
    (root / "rome").symlink_to("../models-too")
    assert set(await listed(store)) == {"paris/1/model"}
    assert await listed(store, "paris/2/") == {}
    assert await store.read("paris/1/key") is None
    assert await store.read("paris/2/key") is None


async def test_a_file_swapped_for_a_link_out_is_gone(store: ObjectStore, root: Path, tmp_path: Path) -> None:
    object_ = (await listed(store))["paris/1/model"]
    (root / "paris" / "1" / "model").rename(tmp_path / "moved")
    (root / "paris" / "1" / "model").symlink_to(tmp_path / "moved")
    with pytest.raises(ObjectChangedError, match="gone"):
        await store.download(object_, tmp_path / "target")
    assert not (tmp_path / "target").exists()


async def test_odd_things_hide_no_neighbour(store: ObjectStore, root: Path) -> None:
    version = root / "paris" / "1"
    (version / "dangling").symlink_to("nowhere")
    (version / "self").symlink_to("self")
    (version / "loop").symlink_to("..")
    (root / "all").symlink_to(".")
    os.mkfifo(version / "pipe")
    (version / "empty").mkdir()
    names = ["new\nline", "hash#1", "back\\slash", "per%20cent", "star*?", " space "]
    for name in names:
        (version / name).write_bytes(b"x")
    (version / os.fsdecode(b"not-utf8-\xff")).write_bytes(b"x")
    found = await listed(store)
    assert {f"paris/1/{name}" for name in names} < set(found)
    assert "paris/1/model" in found
    assert any("not-utf8" in path for path in found)
    assert not any(path.endswith(("pipe", "dangling", "empty", "self")) for path in found)
    assert await store.read("paris/1/pipe") is None
    assert await store.read("paris/1") is None
    assert await store.read("paris/1/model/deeper") is None


async def test_directories_full_of_links_to_each_other_end(store: ObjectStore, root: Path) -> None:
    for name in "abcd":
        (root / name).mkdir()
        for other in "abcd":
            (root / name / f"to-{other}").symlink_to(f"../{other}")
    async with asyncio.timeout(20):
        assert "paris/1/model" in await listed(store)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_an_unreadable_folder_hides_no_neighbour(store: ObjectStore, root: Path) -> None:
    (root / "lost+found").mkdir(mode=0)
    assert set(await listed(store)) == {"paris/1/model"}


async def test_a_directory_that_went_away_is_an_error_and_not_empty(store: ObjectStore, root: Path) -> None:
    root.rename(root.with_name("unmounted"))
    with pytest.raises(StoreError, match="is away"):
        await listed(store)
    with pytest.raises(StoreError, match="is away"):
        await listed(store, "paris/")


async def test_the_etag_follows_the_content_even_with_the_same_size_and_date(
    store: ObjectStore, root: Path
) -> None:
    model = root / "paris" / "1" / "model"
    before = (await listed(store))["paris/1/model"]
    status = model.stat()
    other = root / "paris" / "other"
    other.write_bytes(b"PARIS")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.rename(model)
    after = (await listed(store))["paris/1/model"]
    assert (after.size, after.modified_s) == (before.size, before.modified_s)
    assert after.etag != before.etag


async def test_paths_that_would_lead_out(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    for path in ["../secret", "/etc/passwd", "paris/../../secret", "a\0b"]:
        assert await store.read(path) is None
        assert await listed(store, f"{path}/") == {}


async def test_slices_join(root: Path, tmp_path: Path) -> None:
    data = os.urandom((16 << 20) + 12_345)
    (root / "paris" / "1" / "large").write_bytes(data)
    assert await content(open_store(str(root)), "paris/1/large", tmp_path) == data


@pytest.mark.parametrize(
    "path",
    [
        "paris/1/model",
        "paris/1/",
        "",
        "paris",
        "rome/1/model",
        "paris/away/model",
        "paris/1/same",
        "paris/dangling",
        "paris/dangling/deeper",
        "paris/loop/model",
        "nowhere/at/all",
        "paris/1/model/below-a-file",
        "paris/./1/model",
        "paris//1/model",
        "paris/1//",
        "x" * 300,
    ],
)
async def test_a_path_leads_where_the_system_says(root: Path, path: str) -> None:
    """Links are told by looking at the parts below the root alone."""
    (root / "rome").symlink_to(root / "paris")
    (root / "paris" / "away").symlink_to("/etc")
    (root / "paris" / "1" / "same").symlink_to("model")
    (root / "paris" / "dangling").symlink_to("gone")
    (root / "paris" / "loop").symlink_to("loop")
    assert LocalStore(root)._real(path) == os.path.realpath(f"{root}/{path}")


@pytest.mark.parametrize("is_exchanged", [False, True], ids=["renamed", "unmounted"])
async def test_a_directory_that_goes_away_in_the_middle_of_a_listing_fails_it(
    is_exchanged: bool, store: ObjectStore, root: Path
) -> None:
    """Regression: what was not listed by then was taken for deleted, and left memory and disk."""
    (root / "a").mkdir()
    for number in range(1000):
        (root / "a" / f"{number:04}").touch()
    pages = store.list()
    assert len(await anext(pages)) == 1000
    root.rename(root.with_name("away"))
    if is_exchanged:
        root.mkdir()  # as the directory below a mount is
    with pytest.raises(StoreError, match="exchanged while it was listed" if is_exchanged else "is away"):
        await anext(pages)


async def test_a_model_that_is_deleted_in_the_middle_of_a_listing_is_just_not_there(
    store: ObjectStore, root: Path
) -> None:
    (root / "a").mkdir()
    for number in range(1000):
        (root / "a" / f"{number:04}").touch()
    (root / "rome").mkdir()
    (root / "rome" / "model").touch()
    pages = store.list()
    assert len(await anext(pages)) == 1000
    (root / "paris").rename(root.parent / "paris")
    assert [object_.path for object_ in await anext(pages)] == ["rome/model"]
