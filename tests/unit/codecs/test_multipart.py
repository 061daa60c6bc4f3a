"""Forms with files, as browsers and HTTP libraries send them."""

from __future__ import annotations

import contextlib

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotset.codecs.multipart import MOST_PARTS, FormFile, read_form_data
from hotset.errors import InvalidInputError

TYPE = "multipart/form-data; boundary=xx"


def sent(**options: object) -> tuple[bytes, str]:
    request = httpx.Request("POST", "http://localhost", **options)  # type: ignore[arg-type]
    return request.read(), request.headers["content-type"]


def part(disposition: str, content: bytes = b"v", more: str = "") -> bytes:
    return f"--xx\r\nContent-Disposition: {disposition}\r\n{more}\r\n".encode() + content + b"\r\n"


def test_fields_are_text_and_files_are_files() -> None:
    body, content_type = sent(
        data={"city": "Zürich", "tags": ["a", "b"]},
        files={"image": ("ü.png", b"\x89PNG\r\n\r\n--xx", "image/png")},
    )
    fields = read_form_data(memoryview(body), content_type)
    image = fields.pop("image")
    assert fields == {"city": "Zürich", "tags": ["a", "b"]}
    assert isinstance(image, FormFile)
    assert (image.filename, image.content_type, image.read()) == (
        "ü.png",
        "image/png",
        b"\x89PNG\r\n\r\n--xx",
    )
    assert image.file.read(4) == b"\x89PNG"


@given(st.dictionaries(st.text("ab-_é", min_size=1), st.binary(), min_size=1, max_size=5))
def test_what_a_client_sends_is_what_is_read(files: dict[str, bytes]) -> None:
    body, content_type = sent(files={name: ("f", data) for name, data in files.items()})
    read = read_form_data(body, content_type)
    assert {name: file.content for name, file in read.items()} == files


@pytest.mark.parametrize(
    ("body", "content_type", "words"),
    [
        (b"", "multipart/form-data", "expected a boundary"),
        (b"", TYPE, "closing boundary"),
        (b"nonsense", TYPE, "is not multipart/form-data"),
        (part('form-data; name="a"'), TYPE, "closing boundary"),
        (part("form-data") + b"--xx--\r\n", TYPE, "no Content-Disposition of form-data with a name"),
        (part('attachment; name="a"') + b"--xx--\r\n", TYPE, "no Content-Disposition of form-data"),
        (
            part('form-data; name="a"', b"\xff") + b"--xx--\r\n",
            TYPE,
            "the field 'a' of the form is not UTF-8",
        ),
        (part('form-data; name="a"', more="X: " + "y" * 9000 + "\r\n") + b"--xx--\r\n", TYPE, "header"),
        (part('form-data; name="a"') * (MOST_PARTS + 1) + b"--xx--\r\n", TYPE, "more than 1000 parts"),
    ],
)
def test_what_is_no_such_form_is_refused(body: bytes, content_type: str, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        read_form_data(body, content_type)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for body in (data, part('form-data; name="a"', data), b"--xx\r\n" + data + b"--xx--\r\n"):
        with contextlib.suppress(InvalidInputError):
            read_form_data(body, TYPE)
