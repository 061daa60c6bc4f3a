"""Messages in a stream of bytes that is cut anywhere."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from hotset.messages.joined import Unpacker, packed


@given(st.lists(st.binary(max_size=40), max_size=6), st.lists(st.integers(0, 300), max_size=12))
def test_what_was_packed_comes_out_wherever_it_was_cut(messages: list[bytes], cuts: list[int]) -> None:
    joined = b"".join(map(packed, messages))
    places = sorted({0, len(joined), *(cut for cut in cuts if cut <= len(joined))})
    unpacker = Unpacker()
    found: list[bytes] = []
    for start, end in pairwise(places):
        found += unpacker.feed(memoryview(joined)[start:end])
    assert found == messages


def test_one_that_is_not_whole_yet_is_kept() -> None:
    unpacker = Unpacker()
    whole = packed(b"first") + packed(b"second")
    assert list(unpacker.feed(whole[:-1])) == [b"first"]
    assert list(unpacker.feed(b"")) == []
    assert list(unpacker.feed(whole[-1:])) == [b"second"]
