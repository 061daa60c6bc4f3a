"""What paging, the index and publishing need of every store: scan, open, write on a condition, upload."""

from __future__ import annotations

import asyncio

import pytest

from hotset.store import ConflictError, ObjectMeta, Revision
from store_places import Place, listed

NAMES = ("acme", "acme-1", "acme.x", "oslo", "paris", "paris2", "rome")


@pytest.fixture
async def filled(place: Place) -> Place:
    for name in NAMES:
        for path in ("1/model", "2/deep/model"):
            await place.writer.write(f"{name}/{path}", name.encode())
    await place.writer.write("readme", b"x")
    return place


@pytest.fixture
def writable(kind: str, place: Place) -> Place:
    if kind == "rclone":
        pytest.skip("its PUT takes seconds and knows no conditions")
    return place


async def scanned(place: Place, start: str = "", behind: str = "") -> list[str]:
    return [object_.path async for page in place.store.scan(start, behind=behind) for object_ in page]


def folders(paths: list[str]) -> list[str]:
    """The top folders in the order in which they first come; each must stand together."""
    tops = [path.split("/", 1)[0] for path in paths if "/" in path]
    order = list(dict.fromkeys(tops))
    assert tops == sorted(tops, key=order.index), "what is in a folder stands together"
    return order


async def test_a_scan_shows_what_a_listing_does(filled: Place):
    assert sorted(await scanned(filled)) == sorted(await listed(filled.store))


async def test_scans_one_behind_the_other_show_every_folder_once(filled: Place):
    order = folders(await scanned(filled))
    assert sorted(order) == sorted(NAMES)
    for number, name in enumerate(order):
        assert folders(await scanned(filled, behind=name)) == order[number + 1 :]


async def test_a_scan_begins_where_a_text_begins(filled: Place):
    assert folders(await scanned(filled, "paris")) == ["paris", "paris2"]
    assert folders(await scanned(filled, "paris", "paris")) == ["paris2"]
    assert await scanned(filled, "paris", "rome") == []
    assert await scanned(filled, "zagreb") == []


async def test_a_scan_inside_a_folder(filled: Place):
    assert await scanned(filled, "oslo/") == ["oslo/1/model", "oslo/2/deep/model"]
    assert await scanned(filled, "oslo/", "oslo/1") == ["oslo/2/deep/model"]


async def test_a_page_is_not_more_than_a_request(place: Place):
    for number in range(3):
        await place.writer.write(f"model-{number}/1/m", b"x")
    pages = place.store.scan()
    first = await anext(aiter(pages))
    assert len(first) <= 1000
    await pages.aclose()  # type: ignore[attr-defined]


async def test_open_gives_the_content_once_and_then_says_that_nothing_changed(place: Place):
    assert await place.store.open("_index.json") is None
    data = bytes(range(256)) * 9000
    await place.writer.write("_index.json", data)
    content = await place.store.open("_index.json")
    assert content is not None
    assert content.chunks is not None
    assert b"".join([chunk async for chunk in content.chunks]) == data
    again = await place.store.open("_index.json", unless=content.revision.etag)
    assert again is not None
    assert again.chunks is None
    assert again.revision.etag == content.revision.etag
    await place.writer.write("_index.json", b"other")
    other = await place.store.open("_index.json", unless=content.revision.etag)
    assert other is not None
    assert other.chunks is not None
    assert b"".join([chunk async for chunk in other.chunks]) == b"other"


async def revision_of(place: Place, path: str) -> Revision:
    content = await place.store.open(path)
    assert content is not None
    assert content.chunks is not None
    async for _ in content.chunks:
        pass
    return content.revision


async def test_an_object_is_created_once(writable: Place):
    await writable.writer.write_if("a/claim", b"mine", None)
    with pytest.raises(ConflictError, match="somebody else"):
        await writable.writer.write_if("a/claim", b"yours", None)
    assert await writable.store.read("a/claim") == b"mine"


async def test_an_object_is_written_over_only_in_the_state_that_was_read(writable: Place):
    await writable.writer.write("index", b"1")
    first = await revision_of(writable, "index")
    await writable.writer.write_if("index", b"2", first)
    assert await writable.store.read("index") == b"2"
    with pytest.raises(ConflictError):
        await writable.writer.write_if("index", b"3", first)
    with pytest.raises(ConflictError):
        await writable.writer.write_if("absent", b"3", first)
    assert await writable.store.read("index") == b"2"


async def test_of_many_who_write_at_once_one_wins(writable: Place, kind: str):
    if kind == "moto":
        pytest.skip("it compares and writes in two steps")
    await writable.writer.write("index", b"0")
    first = await revision_of(writable, "index")
    attempts = (writable.writer.write_if("index", b"%d" % number, first) for number in range(8))
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    assert [outcome for outcome in outcomes if outcome is not None] == [
        outcome for outcome in outcomes if isinstance(outcome, ConflictError)
    ]
    assert outcomes.count(None) == 1


@pytest.mark.parametrize("size", [0, 10, 6 << 20, 17 << 20])
async def test_files_of_any_size_are_uploaded_whole(writable: Place, opening, tmp_path, size):
    source = tmp_path / "source"
    source.write_bytes(bytes(index % 251 for index in range(1000)) * (size // 1000) + b"e" * (size % 1000))
    sent: list[int] = []
    await writable.writer.upload("m/1/model", source, sent=sent.append)
    object_: ObjectMeta = (await listed(writable.store, "m/1/"))["m/1/model"]
    await writable.store.download(object_, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()
    assert sum(sent) == size


async def test_a_file_that_cannot_be_read_is_not_uploaded(writable: Place, tmp_path):
    with pytest.raises(OSError, match="absent"):
        await writable.writer.upload("m/1/model", tmp_path / "absent", sent=lambda _: None)
    assert await listed(writable.store) == {}
