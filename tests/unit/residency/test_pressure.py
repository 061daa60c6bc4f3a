from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from hotset.keys import ModelKey
from hotset.residency.pressure import (
    DISK_SHARE,
    default_disk_bytes,
    default_memory_bytes,
    memory_limit_bytes,
    to_relieve,
)

MACHINE = psutil.virtual_memory().total


def group_file(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("text", ["max\n", "", f"{MACHINE * 4}\n", "9223372036854771712\n", "not a number"])
def test_the_machine_s_memory_where_the_group_sets_no_smaller_limit(tmp_path: Path, text: str) -> None:
    assert memory_limit_bytes((group_file(tmp_path / "memory.max", text),)) == MACHINE


def test_the_smallest_limit_counts(tmp_path: Path) -> None:
    files = (
        group_file(tmp_path / "two", "1073741824\n"),
        group_file(tmp_path / "one", "2147483648\n"),
        tmp_path / "missing",
    )
    assert memory_limit_bytes(files) == 1 << 30


def test_a_part_is_left_for_all_that_is_no_model() -> None:
    assert 0.5 * (8 << 30) < default_memory_bytes(8 << 30) < 0.7 * (8 << 30)


def test_what_is_on_disk_already_counts_as_free(tmp_path: Path) -> None:
    empty, used = default_disk_bytes(tmp_path, 0), default_disk_bytes(tmp_path, 10 << 30)
    assert abs(used - empty - DISK_SHARE * (10 << 30)) < 1 << 30


@pytest.mark.parametrize(("idle", "chosen"), [(0, 0), (1, 1), (2, 1), (3, 2), (10, 5)])
def test_the_older_half_goes_and_at_least_one(idle: int, chosen: int) -> None:
    keys = [ModelKey(f"m{number}", 1) for number in range(idle)]
    assert list(to_relieve(keys)) == keys[:chosen]
