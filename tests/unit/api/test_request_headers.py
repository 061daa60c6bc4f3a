from __future__ import annotations

import pytest

from hotset.api.headers import all_headers, read_headers
from hotset.errors import InvalidInputError, UnsupportedError


def test_what_a_door_reads_is_found_in_one_pass() -> None:
    found = read_headers(
        [
            (b"host", b"x"),
            (b"content-type", b"application/json"),
            (b"content-length", b"12"),
            (b"x-request-timeout", b"2.5"),
            (b"inference-header-content-length", b"7"),
        ]
    )
    assert found.content_type == "application/json"
    assert found.length == 12
    assert found.timeout_s == 2.5
    assert found.codec == (("inference-header-content-length", "7"),)


def test_nothing_is_needed() -> None:
    assert read_headers([]) == ("", None, None, ())


@pytest.mark.parametrize("value", [b"", b"0", b"-1", b"nan", b"inf", b"1s", b"\xff"])
def test_a_wrong_timeout_is_named(value: bytes) -> None:
    with pytest.raises(InvalidInputError, match="X-Request-Timeout"):
        read_headers([(b"x-request-timeout", value)])


def test_how_a_body_is_compressed_goes_to_its_codec() -> None:
    for value, coding in ((b"gzip", "gzip"), (b" Deflate", "deflate")):
        found = read_headers([(b"content-encoding", value)])
        assert found.codec == (("content-encoding", coding),)
        assert found.is_compressed
    plain = read_headers([(b"content-encoding", b"Identity")])
    assert plain.codec == ()
    assert not plain.is_compressed


@pytest.mark.parametrize("value", [b"br", b"gzip, gzip", b"zstd", b"\xff"])
def test_a_compression_that_is_not_known_is_refused_with_what_was_found(value: bytes) -> None:
    with pytest.raises(
        UnsupportedError, match=f"deflate, gzip; found Content-Encoding: {value.decode('latin-1')}"
    ):
        read_headers([(b"content-encoding", value)])


@pytest.mark.parametrize(
    ("value", "codec"),
    [
        (b"gzip", (("accept-encoding", "gzip"),)),
        (b"deflate", (("accept-encoding", "deflate"),)),
        (b"gzip, deflate", ()),
        (b"*", ()),
        (b"br", ()),
    ],
)
def test_a_client_that_names_one_compression_wants_it(value: bytes, codec: object) -> None:
    assert read_headers([(b"accept-encoding", value)]).codec == codec


def test_a_length_that_is_no_number_is_left_to_the_server() -> None:
    assert read_headers([(b"content-length", b"-5")]).length is None


def test_all_headers_are_text_with_lower_case_names() -> None:
    assert all_headers([(b"X-City", b"Z\xfcrich")]) == (("x-city", "Zürich"),)
