from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotset.api.address import model_ref, raw_path
from hotset.api.reply import header_value
from hotset.errors import InvalidInputError
from hotset.keys import ModelRef, parse_name


def parse(path: str, *, versioned: bool = True) -> ModelRef:
    return model_ref(path.encode(), prefix=b"/models/", suffix=b"/predict", versioned=versioned)


@pytest.mark.parametrize(
    ("path", "ref"),
    [
        ("/models/paris/predict", ModelRef("paris")),
        ("/models/paris/versions/7/predict", ModelRef("paris", 7)),
        ("/models/paris/versions/v7/predict", ModelRef("paris", 7)),
        ("/models/paris/versions/latest/predict", ModelRef("paris")),
        ("/models/paris/versions/stable/predict", ModelRef("paris", "stable")),
        ("/models/acme/paris/predict", ModelRef("acme/paris")),
        ("/models/acme%2Fparis/predict", ModelRef("acme/paris")),
        ("/models/acme%2fparis/versions/%37/predict", ModelRef("acme/paris", 7)),
        ("/models/acme/versions/3/predict", ModelRef("acme", 3)),
        ("/models/acme%2Fversions%2F3/predict", ModelRef("acme/versions/3")),
        ("/models/acme/versions/3/x/predict", ModelRef("acme/versions/3/x")),
        ("/models/a/versions/b/versions/3/predict", ModelRef("a/versions/b", 3)),
        ("/models/z%C3%BCrich/predict", ModelRef("zürich")),
        ("/models/zürich/predict", ModelRef("zürich")),
        ("/models/a%25b/predict", ModelRef("a%b")),
        ("/models/a+b/predict", ModelRef("a+b")),
    ],
)
def test_a_path_names_a_model(path: str, ref: ModelRef) -> None:
    assert parse(path) == ref


@pytest.mark.parametrize(
    "path",
    [
        "/models//predict",
        "/models/a//b/predict",
        "/models/../predict",
        "/models/a/%2e%2e/predict",
        "/models/%2E%2E%2Fetc/predict",
        "/models/a%00b/predict",
        "/models/%ff/predict",
        "/models/a%5Cb/predict",
        "/models/a/versions//predict",
        "/models/a/versions/-1/predict",
        "/models/a/versions/07/predict",
        "/models/a/versions/1%2F2/predict",
        f"/models/{'x' * 600}/predict",
    ],
)
def test_a_malformed_name_or_version_is_refused(path: str) -> None:
    with pytest.raises(InvalidInputError):
        parse(path)


def test_a_route_without_versions_takes_all_of_it_for_the_name() -> None:
    assert parse("/models/a/versions/3/predict", versioned=False) == ModelRef("a/versions/3")


def _is_name(text: str) -> bool:
    try:
        parse_name(text)
    except InvalidInputError:
        return False
    return True


@given(st.text(min_size=1, max_size=30).filter(_is_name), st.one_of(st.none(), st.integers(0, 2**63 - 1)))
def test_every_name_can_be_asked_for_when_fully_quoted(name: str, version: int | None) -> None:
    tail = "" if version is None else f"/versions/{version}"
    path = f"/models/{quote(name, safe='')}{tail}/predict"
    assert parse(path) == (ModelRef(name) if version is None else ModelRef(name, version))


@given(st.text(max_size=30).filter(_is_name))
def test_a_name_in_a_header_is_printable_ascii(name: str) -> None:
    value = header_value(name)
    assert all(0x21 <= byte <= 0x7E for byte in value)


def test_a_name_in_a_header_decodes_to_itself() -> None:
    assert header_value("acme/paris-1.0_x") == b"acme/paris-1.0_x"
    assert header_value("z%C3 ü") == b"z%25C3%20%C3%BC"


@pytest.mark.parametrize(
    ("scope", "path"),
    [
        ({"path": "/a/b", "raw_path": b"/a%2Fb"}, b"/a%2Fb"),
        ({"path": "/x/a", "raw_path": b"/x/a", "root_path": "/x"}, b"/a"),
        ({"path": "/a", "raw_path": b"/a", "root_path": "/x"}, b"/a"),
        ({"path": "/ü%", "raw_path": None}, b"/%C3%BC%25"),
        ({"path": "/a"}, b"/a"),
    ],
)
def test_the_path_is_read_as_it_was_sent(scope: dict[str, object], path: bytes) -> None:
    assert raw_path(scope) == path
