from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from hotset.memory_limits import (
    MemoryLimit,
    chosen_limit,
    machine_stall_share,
    memory_groups,
    system_limit,
)

GB = 1 << 30
PRESSURE = """some avg10=12.50 avg60=3.00 avg300=0.00 total=123
full avg10=4.00 avg60=1.00 avg300=0.00 total=45
"""


class System:
    """A ``/proc`` and a mounted hierarchy, as far as they are read."""

    def __init__(self, path: Path, *, version: int, own: str, mounted: str = "/") -> None:
        self.proc, self.mount = path / "proc", path / "cgroup"
        (self.proc / "self").mkdir(parents=True)
        self.mount.mkdir()
        line = f"0::{own}" if version == 2 else f"4:cpu:/x\n3:hugetlb,memory:{own}\n0::/elsewhere"
        (self.proc / "self" / "cgroup").write_text(f"{line}\n")
        kind = "cgroup2 cgroup2 rw" if version == 2 else "cgroup cgroup rw,hugetlb,memory"
        (self.proc / "self" / "mountinfo").write_text(
            f"30 23 0:28 / /tmp rw shared:1 - tmpfs tmpfs rw\n35 31 0:32 {mounted} {self.mount} rw,relatime - {kind}\n"
        )

    def write(self, group: str, **files: str) -> None:
        directory = self.mount / group
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (directory / name.replace("__", ".")).write_text(text)

    def limit(self) -> int:
        return system_limit(self.proc, machine_bytes=64 * GB).bytes


@pytest.mark.parametrize("inner", [2, 8])
def test_the_smallest_limit_up_to_the_root_counts(tmp_path: Path, inner: int) -> None:
    system = System(tmp_path, version=2, own="/pods/one")
    system.write("pods", memory__max=f"{4 * GB}\n", memory__high="max\n")
    system.write("pods/one", memory__max=f"{inner * GB}\n", memory__high="max\n")
    limit = system_limit(system.proc, machine_bytes=64 * GB)
    assert limit.bytes == min(inner, 4) * GB
    assert limit.group is not None
    assert limit.group.directory == system.mount / ("pods/one" if inner < 4 else "pods")


def test_above_the_second_limit_of_version_2_a_group_is_slowed_down_so_it_counts(tmp_path: Path) -> None:
    system = System(tmp_path, version=2, own="/one")
    system.write("one", memory__max=f"{8 * GB}\n", memory__high=f"{3 * GB}\n")
    assert system.limit() == 3 * GB


@pytest.mark.parametrize("text", ["max\n", "", "9223372036854771712\n", "not a number"])
@pytest.mark.parametrize("version", [1, 2])
def test_the_machine_s_memory_where_no_group_sets_a_smaller_limit(
    tmp_path: Path, version: int, text: str
) -> None:
    system = System(tmp_path, version=version, own="/one")
    system.write("one", memory__max=text, memory__limit_in_bytes=text)
    limit = system_limit(system.proc, machine_bytes=64 * GB)
    assert (limit.bytes, limit.source, limit.group) == (64 * GB, "the machine", None)


def test_version_1_counts_where_it_has_the_memory_controller(tmp_path: Path) -> None:
    system = System(tmp_path, version=1, own="/one")
    system.write("one", memory__limit_in_bytes=f"{5 * GB}\n")
    assert system.limit() == 5 * GB


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_sees_its_own_group_at_the_mount(tmp_path: Path, version: int) -> None:
    system = System(tmp_path, version=version, own="/docker/abc", mounted="/docker/abc")
    system.write("", memory__max=f"{GB}\n", memory__limit_in_bytes=f"{GB}\n")
    assert system.limit() == GB


def test_a_path_that_is_not_below_the_mount_means_the_mount(tmp_path: Path) -> None:
    system = System(tmp_path, version=2, own="/../../outside")
    system.write("", memory__max=f"{GB}\n")
    assert system.limit() == GB


def test_what_is_taken_is_anonymous_and_shared_memory_and_no_page_cache(tmp_path: Path) -> None:
    system = System(tmp_path, version=2, own="/one")
    system.write(
        "one",
        memory__stat="anon 1000\nfile 500000\nkernel 70\nshmem 30\nanon_thp 500\n",
        memory__pressure=PRESSURE,
    )
    group = next(memory_groups(system.proc))
    assert group.taken_bytes() == 1030
    assert group.stall_share() == 0.125


def test_version_1_tells_what_those_below_take_too_and_nothing_of_stalls(tmp_path: Path) -> None:
    system = System(tmp_path, version=1, own="/one")
    system.write(
        "one",
        memory__stat="cache 9\nrss 1\nshmem 2\ntotal_cache 900\ntotal_rss 100\ntotal_shmem 20\n",
        memory__pressure=PRESSURE,
    )
    group = next(memory_groups(system.proc))
    assert group.taken_bytes() == 120
    assert group.stall_share() is None


def test_the_machines_stalls(tmp_path: Path) -> None:
    assert machine_stall_share(tmp_path) is None
    (tmp_path / "pressure").mkdir()
    (tmp_path / "pressure" / "memory").write_text(PRESSURE)
    assert machine_stall_share(tmp_path) == 0.125


def test_no_groups_at_all(tmp_path: Path) -> None:
    assert list(memory_groups(tmp_path)) == []
    assert system_limit(tmp_path).bytes == psutil.virtual_memory().total


def test_this_systems_own_limit_is_within_its_memory() -> None:
    assert 0 < system_limit().bytes <= psutil.virtual_memory().total


def test_a_setting_may_ask_for_less_and_not_for_more() -> None:
    system = MemoryLimit(8 * GB, "the machine")
    assert chosen_limit(None, system) is system
    assert chosen_limit(16 * GB, system) is system
    assert chosen_limit(GB, system) == MemoryLimit(GB, "memory_limit")
