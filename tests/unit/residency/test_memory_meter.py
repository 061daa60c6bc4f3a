from __future__ import annotations

import os
from pathlib import Path

from hotset.memory_limits import MemoryGroup, MemoryLimit
from hotset.residency.memory_meter import GroupMeter, ProcessMeter, meter_of
from hotset.residency.watermarks import MemoryReading

STATUS = "Name:\thotset\nVmRSS:\t  900 kB\nRssAnon:\t  {anon} kB\nRssFile:\t  700 kB\nRssShmem:\t  {shmem} kB\nThreads:\t3\n"
ROLLUP = "00-ff ---p 00000000 00:00 0  [rollup]\nRss: 900 kB\nPss_Anon: {anon} kB\nPss_File: 7 kB\nPss_Shmem: {shmem} kB\n"
KB = 1024


def process(proc: Path, pid: int, *, anon: int, own: int, shmem: int = 0) -> None:
    (proc / str(pid)).mkdir(parents=True)
    (proc / str(pid) / "status").write_text(STATUS.format(anon=anon, shmem=shmem))
    (proc / str(pid) / "smaps_rollup").write_text(ROLLUP.format(anon=own, shmem=shmem // 2))


def test_processes_are_added_up_as_if_they_shared_nothing_while_that_is_little(tmp_path: Path) -> None:
    process(tmp_path, 1, anon=100, own=60, shmem=20)
    process(tmp_path, 2, anon=50, own=10)
    meter = ProcessMeter(lambda: [1, 2], 1000 * KB, much=0.5, proc=tmp_path)
    assert meter.read() == MemoryReading(170 * KB, 1000 * KB, None)


def test_what_they_share_is_told_apart_where_it_is_much(tmp_path: Path) -> None:
    process(tmp_path, 1, anon=400, own=260, shmem=20)
    process(tmp_path, 2, anon=300, own=110)
    meter = ProcessMeter(lambda: [1, 2], 1000 * KB, much=0.5, proc=tmp_path)
    assert meter.read().taken_bytes == (260 + 10 + 110) * KB


def test_a_process_that_has_ended_takes_nothing(tmp_path: Path) -> None:
    process(tmp_path, 1, anon=100, own=60)
    meter = ProcessMeter(lambda: [1, 2**22 + 1], 1000 * KB, much=0.5, proc=tmp_path)
    assert meter.read().taken_bytes == 100 * KB


def test_this_process_s_own_memory_grows_by_what_it_takes() -> None:
    exact, rough = (ProcessMeter(lambda: [os.getpid()], 1 << 40, much=much) for much in (0.0, 1.0))
    before = [meter.read().taken_bytes for meter in (exact, rough)]
    block = bytearray(os.urandom(1)) * (64 << 20)
    grown = [meter.read().taken_bytes - was for meter, was in zip((exact, rough), before, strict=True)]
    assert len(block) == 64 << 20
    assert all(60 << 20 < one < 80 << 20 for one in grown), grown


def test_a_group_is_read_where_a_group_sets_the_limit(tmp_path: Path) -> None:
    (tmp_path / "memory.stat").write_text("anon 700\nfile 5000\nshmem 30\n")
    (tmp_path / "memory.pressure").write_text("some avg10=20.00 avg60=0.00 avg300=0.00 total=1\n")
    group = MemoryGroup(tmp_path, is_unified=True)
    meter = meter_of(MemoryLimit(1000, "a group", group), list, much=0.5)
    assert isinstance(meter, GroupMeter)
    assert meter.read() == MemoryReading(730, 1000, 0.2)


def test_our_processes_are_read_where_none_does() -> None:
    meter = meter_of(MemoryLimit(1 << 40, "the machine"), lambda: [os.getpid()], much=0.5)
    assert isinstance(meter, ProcessMeter)
    assert meter.read().taken_bytes > 1 << 20
