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


def test_a_compressed_body_is_refused_with_what_was_found() -> None:
    with pytest.raises(UnsupportedError, match="gzip"):
        read_headers([(b"content-encoding", b"gzip")])
    assert read_headers([(b"content-encoding", b"Identity")]).length is None


def test_a_length_that_is_no_number_is_left_to_the_server() -> None:
    assert read_headers([(b"content-length", b"-5")]).length is None


def test_all_headers_are_text_with_lower_case_names() -> None:
    assert all_headers([(b"X-City", b"Z\xfcrich")]) == (("x-city", "Zürich"),)
