"""The pure parts of a remote listing: bad keys in obstore's words, and markers of folders."""

from __future__ import annotations

import pytest

from hotset.store import ObjectMeta
from hotset.store.listing import BadKey, parse_bad_key, without_markers

EMPTY = 'Encountered object with invalid path: Path "{}" contained empty path segment'
ILLEGAL = 'Encountered object with invalid path: Error parsing Path "{}": Encountered illegal character sequence "x" whilst'


@pytest.mark.parametrize(
    ("message", "root", "expected"),
    [
        (EMPTY.format("a//b"), "", BadKey("a//b", "a/", "a/0", False)),
        (EMPTY.format("/"), "", BadKey("/", "", "0", False)),
        (EMPTY.format("prod/a/b//c"), "prod", BadKey("a/b//c", "a/b/", "a/b/0", False)),
        (ILLEGAL.format("a/../b"), "", BadKey("a/../b", "a/", "a/..0", False)),
        (ILLEGAL.format("a/./b"), "", BadKey("a/./b", "a/", "a/.0", False)),
        (ILLEGAL.format('a/I"con\r'), "", BadKey('a/I"con\r', "a/", 'a/I"con ', True)),
        (ILLEGAL.format("a/\nb/c"), "", BadKey("a/\nb/c", "a/", "a/ ", False)),
        (ILLEGAL.format("a\x7fb/c"), "", BadKey("a\x7fb/c", "", "a\x80", True)),
        (EMPTY.format("other//b"), "prod", None),
        ("another message", "", None),
        (EMPTY.format("a/b"), "", None),
    ],
)
def test_parse_bad_key(message: str, root: str, expected: BadKey | None) -> None:
    assert parse_bad_key(message, root=root) == expected


def objects(*paths: str) -> list[ObjectMeta]:
    """Those that end in ``!`` are empty."""
    return [
        ObjectMeta(path=path.rstrip("!"), size=0 if path.endswith("!") else 1, etag="e", modified_s=0.0)
        for path in paths
    ]


@pytest.mark.parametrize(
    ("paths", "prefix", "kept"),
    [
        (["a!", "a/1!", "a/1/m", "b"], "", ["a/1/m", "b"]),
        (["a/empty!", "a/m"], "", ["a/empty", "a/m"]),
        (["a", "a/m"], "", ["a", "a/m"]),
        (["a!", "a!", "a/m"], "", ["a/m"]),
        (["a!", "ab"], "", ["a", "ab"]),
        (["!", "a"], "", ["a"]),
        (["a!", "a/1/m"], "a/", ["a/1/m"]),
        ([], "", []),
    ],
)
def test_without_markers(paths: list[str], prefix: str, kept: list[str]) -> None:
    for cut in range(len(paths) + 1):
        first, held = without_markers(None, objects(*paths[:cut]), prefix)
        second, held = without_markers(held, objects(*paths[cut:]), prefix)
        found = [*first, *second, *([held] if held else [])]
        assert [object_.path for object_ in found] == kept
