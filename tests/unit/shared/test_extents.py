from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hotset.shared.extents import GRAIN_BYTES, Extents, whole_grains

SIZE = 64 * GRAIN_BYTES

steps = st.lists(
    st.one_of(
        st.tuples(st.just("allocate"), st.integers(1, 20 * GRAIN_BYTES)),
        st.tuples(st.just("free"), st.integers(0, 100)),
        st.tuples(st.just("shrink"), st.integers(0, 100)),
        st.tuples(st.just("trim"), st.just(0)),
    ),
    max_size=60,
)


@given(steps)
def test_what_is_allocated_never_overlaps_and_all_of_it_comes_back(steps: list[tuple[str, int]]) -> None:
    extents = Extents(SIZE)
    used: dict[int, int] = {}
    dirty: set[int] = set()
    for step, value in steps:
        if step == "allocate":
            offset = extents.allocate(value)
            need = whole_grains(value)
            taken = {
                page for start, count in used.items() for page in range(start, start + count, GRAIN_BYTES)
            }
            if offset is None:
                holes = "".join("x" if page in taken else "." for page in range(0, SIZE, GRAIN_BYTES)).split(
                    "x"
                )
                assert max(map(len, holes)) * GRAIN_BYTES < need
                continue
            pages = set(range(offset, offset + need, GRAIN_BYTES))
            assert not pages & taken
            assert offset % GRAIN_BYTES == 0
            assert offset + need <= SIZE
            used[offset] = need
            dirty |= pages
        elif used and step == "free":
            offset = sorted(used)[value % len(used)]
            extents.free(offset)
            del used[offset]
        elif used and step == "shrink":
            offset = sorted(used)[value % len(used)]
            extents.shrink(offset, used[offset] // 2)
            used[offset] = whole_grains(used[offset] // 2)
        elif step == "trim":
            for start, end in extents.unused():
                assert extents.is_free(start, end)
                assert set(range(start, end, GRAIN_BYTES)) <= dirty
                dirty -= set(range(start, end, GRAIN_BYTES))
        assert extents.used == sum(used.values())
        for start, count in used.items():
            assert not extents.is_free(start, start + count)
    for offset in used:
        extents.free(offset)
    for _ in range(2):
        for start, end in extents.unused():
            dirty -= set(range(start, end, GRAIN_BYTES))
    assert not dirty, "pages that were used and never named again"
    assert extents.is_clean
    assert extents.unused() == []
    assert extents.allocate(SIZE) == 0


def test_the_lowest_fitting_range_is_taken() -> None:
    extents = Extents(SIZE)
    first, second, third = (extents.allocate(2 * GRAIN_BYTES) for _ in range(3))
    assert (first, second, third) == (0, 2 * GRAIN_BYTES, 4 * GRAIN_BYTES)
    extents.free(0)
    assert extents.allocate(3 * GRAIN_BYTES) == 6 * GRAIN_BYTES
    assert extents.allocate(1) == 0


def test_what_came_or_went_since_the_last_look_is_kept() -> None:
    extents = Extents(SIZE)
    offset, high = extents.allocate(10 * GRAIN_BYTES), extents.allocate(1)
    assert (offset, high) == (0, 10 * GRAIN_BYTES)
    assert extents.unused() == []
    assert extents.unused() == []
    extents.free(0)
    assert extents.unused() == [], "it was in use until now: it may be again"
    assert not extents.is_clean
    assert extents.allocate(4 * GRAIN_BYTES) == 0
    assert extents.unused() == [(4 * GRAIN_BYTES, 10 * GRAIN_BYTES)], "nobody came, whatever is used above it"
    assert extents.is_clean
    extents.free(0)
    extents.free(10 * GRAIN_BYTES)
    assert extents.unused() == []
    assert extents.unused() == [(0, 4 * GRAIN_BYTES), (10 * GRAIN_BYTES, 11 * GRAIN_BYTES)]
    assert extents.is_clean
