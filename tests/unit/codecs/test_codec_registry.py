"""The table of codecs."""

from __future__ import annotations

import pytest

from hotset.codecs.registry import CODECS, by_name
from hotset.errors import UnsupportedError


def test_by_name() -> None:
    assert {"native", "oip"} <= set(CODECS)
    for name, codec in CODECS.items():
        assert by_name(name) is codec


def test_an_unknown_name() -> None:
    with pytest.raises(UnsupportedError, match=f"no codec 'soap'; expected one of: {', '.join(CODECS)}"):
        by_name("soap")
