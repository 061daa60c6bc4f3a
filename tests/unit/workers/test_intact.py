"""What a worker says of the files that it is to load."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hotset.errors import ErrorKind, LoadFailedError
from hotset.keys import DiskFile
from hotset.workers.intact import files_below, intact_files

FILES = (DiskFile("a.bin", 3), DiskFile("sub/b.bin", 0))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.bin").write_bytes(b"abc")
    (tmp_path / "sub" / "b.bin").touch()
    return tmp_path


def test_what_is_as_it_was_published_is_listed_and_nothing_beside_it(directory: Path) -> None:
    (directory / "cache.tmp").touch()
    assert intact_files(str(directory), FILES) == ["a.bin", "sub/b.bin"]


def a_link(directory: Path) -> None:
    (directory / "a.bin").rename(directory / "c.bin")
    (directory / "a.bin").symlink_to("c.bin")


def a_file_for_its_directory(directory: Path) -> None:
    (directory / "sub" / "b.bin").unlink()
    (directory / "sub").rmdir()
    (directory / "sub").touch()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda d: (d / "a.bin").unlink(), "a.bin is missing"),
        (lambda d: (d / "a.bin").write_bytes(b"abcd"), "published with 3 bytes, found: 4"),
        (a_link, "a.bin is no file any more"),
        (a_file_for_its_directory, "sub/b.bin is missing"),
    ],
)
def test_damage_is_told_with_a_kind_of_its_own(
    directory: Path, damage: Callable[[Path], object], words: str
) -> None:
    damage(directory)
    with pytest.raises(LoadFailedError, match=words) as error:
        intact_files(str(directory), FILES)
    assert error.value.kind is ErrorKind.FILES_DAMAGED


def test_a_disk_that_cannot_be_read_is_not_taken_for_damage(directory: Path) -> None:
    with pytest.raises(LoadFailedError, match="cannot be read from disk") as error:
        intact_files(str(directory), (DiskFile("x" * 300, 1),))
    assert error.value.kind is ErrorKind.LOAD_FAILED


def test_a_file_that_was_written_to_is_damaged_whatever_its_size(directory: Path) -> None:
    file = directory / "a.bin"
    published = DiskFile("a.bin", 3, file.stat().st_mtime_ns)
    assert intact_files(str(directory), (published,)) == ["a.bin"]
    os.utime(file, ns=(1, 1))
    with pytest.raises(LoadFailedError, match=r"a\.bin was written to since it was published") as error:
        intact_files(str(directory), (published,))
    assert error.value.kind is ErrorKind.FILES_DAMAGED


def test_files_below_are_relative_sorted_and_with_slashes(tmp_path: Path) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    for name in ("b/c/x", "a", "b/y"):
        (tmp_path / name).touch()
    assert files_below(tmp_path) == ["a", "b/c/x", "b/y"]
    with pytest.raises(LoadFailedError, match="expected a directory"):
        files_below(tmp_path / "a")
