"""A model's labels in the store: changed on condition, and never one writer over another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from hotset.catalog import parse_labels
from hotset.errors import InvalidInputError, StoreError
from hotset.publishing import parse_changes, set_labels
from hotset.store import ConflictError, Revision, WritableStore

FILE = "paris/labels.yaml"


@pytest.fixture(autouse=True)
async def _versions(store: WritableStore) -> None:
    for number in (1, 2, 3):
        await store.write(f"paris/{number}/model", b"x")


async def no_pause(_seconds: float) -> None:
    await asyncio.sleep(0)


async def test_labels_are_set_moved_and_taken_away(store: WritableStore) -> None:
    assert await set_labels(store, "paris", {"stable": 1, "canary": 3}) == {"canary": 3, "stable": 1}
    assert await store.read(FILE) == b"stable: 1\ncanary: 3\n"
    assert await set_labels(store, "paris", {"stable": 2, "canary": None}) == {"stable": 2}
    assert await set_labels(store, "paris", {"stable": None}) == {}
    assert parse_labels(await store.read(FILE) or b"") == ()
    assert await set_labels(store, "paris", {"stable": 3}) == {"stable": 3}


async def test_what_people_wrote_around_it_stays(store: WritableStore) -> None:
    await store.write(FILE, b"# by the release team\nstable: 1\n\ncanary: 2\n")
    await set_labels(store, "paris", {"stable": 3})
    assert await store.read(FILE) == b"# by the release team\nstable: 3\n\ncanary: 2\n"


async def test_taking_away_what_is_not_there_writes_nothing(store: WritableStore) -> None:
    assert await set_labels(store, "paris", {"stable": None}) == {}
    assert await store.read(FILE) is None


async def test_a_version_that_is_not_there_is_refused_unless_it_is_ahead(store: WritableStore) -> None:
    with pytest.raises(
        InvalidInputError, match=r"stable=9: 'paris' has no version 9, found: 3, 2, 1; give --ahead"
    ):
        await set_labels(store, "paris", {"stable": 9})
    assert await store.read(FILE) is None
    assert await set_labels(store, "paris", {"stable": 9}, ahead=True) == {"stable": 9}


async def test_a_model_without_version_directories_has_no_labels(store: WritableStore) -> None:
    await store.write("rome/model", b"x")
    with pytest.raises(InvalidInputError, match="one of its files"):
        await set_labels(store, "rome", {"stable": 1}, ahead=True)


@pytest.mark.parametrize("text", [b"stable: two\n", b"{stable: 1}\n"])
async def test_a_file_that_cannot_be_changed_is_left_alone(store: WritableStore, text: bytes) -> None:
    await store.write(FILE, text)
    with pytest.raises(InvalidInputError, match=r"paris/labels\.yaml: "):
        await set_labels(store, "paris", {"stable": 2})
    assert await store.read(FILE) == text


async def test_of_many_writers_none_is_lost(store: WritableStore) -> None:
    names = [f"label-{number}" for number in range(6)]
    await asyncio.gather(*(set_labels(store, "paris", {name: 1}, sleep=no_pause) for name in names))
    assert dict(parse_labels(await store.read(FILE) or b"")) == dict.fromkeys(names, 1)


async def test_one_that_others_are_always_faster_than_gives_up(
    store: WritableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def too_late(_path: str, _data: bytes, _revision: Revision | None) -> None:
        raise ConflictError("changed")

    monkeypatch.setattr(store, "write_if", too_late)
    with pytest.raises(StoreError, match="changed 20 times"):
        await set_labels(store, "paris", {"stable": 1}, sleep=no_pause)


def test_changes_as_they_are_typed() -> None:
    assert parse_changes(["stable=3", "canary=v5", "old="]) == {"stable": 3, "canary": 5, "old": None}


@pytest.mark.parametrize(
    "words", [["stable"], ["stable=three"], ["7=3"], ["latest=3"], ["=3"], ["a=1", "a=2"]]
)
def test_changes_that_are_none(words: Sequence[str]) -> None:
    with pytest.raises(InvalidInputError, match="expected"):
        parse_changes(words)
