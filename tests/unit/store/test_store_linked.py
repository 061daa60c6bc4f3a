"""Files taken over by links."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hotset.store import LinkedStore, ObjectChangedError, ObjectMeta


async def objects(store: LinkedStore) -> list[ObjectMeta]:
    return [it async for page in store.list() for it in page]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "opt"
    (root / "deep").mkdir(parents=True)
    (root / "deep" / "weights").write_bytes(b"12345")
    return root


async def test_a_file_is_linked(root: Path, tmp_path: Path) -> None:
    store = LinkedStore(root)
    (found,) = await objects(store)
    await store.download(found, tmp_path / "target")
    assert (tmp_path / "target").samefile(root / "deep" / "weights")


async def test_a_file_behind_a_link_is_linked_itself(root: Path, tmp_path: Path) -> None:
    (root / "alias").symlink_to("deep/weights")
    store = LinkedStore(root)
    for found in await objects(store):
        target = tmp_path / found.path.replace("/", "-")
        await store.download(found, target)
        assert not target.is_symlink()
        assert target.samefile(root / "deep" / "weights")


async def test_what_cannot_be_linked_is_copied(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    store = LinkedStore(root)
    (found,) = await objects(store)
    await store.download(found, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"12345"
    assert not (tmp_path / "target").samefile(root / "deep" / "weights")


async def test_a_file_that_changed_since_it_was_listed_leaves_nothing(root: Path, tmp_path: Path) -> None:
    store = LinkedStore(root)
    (found,) = await objects(store)
    (root / "deep" / "weights").write_bytes(b"123456")
    with pytest.raises(ObjectChangedError):
        await store.download(found, tmp_path / "target")
    (root / "deep" / "weights").unlink()
    with pytest.raises(ObjectChangedError):
        await store.download(found, tmp_path / "target")
    assert not (tmp_path / "target").exists()


async def test_a_target_that_is_there_is_not_replaced(root: Path, tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"mine")
    store = LinkedStore(root)
    (found,) = await objects(store)
    with pytest.raises(FileExistsError):
        await store.download(found, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"mine"
