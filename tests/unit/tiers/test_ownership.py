"""Who owns a directory: one at a time, and whoever made it again first where it was deleted."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hotset.errors import ConfigError
from hotset.tiers.ownership import Ownership


def of(root: Path) -> Ownership:
    return Ownership(root, holding=(root / "objects", root / "staging"))


@contextmanager
def owned(root: Path) -> Iterator[Ownership]:
    ownership = of(root)
    ownership.take()
    try:
        yield ownership
    finally:
        ownership.give_back()


def test_the_directory_is_made_and_is_nobody_elses_to_look_into(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "disk"
    with owned(root) as ours:
        assert ours.is_ours()
        assert not ours.is_anothers()
        assert (root / "lock").read_text() == f"{os.getpid()}\n"
        for directory in (root, root / "objects", root / "staging"):
            assert directory.stat().st_mode & 0o777 == 0o700


def test_one_has_it_at_a_time(tmp_path: Path) -> None:
    with owned(tmp_path), pytest.raises(ConfigError, match=rf"{tmp_path}, held by pid {os.getpid()}"):
        of(tmp_path).take()
    with owned(tmp_path) as next_:
        assert next_.is_ours()


def test_giving_it_back_twice_is_fine(tmp_path: Path) -> None:
    with owned(tmp_path) as ours:
        ours.give_back()
        assert not ours.is_ours()
        assert not ours.is_anothers(), "nor does anybody else have it"


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "objects").mkdir()
    with pytest.raises(ConfigError, match="files that are not hotset's"):
        of(tmp_path).take()
    assert not (tmp_path / "lock").exists()


def test_what_cannot_be_made_is_no_directory_for_us(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="expected a directory to write to"):
        of(tmp_path / "file").take()


def test_one_that_was_deleted_is_made_anew_and_is_ours_again(tmp_path: Path) -> None:
    root = tmp_path / "disk"
    with owned(root) as ours:
        shutil.rmtree(root)
        assert not ours.is_ours()
        assert not ours.is_anothers()
        ours.make_anew()
        assert ours.is_ours()
        assert (root / "staging").is_dir()
        with pytest.raises(ConfigError, match="held by pid"):
            of(root).take()


def test_only_its_directories_are_made_where_the_lock_is_there(tmp_path: Path) -> None:
    root = tmp_path / "disk"
    with owned(root) as ours:
        (root / "staging").rmdir()
        ours.make_anew()
        assert (root / "staging").is_dir()


def test_one_that_another_has_made_again_stays_theirs(tmp_path: Path) -> None:
    root = tmp_path / "disk"
    with owned(root) as ours:
        shutil.rmtree(root)
        with owned(root) as theirs:
            assert ours.is_anothers()
            with pytest.raises(OSError, match="held by pid") as refused:
                ours.make_anew()
            assert refused.value.errno == errno.ESTALE
            assert theirs.is_ours()
        shutil.rmtree(root)
        ours.make_anew()
        assert ours.is_ours(), "once they are gone, too"
