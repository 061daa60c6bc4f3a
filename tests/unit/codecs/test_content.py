"""A body by its content type."""

from __future__ import annotations

import pytest

from hotset.codecs.content import read_payload
from hotset.errors import InvalidInputError

FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("body", "content_type", "payload"),
    [
        (b'{"a": [1, 2.5, null]}', "application/json", {"a": [1, 2.5, None]}),
        (b'{"a": 1}', "Application/JSON; charset=utf-8", {"a": 1}),
        (b"[1]", "application/vnd.city+json", [1]),
        (b'{"a": 1}', "", {"a": 1}),
        (b"plain", "", b"plain"),
        (b"", "", None),
        (b"[" * 9000, "", b"[" * 9000),
        (b'{"a": 1}', FORM, {"a": 1}),
        (b"a=1&b=%C3%A9&a=2&c=", FORM, {"a": ["1", "2"], "b": "é", "c": ""}),
        (b"caf\xc3\xa9", "text/plain", "café"),
        (b"caf\xe9", "text/csv; charset=ISO-8859-1", "café"),
        (b"[1]", "text/plain", "[1]"),
        (b"[1]", "application/octet-stream", b"[1]"),
        (b"\xff", "image/png", b"\xff"),
    ],
)
def test_reads(body: bytes, content_type: str, payload: object) -> None:
    assert read_payload(body, content_type) == payload


@pytest.mark.parametrize(
    ("body", "content_type", "words"),
    [
        (b"", "application/json", "not valid JSON"),
        (b"{'a': 1}", "application/json", "not valid JSON"),
        (b'"\xff"', "application/json", "not valid JSON"),
        (b"[" * 9000 + b"]" * 9000, "application/json", "nested too deeply"),
        (b"\xff", "text/plain", "not text in utf-8"),
        (b"x", "text/plain; charset=idna", "expected a charset of ascii, .*, found: 'idna'"),
        (b"x", "text/plain; charset=klingon", "unknown charset in the content type: 'klingon'"),
    ],
)
def test_refuses(body: bytes, content_type: str, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        read_payload(body, content_type)
