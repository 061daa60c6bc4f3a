from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from hotset.shared.arena import TRIM_BYTES, Arena, Place, create_file
from hotset.shared.extents import GRAIN_BYTES
from hotset.shared.mapped import MappedArena

PAGE_BYTES = 4096
SIZE = 4 * TRIM_BYTES


@pytest.fixture(name="file")
def _file() -> Iterator[int]:
    file = create_file(SIZE)
    yield file
    os.close(file)


def resident_bytes(file: int) -> int:
    return os.fstat(file).st_blocks * 512


def test_a_segment_is_free_once_nothing_refers_to_it(file: int) -> None:
    arena = Arena(file, SIZE)
    segment = arena.allocate(SIZE)
    assert segment is not None
    assert arena.allocate(1) is None
    other = [segment]
    del segment
    assert arena.used == SIZE
    other.clear()
    assert arena.used == 0
    assert arena.allocate(SIZE) is not None


def test_what_is_written_is_read_elsewhere_and_cannot_be_written_there(file: int) -> None:
    arena = Arena(file, SIZE)
    gone: list[int] = []
    mapped = MappedArena(file, SIZE, on_unused=gone.append)
    segment = arena.allocate(11)
    assert segment is not None
    segment.write(0, b"hello ")
    segment.write(6, memoryview(b"world"))
    view = mapped.view(7, segment.place)
    assert (bytes(view), len(segment), segment.tobytes()) == (b"hello world", 11, b"hello world")
    assert view.readonly
    with pytest.raises(ValueError, match="read-only"):
        np.frombuffer(view, np.uint8)[0] = 1
    assert gone == []


@pytest.mark.parametrize(("position", "data"), [(0, b"x" * 12), (11, b"x"), (6, b"world!")])
def test_nothing_is_written_beyond_a_segment(file: int, position: int, data: bytes) -> None:
    arena = Arena(file, SIZE)
    segment = arena.allocate(11)
    assert segment is not None
    with pytest.raises(ValueError, match="do not fit"):
        segment.write(position, data)


def test_a_shrunk_segment_gives_its_end_back(file: int) -> None:
    arena = Arena(file, SIZE)
    segment = arena.allocate(SIZE)
    assert segment is not None
    segment.write(0, b"abc")
    segment.shrink(3)
    assert (len(segment), segment.tobytes(), arena.used) == (3, b"abc", GRAIN_BYTES)
    with pytest.raises(ValueError, match="do not fit"):
        segment.write(3, b"d")


def test_holding_copies_any_buffer(file: int) -> None:
    arena = Arena(file, SIZE)
    data = bytes(range(256)) * 12_000  # three copies' worth
    segments = [arena.holding(kind(data)) for kind in (bytes, bytearray, memoryview)]
    assert [segment.tobytes() if segment else None for segment in segments] == [data] * 3
    assert arena.holding(bytes(SIZE)) is None


def test_its_writer_is_told_when_a_view_and_all_that_was_made_of_it_are_gone(file: int) -> None:
    arena = Arena(file, SIZE)
    gone: list[int] = []
    mapped = MappedArena(file, SIZE, on_unused=gone.append)
    segment = arena.holding(bytes(range(100)))
    assert segment is not None
    view = mapped.view(1, segment.place)
    array = np.frombuffer(view, np.uint8).reshape(10, 10)[::2].view(np.int8)
    row, part = array[1], view[5:]
    del view, array
    assert gone == []
    del row
    assert (gone, bytes(part[:2])) == ([], b"\5\6")
    del part
    assert gone == [1]
    assert not mapped._watched


def test_views_outlive_the_mapping_of_both_ends(file: int) -> None:
    arena = Arena(file, SIZE)
    mapped = MappedArena(file, SIZE, on_unused=lambda _number: None)
    segment = arena.holding(b"still there")
    assert segment is not None
    view = mapped.view(1, segment.place)
    del mapped, arena, segment
    gc.collect()
    assert bytes(view) == b"still there"


@pytest.mark.parametrize("place", [(0, 0), (-4096, 10), (0, SIZE + 1), (SIZE, 1), (SIZE - 5, 6), (0, -1)])
def test_a_place_that_is_none_is_refused(file: int, place: tuple[int, int]) -> None:
    mapped = MappedArena(file, SIZE, on_unused=lambda _number: None)
    with pytest.raises(ValueError, match="not in an arena"):
        mapped.view(1, Place(*place))


def test_memory_is_taken_when_written_and_given_back_when_unused(file: int) -> None:
    arena = Arena(file, SIZE)
    assert resident_bytes(file) == 0
    segment, small = arena.holding(b"x" * (SIZE // 2)), arena.holding(b"still used")
    assert segment is not None
    assert small is not None
    assert resident_bytes(file) == SIZE // 2 + PAGE_BYTES
    del segment
    assert sum(arena.trim()) == 0, "it was used since the last time"
    assert resident_bytes(file) == SIZE // 2 + PAGE_BYTES
    assert not arena.is_clean
    assert sum(arena.trim()) == SIZE // 2
    assert resident_bytes(file) == PAGE_BYTES
    assert arena.is_clean
    assert small.tobytes() == b"still used"


def test_what_is_allocated_while_it_is_trimmed_stays(file: int) -> None:
    arena = Arena(file, SIZE)
    segment = arena.holding(b"x" * SIZE)
    del segment
    list(arena.trim())
    trimming = arena.trim()
    assert next(trimming) == TRIM_BYTES
    segment = arena.holding(b"y" * (2 * TRIM_BYTES))
    assert segment is not None
    list(trimming)
    assert segment.tobytes() == b"y" * (2 * TRIM_BYTES)


def test_a_finalizer_may_free_in_the_middle_of_an_allocation(file: int) -> None:
    """The collector runs where it wants, in the thread that has the lock too: it must not wait for it."""
    arena = Arena(file, SIZE)
    segment = arena.allocate(10)
    with arena._lock:
        del segment
    assert arena.used == 0


def test_threads_that_allocate_and_free_get_parts_of_their_own(file: int) -> None:
    arena = Arena(file, SIZE)
    wrong: list[bytes] = []

    def work(mark: bytes) -> None:
        for count in range(1, 200):
            segment = arena.holding(mark * (count * 97))
            if segment is not None and segment.tobytes() != mark * (count * 97):
                wrong.append(mark)

    threads = [threading.Thread(target=work, args=(bytes([mark]),)) for mark in b"abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (wrong, arena.used) == ([], 0)
