"""What goes in as parts comes out as the same parts: over the wire between child and gateway, and as events to a client."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hotset.api.http1 import LAST_CHUNK, chunk
from hotset.codecs.parts import Events, Lines
from hotset.errors import ErrorKind
from hotset.workers import framing, wire
from hotset.workers.failure import Failure

numbers = st.integers(0, 2**62)
texts = st.text(max_size=20)
failures = st.builds(
    Failure,
    error=st.just("PredictFailedError"),
    kind=st.sampled_from([kind.value for kind in ErrorKind]),
    message=texts,
    retry_after_s=st.none(),
)
pairs = st.lists(st.tuples(texts, texts), max_size=3).map(tuple)
replies = st.one_of(
    st.tuples(st.builds(wire.Begun, numbers, texts, pairs), st.binary(max_size=300)),
    st.tuples(st.builds(wire.Part, numbers), st.binary(max_size=300)),
    st.tuples(st.builds(wire.End, numbers), st.just(b"")),
    st.tuples(st.builds(wire.Failed, numbers, failures), st.just(b"")),
    st.tuples(st.builds(wire.Answer, numbers, texts, pairs), st.binary(max_size=300)),
)
orders = st.one_of(st.builds(wire.Taken, numbers, st.integers(1, 1000)), st.builds(wire.Stop, numbers))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({place % (len(stream) + 1) for place in cuts} | {0, len(stream)})
    return [stream[start:end] for start, end in itertools.pairwise(places)]


@given(st.lists(replies, max_size=8), st.lists(st.integers(0, 10_000), max_size=20))
def test_answers_in_parts_come_over_the_wire_as_they_were(sent: list[Any], cuts: list[int]) -> None:
    stream = b"".join(framing.frame_head(message, len(payload)) + payload for message, payload in sent)
    reader = framing.FrameReader(wire.decode_data_reply)
    assert [frame for piece in cut(stream, cuts) for frame in reader.feed(piece)] == sent


@given(st.lists(orders, max_size=8))
def test_words_about_them_come_over_the_wire_as_they_were(sent: list[Any]) -> None:
    reader = framing.FrameReader(wire.decode_control_order)
    stream = b"".join(map(framing.frame_head, sent))
    assert [message for message, _ in reader.feed(stream)] == sent


@given(st.lists(values, max_size=6))
def test_lines_are_read_as_what_was_written(parts: list[Any]) -> None:
    lines = Lines()
    written = b"".join(map(lines.write, parts))
    assert [json.loads(line) for line in written.split(b"\n")[:-1]] == parts


def events_of(data: str) -> list[str]:
    """Read server-sent events as the HTML standard says, without fields that are not used here."""
    found: list[str] = []
    lines: list[str] = []
    for line in re.split(r"\r\n|\n|\r", data)[:-1]:
        if not line:
            if lines:
                found.append("\n".join(lines))
            lines = []
        else:
            name, _, value = line.partition(":")
            assert name == "data"
            lines.append(value.removeprefix(" "))
    assert not lines, "an event without an end"
    return found


@given(st.lists(values, max_size=6))
def test_events_are_read_as_what_was_written(parts: list[Any]) -> None:
    events = Events()
    read = events_of(b"".join(map(events.write, parts)).decode())
    expected = [
        re.sub(r"\r\n|\r", "\n", part) if isinstance(part, str) else part
        for part in parts
    ]  # fmt: skip
    assert [
        text if isinstance(part, str) else json.loads(text) for text, part in zip(read, parts, strict=True)
    ] == expected


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_chunks_are_read_as_what_was_written(parts: list[bytes]) -> None:
    written = b"".join(map(chunk, parts)) + LAST_CHUNK
    read = b""
    while True:
        size, _, written = written.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            break
        read += written[:length]
        assert written[length : length + 2] == b"\r\n"
        written = written[length + 2 :]
    assert written == b"\r\n"
    assert read == b"".join(parts)
