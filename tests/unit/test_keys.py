"""Names, versions, refs and fingerprints: what passes the border and what does not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hotset.errors import InvalidInputError
from hotset.keys import (
    LATEST,
    MAX_NAME_BYTES,
    MAX_VERSION,
    ModelKey,
    ModelRef,
    fingerprint,
    parse_name,
    parse_ref,
    parse_version,
)

any_text = st.text(st.characters(), max_size=40)
nasty = st.text(st.sampled_from("a./\\_-\0\n\r\x7f\u202e\u2028\ud800é %?#:"), max_size=12)
objects = st.lists(st.tuples(any_text | nasty, st.integers(0, 2**50), any_text | nasty), max_size=4)


# Names


@pytest.mark.parametrize(
    "name",
    ["paris", "acme/paris", "São Paulo", "東京", "a.b", "a_b", "a-b", "a:b", "1", "v1", "latest", "x" * 255],
)
def test_names(name: str):
    assert parse_name(name) == name


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "is empty"),
        ("/", "an empty part"),
        ("/paris", "an empty part"),
        ("paris/", "an empty part"),
        ("a//b", "an empty part"),
        (".", "the part '.'"),
        ("a/../b", "the part '..'"),
        ("..", "the part '..'"),
        (".hidden", "starts with '.'"),
        ("a/_SUCCESS", "starts with '_'"),
        ("a\\b", "a backslash"),
        ("a\0b", "unprintable"),
        ("a\nb", "unprintable"),
        ("a\x1b[31mb", "unprintable"),
        ("a\u202eb", "unprintable"),
        ("a\ud800b", "unprintable"),
        ("x" * 256, "longer than 255 bytes"),
        ("é" * 128, "longer than 255 bytes"),
        ("/".join(["x" * 200] * 3), f"longer than {MAX_NAME_BYTES} bytes"),
    ],
)
def test_what_is_no_name(name: str, problem: str):
    with pytest.raises(InvalidInputError, match=problem):
        parse_name(name)


@pytest.mark.parametrize(
    ("name", "depth", "fits"), [("a", 1, True), ("a/b", 2, True), ("a", 2, False), ("a/b", 1, False)]
)
def test_the_number_of_parts(name: str, depth: int, fits: bool):
    if fits:
        assert parse_name(name, depth=depth) == name
    else:
        with pytest.raises(InvalidInputError, match=f"a name of {depth} part"):
            parse_name(name, depth=depth)


def is_name(text: str) -> bool:
    try:
        parse_name(text)
    except InvalidInputError:
        return False
    return True


@given((any_text | nasty).filter(is_name))
def test_a_name_stays_below_our_directory_and_in_one_line(name: str):
    assert os.path.normpath(f"/ours/{name}") == f"/ours/{name}"
    assert name.isprintable()
    assert name.encode()


@given((any_text | nasty).filter(lambda text: not is_name(text)))
def test_a_refusal_is_one_line_whatever_was_sent(text: str):
    with pytest.raises(InvalidInputError) as info:
        parse_name(text)
    assert str(info.value).isprintable()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given((any_text | nasty | st.integers(250, 260).map("x".__mul__)).filter(is_name))
def test_a_name_can_be_a_directory(tmp_path: Path, name: str):
    (tmp_path / name).mkdir(parents=True, exist_ok=True)


@given(st.text(min_size=1, max_size=9).map(lambda text: text * 600))
def test_a_long_name_is_not_repeated_whole(text: str):
    with pytest.raises(InvalidInputError) as info:
        parse_name(text)
    assert len(str(info.value)) < 600


# Versions


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("7", 7),
        ("v7", 7),
        ("0", 0),
        ("v0", 0),
        (str(MAX_VERSION), MAX_VERSION),
        (str(MAX_VERSION + 1), None),
        ("9" * 19, None),
        ("9" * 5000, None),
        ("07", None),
        ("v07", None),
        ("+7", None),
        ("-7", None),
        ("V7", None),
        ("vv7", None),
        ("v", None),
        ("", None),
        ("7 ", None),
        ("7\n", None),
        ("7.0", None),
        ("1_0", None),
        ("\u0667", None),
        ("\uff17", None),
        ("latest", None),
    ],
)
def test_versions(text: str, version: int | None):
    assert parse_version(text) == version


@given(st.integers(0, MAX_VERSION))
def test_every_number_is_a_version(number: int):
    assert parse_version(str(number)) == parse_version(f"v{number}") == number


@given(any_text | st.from_regex(r"v?[0-9]{1,21}\n?"))
def test_a_version_has_two_spellings_and_no_more(text: str):
    number = parse_version(text)
    if number is not None:
        assert text in {str(number), f"v{number}"}
        assert 0 <= number <= MAX_VERSION


# Refs


@pytest.mark.parametrize(
    ("word", "version"),
    [
        (None, LATEST),
        ("", LATEST),
        ("latest", LATEST),
        ("7", 7),
        ("v7", 7),
        ("stable", "stable"),
        ("v07", "v07"),
    ],
)
def test_refs(word: str | None, version: int | str):
    assert parse_ref("paris", word) == ModelRef("paris", version)


@pytest.mark.parametrize("word", ["-1", "07", "7.0", "a b", "a/b", "a\n", " ", "1" * 30, "x" * 200, "é"])
def test_what_is_no_version_word(word: str):
    with pytest.raises(InvalidInputError, match="expected a version number, 'latest' or a label"):
        parse_ref("paris", word)


def test_a_ref_with_a_wrong_name():
    with pytest.raises(InvalidInputError, match=r"the part '\.\.'"):
        parse_ref("../etc", "1")


def test_a_resolved_ref_and_a_key_are_equal_and_print_alike():
    """The memory tier looks a ref with a number up among keys, on every request."""
    assert ModelRef("paris", 7) == ModelKey("paris", 7)
    assert hash(ModelRef("paris", 7)) == hash(ModelKey("paris", 7))
    assert str(ModelRef("paris", 7)) == str(ModelKey("paris", 7)) == "paris@7"
    assert str(ModelRef("paris")) == "paris@latest"


def test_keys_are_ordered_by_name_and_then_by_number():
    keys = [ModelKey("rome", 1), ModelKey("paris", 10), ModelKey("paris", 9)]
    assert sorted(keys) == [ModelKey("paris", 9), ModelKey("paris", 10), ModelKey("rome", 1)]


# Fingerprints


@given(objects)
def test_a_fingerprint_does_not_depend_on_the_order(listed: list[tuple[str, int, str]]):
    assert fingerprint(listed) == fingerprint(reversed(listed))


@given(objects)
def test_a_fingerprint_is_safe_as_a_file_name(listed: list[tuple[str, int, str]]):
    digest = fingerprint(listed)
    assert len(digest) == 32
    assert set(digest) <= set("0123456789abcdef")


@given(objects, objects)
def test_different_objects_have_different_fingerprints(
    one: list[tuple[str, int, str]], other: list[tuple[str, int, str]]
):
    assert (fingerprint(one) == fingerprint(other)) == (sorted(one) == sorted(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([("a", 1, "x"), ("b", 2, "y")], [("a\x001\x00x\nb", 2, "y")]),
        ([("a", 1, "x\nb\x002\x00y")], [("a", 1, "x"), ("b", 2, "y")]),
        ([("a", 11, "x")], [("a1", 1, "x")]),
        ([("a", 1, "1x")], [("a", 11, "x")]),
        ([("ab", 1, "c")], [("a", 1, "bc")]),
        ([], [("", 0, "")]),
    ],
)
def test_no_name_of_an_object_looks_like_two_objects(
    one: list[tuple[str, int, str]], other: list[tuple[str, int, str]]
):
    """Whoever can name objects must not be able to give two versions one fingerprint."""
    assert fingerprint(one) != fingerprint(other)
