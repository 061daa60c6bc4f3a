"""Where a large store can be cut, so that several listings at a time share it. Pure.

A listing of a bucket is a chain of requests, each of which says where the next one begins. Several chains need to know
where to begin: from the listing before, whose pages showed how the keys lie, or, in the first one, from the keys that
have come so far. Keys compare as Python's strings do: by code point, as their UTF-8 does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

LEAST_PAGES: Final = 8
"""A store of fewer pages is not cut, nor is a part of it."""

NEXT_TO_SLASH: Final = "0"
"""What sorts next to ``/``: a folder's name and this is behind all that is in the folder."""

_SURROGATES: Final = ("\ud800", "\ue000")


@dataclass(slots=True)
class KeyRange:
    """The keys behind ``after``, up to ``until`` and with it; None: to the end. ``patience``: pages before it is cut."""

    after: str = ""
    until: str | None = None
    patience: int = LEAST_PAGES
    pages: int = 0


def known_ranges(pages: Sequence[str], *, most: int) -> list[KeyRange]:
    """Return about equal ranges by the last key of each page of an earlier listing, in order."""
    if not pages:
        return [KeyRange()]
    count = max(1, min(most, len(pages) // LEAST_PAGES))
    cuts = _at_folders([pages[len(pages) * part // count - 1] for part in range(1, count + 1)])
    patience = 2 * max(LEAST_PAGES, len(pages) // count)
    edges = pairwise(["", *cuts, None])
    return [KeyRange(after or "", until, patience) for after, until in edges]


def _at_folders(keys: Sequence[str]) -> Sequence[str]:
    """Return cuts between the keys, behind folders as high above as still tells them apart, so that none is cut in two."""
    *between, last = keys
    for depth in range(1, last.count("/") + 2):
        cuts = ["/".join(key.split("/")[:depth]) + NEXT_TO_SLASH for key in between]
        if all(one < other for one, other in pairwise([*cuts, last])):
            return cuts
    return between


def cuts_behind(key: str, until: str | None) -> Iterator[str]:
    """Yield where what lies between ``key`` and ``until`` may be cut, the last place first.

    Each is next to a beginning of the key, the shortest first: behind all keys that begin so. A place with nothing
    behind it costs a request, and says that all keys begin alike so far.
    """
    for length in range(1, len(key) + 1):
        following = _next_to(key[length - 1])
        cut = key[: length - 1] + following
        if following and (until is None or cut < until):
            yield cut


def _next_to(letter: str) -> str:
    """Return the next character, or none where there is none that a key may hold."""
    code = ord(letter) + 1
    if code == ord(_SURROGATES[0]):
        return _SURROGATES[1]
    return chr(code) if code < 0x11_0000 and chr(code).isprintable() and chr(code) != "/" else ""
