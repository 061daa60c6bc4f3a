"""Compressed bodies, both ways."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotset.codecs.compression import LEAST_BYTES, coding_of, packed, unpacked, wished_coding
from hotset.errors import InvalidInputError
from hotset.payload import Encoded

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda body: gzip.compress(body),  # noqa: PLW0108 - mypy does not see that its other arguments have defaults
    "deflate": zlib.compress,
}
UNPACKERS: dict[str, Callable[[Any], bytes]] = {"gzip": gzip.decompress, "deflate": zlib.decompress}
CODINGS = sorted(PACKERS)


@pytest.mark.parametrize("coding", CODINGS)
@given(body=st.binary(max_size=300))
def test_what_others_pack_is_unpacked(coding: str, body: bytes) -> None:
    sent = PACKERS[coding](body)
    assert unpacked(sent, coding, limit_bytes=len(body)) == body
    assert unpacked(memoryview(sent), coding, limit_bytes=10_000) == body


@pytest.mark.parametrize("coding", CODINGS)
def test_what_is_packed_others_unpack(coding: str) -> None:
    body = b"0.25," * LEAST_BYTES
    answer = packed(Encoded(memoryview(body), "text/x", (("a", "b"),)), coding)
    assert UNPACKERS[coding](answer.body) == body
    assert answer.content_type == "text/x"
    assert answer.headers == (("a", "b"), ("content-encoding", coding))


def test_an_answer_that_would_not_get_smaller_stays_as_it_is() -> None:
    noise = bytes((index * index * 2654435761 >> 7) & 0xFF for index in range(LEAST_BYTES))
    for body in (b"0" * (LEAST_BYTES - 1), zlib.compress(noise, 9)):
        answer = Encoded(body)
        assert packed(answer, "gzip") is answer


@pytest.mark.parametrize("coding", CODINGS)
def test_a_bomb_is_not_unpacked(coding: str) -> None:
    bomb = PACKERS[coding](bytes(64 << 20))
    assert len(bomb) < 1 << 17
    with pytest.raises(InvalidInputError, match=f"more than 1000 bytes when it is unpacked from {coding}"):
        unpacked(bomb, coding, limit_bytes=1000)
    many = gzip.compress(bytes(400)) * 3
    with pytest.raises(InvalidInputError, match="more than 1000 bytes"):
        unpacked(many, "gzip", limit_bytes=1000)
    assert unpacked(many, "gzip", limit_bytes=1200) == bytes(1200)


@pytest.mark.parametrize("coding", CODINGS)
def test_data_that_is_cut_short(coding: str) -> None:
    sent = PACKERS[coding](b"some text that is long enough")
    for end in range(len(sent)):
        with pytest.raises(InvalidInputError):
            unpacked(sent[:end], coding, limit_bytes=1000)


@pytest.mark.parametrize("coding", CODINGS)
@given(data=st.binary(max_size=60), behind=st.binary(max_size=5))
def test_any_bytes_are_unpacked_or_refused(coding: str, data: bytes, behind: bytes) -> None:
    for sent in (data, PACKERS[coding](data) + behind):
        try:
            assert len(unpacked(sent, coding, limit_bytes=100)) <= 100
        except InvalidInputError:
            continue


def test_deflate_without_its_frame() -> None:
    stream = zlib.compressobj(wbits=-15)
    assert unpacked(stream.compress(b"rome") + stream.flush(), "deflate", limit_bytes=10) == b"rome"


def test_what_is_behind_deflated_data() -> None:
    with pytest.raises(InvalidInputError, match="3 bytes behind its deflate data"):
        unpacked(zlib.compress(b"rome") + b"abc", "deflate", limit_bytes=10)


@pytest.mark.parametrize(
    ("value", "coding"), [("gzip", "gzip"), (" GZip ", "gzip"), ("gzip, deflate", None), ("identity", None)]
)
def test_what_headers_say(value: str, coding: str | None) -> None:
    assert coding_of((("x", "y"), ("content-encoding", value))) == coding
    assert wished_coding((("x", "y"), ("accept-encoding", value))) == coding
    assert coding_of((("accept-encoding", value),)) is None
