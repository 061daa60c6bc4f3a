"""Frames: what goes in comes out, however the stream is cut; and nothing else does."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotset.workers import framing, wire

frames = st.lists(
    st.tuples(
        st.builds(
            wire.Predict,
            number=st.integers(0, 2**62),
            handle=st.integers(0, 2**31),
            codec=st.just("native"),
            content_type=st.text(max_size=20),
            query_string=st.text(max_size=300),
            headers=st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=3).map(tuple),
            deadline_s=st.floats(allow_nan=False),
        ),
        st.binary(max_size=400),
    ),
    max_size=8,
)


def chunks_of(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(stream) + 1) for cut in cuts} | {0, len(stream)})
    return [stream[start:end] for start, end in itertools.pairwise(places)]


@given(frames, st.lists(st.integers(0, 10_000), max_size=30))
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(
    sent: list[tuple[wire.Predict, bytes]], cuts: list[int]
) -> None:
    stream = b"".join(framing.frame_head(message, len(payload)) + payload for message, payload in sent)
    reader = framing.FrameReader(wire.decode_data_order)
    got = [frame for chunk in chunks_of(stream, cuts) for frame in reader.feed(chunk)]
    assert got == sent
    assert reader.missing == 0


@given(frames)
def test_frames_come_out_byte_by_byte(sent: list[tuple[wire.Predict, bytes]]) -> None:
    stream = b"".join(framing.frame_head(message, len(payload)) + payload for message, payload in sent)
    reader = framing.FrameReader(wire.decode_data_order)
    assert [frame for byte in stream for frame in reader.feed(bytes([byte]))] == sent


@given(st.lists(st.binary(max_size=20), max_size=5))
def test_bytes_that_are_no_frame_raise_wire_error_and_nothing_else(chunks: list[bytes]) -> None:
    reader = framing.FrameReader(wire.decode_control_order)
    try:
        for chunk in chunks:
            reader.feed(chunk)
    except framing.WireError:
        pass


def test_missing_tells_how_much_of_a_payload_is_to_come() -> None:
    reader = framing.FrameReader(wire.decode_control_reply)
    head = framing.frame_head(wire.Pong(1), 1000)
    assert reader.feed(head + b"x" * 400) == []
    assert reader.missing == 600
    assert reader.feed(b"y" * 600) == [(wire.Pong(1), b"x" * 400 + b"y" * 600)]


@pytest.mark.parametrize(
    "header",
    [
        b"\0\0\0\0\0\0\0\0",
        b"\xff\xff\xff\xff\0\0\0\0",
        (framing.MAX_HEADER_BYTES + 1).to_bytes(4, "little") * 2,
    ],
)
@pytest.mark.parametrize("size", [1, 8])
def test_a_header_of_an_impossible_size_is_refused_before_it_is_waited_for(header: bytes, size: int) -> None:
    reader = framing.FrameReader(wire.decode_data_order)
    with pytest.raises(framing.WireError, match="header of"):
        for start in range(0, 9, size):
            reader.feed((header + b"x")[start : start + size])


def test_a_header_that_is_too_large_is_not_sent() -> None:
    message = wire.Predict(1, 1, "native", "", "q" * (framing.MAX_HEADER_BYTES + 1), (), 0.0)
    with pytest.raises(framing.WireError, match="header"):
        framing.frame_head(message)
    with pytest.raises(framing.WireError, match="payload"):
        framing.frame_head(wire.Pong(1), framing.MAX_PAYLOAD_BYTES + 1)


def test_small_pieces_are_joined_and_large_ones_left_as_they_are() -> None:
    large = b"x" * 100
    buffers = framing.joined([b"a", b"b", large, b"c", b"", b"d"], small=10)
    assert buffers == [b"ab", large, b"cd"]
    assert buffers[1] is large
    assert framing.joined([]) == []
