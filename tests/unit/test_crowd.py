"""How many connections there may be, who makes way, and the rounds in which they are looked at: bare values."""

from __future__ import annotations

import logging
import resource
import subprocess
import sys
from dataclasses import dataclass, field

import pytest

from hotset.crowd import Rounds, longest_idle, make_way, most_connections, raise_files_limit


@dataclass(eq=False)
class Member:
    idle_since_s: float | None
    gone: list[float | None] = field(default_factory=list)

    def make_way(self) -> None:
        self.gone.append(self.idle_since_s)


def test_those_that_were_idle_for_longest_go_first() -> None:
    members = [Member(since) for since in (5.0, None, 1.0, 9.0, 1.0)]
    assert [member.idle_since_s for member in longest_idle(members, 2)] == [1.0, 1.0]
    assert [member.idle_since_s for member in longest_idle(members, 9)] == [1.0, 1.0, 5.0, 9.0]


def test_way_is_made_for_one_connection_more_than_there_may_be() -> None:
    members = {Member(float(number)) for number in range(128)} | {newcomer := Member(-1.0)}
    assert make_way(members, 129, newcomer=newcomer)
    assert not any(member.gone for member in members)
    assert make_way(members, 128, newcomer=newcomer)
    assert sorted(member.idle_since_s or 0.0 for member in members if member.gone) == [0.0, 1.0]


def test_where_none_is_idle_none_goes() -> None:
    newcomer = Member(1.0)
    assert not make_way({Member(None), Member(None), newcomer}, 2, newcomer=newcomer)
    assert not newcomer.gone


@pytest.mark.parametrize(("files", "expected"), [(20_000, 17_500), (1024, 896), (65_536, 57_344), (100, 1)])
def test_some_open_files_are_kept_for_all_else(files: int, expected: int) -> None:
    assert most_connections(files) == expected


def test_a_round_sees_each_once_and_begins_anew() -> None:
    everyone = set(range(25))
    rounds = Rounds(everyone, turns=10)
    seen = [next(rounds) for _ in range(9)]
    assert [len(part) for part in seen] == [3] * 8 + [1]
    assert sorted(number for part in seen for number in part) == sorted(everyone)
    everyone.add(99)
    assert sum(len(next(rounds)) for _ in range(9)) == 26
    assert next(Rounds(set[int](), turns=10)) == []


def test_the_limit_on_open_files_is_raised_as_far_as_may_be() -> None:
    """In a process of its own, as a limit that was lowered cannot be raised again."""
    script = (
        "import resource\n"
        "from hotset.crowd import raise_files_limit\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1000))\n"
        "print(raise_files_limit(4000), *resource.getrlimit(resource.RLIMIT_NOFILE))\n"
        "print(raise_files_limit(500), *resource.getrlimit(resource.RLIMIT_NOFILE))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["1000 1000 1000", "1000 1000 1000"]


def test_it_says_so_where_the_system_does_not_allow_enough(caplog: pytest.LogCaptureFixture) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        pytest.skip("this system allows any number of open files")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        with caplog.at_level(logging.INFO):
            assert raise_files_limit(hard + 1) == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert "ulimit -Hn" in caplog.text
