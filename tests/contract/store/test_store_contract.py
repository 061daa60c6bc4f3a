"""What every object store promises, held against each implementation."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hotset.errors import StoreError
from hotset.store import MountedStore, ObjectChangedError, ObjectMeta
from store_places import Open, Place, listed

PART = 64 << 10
NAMES = [
    "paris/1/model.bin",
    "são paulo/v2/modèle 1.bin",
    "東京/1/a+b=c&d~(1)'.bin",
    "x/1/100%25 real#1",
    "x/1/50%",
]


async def put(place: Place, path: str, data: bytes) -> ObjectMeta:
    await place.writer.write(path, data)
    return (await listed(place.store))[path]


async def test_an_empty_store_lists_nothing(place: Place) -> None:
    assert await listed(place.store) == {}
    assert await listed(place.store, "paris/") == {}


@pytest.mark.slow
async def test_more_than_a_page_comes_in_pages(place: Place) -> None:
    # Few folders: rclone reads a folder anew for each request below it.
    paths = {f"paris/{number % 4}/part-{number:04}" for number in range(1_100)}
    for batch in _batches(sorted(paths), 50):
        await asyncio.gather(*(place.writer.write(path, b"m") for path in batch))
    pages = [page async for page in place.store.list()]
    assert len(pages) >= 2
    found = [object_.path for page in pages for object_ in page]
    assert len(found) == len(paths)
    assert set(found) == paths


async def test_a_listing_tells_size_etag_and_time(place: Place) -> None:
    object_ = await put(place, "paris/1/model", b"12345")
    assert object_.size == 5
    assert object_.etag
    assert '"' not in object_.etag
    assert object_.modified_s > 1.6e9


async def test_a_prefix_is_whole_path_parts(place: Place) -> None:
    for path in ["paris/1/a", "paris/10/a", "paris/1/b/c", "paris2/1/a", "pari"]:
        await place.writer.write(path, b"x")
    assert set(await listed(place.store, "paris/1/")) == {"paris/1/a", "paris/1/b/c"}
    assert set(await listed(place.store, "paris/")) == {"paris/1/a", "paris/10/a", "paris/1/b/c"}
    assert await listed(place.store, "rome/") == {}


@pytest.mark.parametrize("path", NAMES)
async def test_names_with_spaces_and_any_letters(place: Place, tmp_path: Path, path: str) -> None:
    object_ = await put(place, path, b"data of it")
    assert await place.store.read(path) == b"data of it"
    await place.store.download(object_, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"data of it"
    folder = path.rsplit("/", 1)[0] + "/"
    assert set(await listed(place.store, folder)) == {path}


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 5 * PART + 123])
async def test_a_download_is_the_object(opening: Open, tmp_path: Path, size: int) -> None:
    place = opening(part_bytes=PART, max_parallel=3)
    data = os.urandom(size)
    object_ = await put(place, "m/1/weights", data)
    await place.store.download(object_, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == data


async def test_many_downloads_at_once(opening: Open, tmp_path: Path) -> None:
    place = opening(part_bytes=PART, max_parallel=4)
    data = {f"m/1/{number}": os.urandom(number * 20_000) for number in range(12)}
    await asyncio.gather(*(place.writer.write(path, content) for path, content in data.items()))
    objects = (await listed(place.store)).values()
    await asyncio.gather(
        *(place.store.download(each, tmp_path / each.path.replace("/", "_")) for each in objects)
    )
    assert {path: (tmp_path / path.replace("/", "_")).read_bytes() for path in data} == data


@pytest.mark.parametrize("size", [1000, 5 * PART])
async def test_changed_content_of_the_same_size_is_noticed(opening: Open, tmp_path: Path, size: int) -> None:
    place = opening(part_bytes=PART)
    old = await put(place, "m/1/weights", b"a" * size)
    await place.writer.write("m/1/weights", b"b" * size)
    with pytest.raises(ObjectChangedError, match="changed"):
        await place.store.download(old, tmp_path / "target")
    assert not (tmp_path / "target").exists()
    assert (await listed(place.store))["m/1/weights"].etag != old.etag


@pytest.mark.parametrize("size", [10, 5 * PART])
async def test_another_size_is_noticed(opening: Open, tmp_path: Path, size: int) -> None:
    place = opening(part_bytes=PART)
    old = await put(place, "m/1/weights", os.urandom(size))
    await place.writer.write("m/1/weights", os.urandom(size // 2))
    with pytest.raises(ObjectChangedError):
        await place.store.download(old, tmp_path / "target")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("size", [10, 5 * PART])
async def test_a_vanished_object_is_noticed(opening: Open, tmp_path: Path, size: int) -> None:
    place = opening(part_bytes=PART)
    old = await put(place, "m/1/weights", os.urandom(size))
    await place.writer.delete("m/1/weights")
    with pytest.raises(ObjectChangedError):
        await place.store.download(old, tmp_path / "target")
    assert not (tmp_path / "target").exists()
    assert await listed(place.store) == {}


async def test_an_existing_target_is_never_overwritten(place: Place, tmp_path: Path) -> None:
    object_ = await put(place, "m/1/weights", b"new")
    (tmp_path / "target").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        await place.store.download(object_, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"old"


@pytest.mark.parametrize("size", [3, 5 * PART])
async def test_missing_folders_are_made_for_their_owner_alone(
    opening: Open, tmp_path: Path, size: int
) -> None:
    place = opening(part_bytes=PART)
    objects = [await put(place, f"m/1/{number}", os.urandom(size)) for number in range(3)]
    folder = tmp_path / "new" / "files"
    await asyncio.gather(*(place.store.download(each, folder / each.path) for each in objects))
    assert {file.stat().st_size for file in (folder / "m" / "1").iterdir()} == {size}
    made = (folder.parent, folder, folder / "m", folder / "m" / "1")
    assert {stat.S_IMODE(each.stat().st_mode) for each in made} == {0o700}


async def test_a_folder_that_cannot_be_made_is_the_disks_error(place: Place, tmp_path: Path) -> None:
    object_ = await put(place, "m/1/weights", b"new")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        await place.store.download(object_, tmp_path / "file" / "target")


async def test_a_cancelled_download_leaves_no_file(opening: Open, tmp_path: Path) -> None:
    place = opening(part_bytes=PART)
    object_ = await put(place, "m/1/weights", os.urandom(64 * PART))
    for steps in range(12):
        task = asyncio.create_task(place.store.download(object_, tmp_path / "target"))
        for _ in range(steps * steps):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait([task])
        ended_well = not task.cancelled() and task.exception() is None
        assert ended_well == (tmp_path / "target").exists()
        (tmp_path / "target").unlink(missing_ok=True)
        assert done


async def test_read_gives_a_small_object_whole(place: Place) -> None:
    await place.writer.write("m/label.json", b"{}")
    assert await place.store.read("m/label.json") == b"{}"
    assert await place.store.read("m/other.json") is None
    assert await place.store.read("m/label.json", limit_bytes=2) == b"{}"
    with pytest.raises(StoreError, match="label"):
        await place.store.read("m/label.json", limit_bytes=1)


async def test_delete_twice(place: Place) -> None:
    await place.writer.write("m/1/a", b"x")
    await place.writer.delete("m/1/a")
    await place.writer.delete("m/1/a")
    assert await listed(place.store) == {}


async def test_mounted_it_looks_the_same_below_its_name(place: Place, tmp_path: Path) -> None:
    await place.writer.write("1/model", b"paris")
    mounted = MountedStore({"eu/paris": place.store})
    assert set(await listed(mounted)) == set(await listed(mounted, "eu/")) == {"eu/paris/1/model"}
    assert set(await listed(mounted, "eu/paris/1/")) == {"eu/paris/1/model"}
    assert await listed(mounted, "eu/par/") == {}
    object_ = (await listed(mounted))["eu/paris/1/model"]
    assert await mounted.read("eu/paris/1/model") == b"paris"
    await mounted.download(object_, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"paris"
    with pytest.raises(ObjectChangedError):
        await mounted.download(replace(object_, path="eu/paris/2/model"), tmp_path / "other")


async def test_no_path_leads_out_of_the_store(place: Place, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    for path in ["../secret", "a/../../secret", str(tmp_path / "secret")]:
        with contextlib.suppress(StoreError):
            assert await place.store.read(path) is None


def _batches(items: Sequence[str], size: int) -> list[Sequence[str]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
