"""The memory of large payloads: what the child has, what it made, and what is left when it is gone."""

from __future__ import annotations

import gc
import mmap
import os
from collections.abc import Iterator

import pytest

from hotset.shared.arena import Arena, Place, Segment, create_file
from hotset.workers.framing import WireError
from hotset.workers.payload_memory import PayloadMemory

MIB = 1 << 20
SIZE = 4 * MIB


@pytest.fixture(name="file")
def _file() -> Iterator[int]:
    file = create_file(SIZE)
    yield file
    os.close(file)


def test_the_child_has_a_body_until_it_says_that_it_has_not(file: int) -> None:
    arena = Arena(file, SIZE)
    memory = PayloadMemory(arena, on_unused=lambda _number: None)
    body = segment(arena, b"x" * MIB)
    assert memory.lend(1, body) == (b"", body.place)
    del body
    assert (memory.lent, arena.used > 0) == (1, True)
    memory.returned(1)
    memory.returned(1)
    memory.returned(99)
    assert (memory.lent, arena.used) == (0, 0)


def test_what_a_child_still_had_comes_back_with_its_end(file: int) -> None:
    arena = Arena(file, SIZE)
    memory = PayloadMemory(arena, on_unused=lambda _number: None)
    memory.lend(1, segment(arena, b"x" * MIB))
    memory.close()
    assert (memory.lent, arena.used) == (0, 0)


def test_where_nothing_is_shared_the_body_itself_is_sent(file: int) -> None:
    arena = Arena(file, SIZE)
    memory = PayloadMemory(None, on_unused=lambda _number: None)
    with memory.opened() as shared:
        assert shared == (0, [])
    assert memory.lend(1, segment(arena, b"abc" * MIB)) == (b"abc" * MIB, None)
    with pytest.raises(WireError, match="where none is shared"):
        memory.answer(1, Place(0, 1))


def test_an_answer_is_read_where_the_child_wrote_it_and_is_told_when_nobody_looks_any_more(
    file: int,
) -> None:
    arena = Arena(file, SIZE)
    unused: list[int] = []
    memory = PayloadMemory(arena, on_unused=unused.append)
    with memory.opened() as (size, files):
        bodies, answers = files
        assert (size, bodies) == (arena.size, arena.file)
        with mmap.mmap(answers, size) as child:
            child[10:14] = b"good"
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(answers)
    answer = memory.answer(7, Place(10, 4))
    memory.close()
    assert (bytes(answer), unused) == (b"good", [])
    del answer
    gc.collect()
    assert unused == [7]


@pytest.mark.parametrize("place", [(-1, 4), (0, 0), (0, 1 << 40), (1 << 62, 1 << 62)])
def test_an_answer_that_is_nowhere_is_refused(file: int, place: tuple[int, int]) -> None:
    arena = Arena(file, SIZE)
    memory = PayloadMemory(arena, on_unused=lambda _number: None)
    with memory.opened(), pytest.raises(WireError, match="nowhere"):
        memory.answer(1, Place(*place))


def segment(arena: Arena, data: bytes) -> Segment:
    found = arena.holding(data)
    assert found is not None
    return found
