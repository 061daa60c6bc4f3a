"""Fields are found as protobuf finds them, whatever the bytes."""

from __future__ import annotations

import pytest
from google.protobuf.internal import decoder
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from hotset.messages.fields import MOST_FIELDS, MalformedError, framed, spans, tag_of
from hotset.messages.pool import message_class

Request = message_class("ModelInferRequest")
TEXTS = {1: "model_name", 2: "model_version", 3: "id"}

fields = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([1, 2, 3]), st.text(max_size=300).map(str.encode)),
        st.tuples(st.just(7), st.binary(max_size=300)),
        st.tuples(st.integers(100, 5000), st.binary(max_size=5)),
    ),
    max_size=8,
)


@given(fields)
def test_what_was_written_is_found(parts: list[tuple[int, bytes]]) -> None:
    data = b"".join(framed(number, len(value)) + value for number, value in parts)

    found = spans(data)

    assert [(tag >> 3, data[start:end]) for tag, start, end in found] == parts
    assert spans(memoryview(data)) == found
    message = Request.FromString(data)
    for number, name in TEXTS.items():
        values = [data[start:end] for tag, start, end in found if tag == tag_of(number)]
        assert getattr(message, name).encode() == (values[-1] if values else b"")


@given(st.binary(max_size=40))
@example(b"\x0a\xff\xff\xff\xff\x0f")
@example(b"\xff" * 11)
@example(b"\x08\x96\x01\x0a\x01a")
@example(b"\x09" + bytes(8) + b"\x0d" + bytes(4))
def test_whatever_the_bytes(data: bytes) -> None:
    """What protobuf reads is read here too, and the other way round but for what is inside the fields."""
    try:
        found = spans(data)
    except MalformedError:
        found = None
    try:
        Request.FromString(data)
    except DecodeError:
        return
    groups = any(tag & 7 in {3, 4} for tag in _tags(data))
    assert found is not None or groups


def _tags(data: bytes) -> list[int]:
    """Return every byte that could start a group: protobuf skips those, which nobody has sent for twenty years."""
    return [decoder._DecodeVarint(bytes((byte, 0)), 0)[0] for byte in data]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x0a\x05abc", "goes 2 bytes past the end of 5"),
        (b"\x0a", "does not end"),
        (b"\x80" * 12, "does not end"),
        (b"\x02\x00", "the number 0"),
        (b"\x0b", "the wire type 3"),
        (b"\x09" + bytes(7), "goes 1 bytes past the end"),
    ],
)
def test_what_is_no_message(data: bytes, message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        spans(data)


def test_a_message_of_too_many_fields() -> None:
    assert len(spans(b"\x0a\x00" * MOST_FIELDS)) == MOST_FIELDS
    with pytest.raises(MalformedError, match="expected at most 65536 fields"):
        spans(b"\x0a\x00" * (MOST_FIELDS + 1))
