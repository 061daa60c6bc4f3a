"""The table of codecs. Called by the workers, with the name that came beside a request's bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from hotset.codecs.base import Codec
from hotset.codecs.native import NativeCodec
from hotset.codecs.oip import OipCodec
from hotset.errors import UnsupportedError

CODECS: Final[Mapping[str, Codec]] = {codec.name: codec for codec in (NativeCodec(), OipCodec())}


def by_name(name: str) -> Codec:
    """Return the codec of that name.

    Raises:
        UnsupportedError: there is none; the message names those there are.
    """
    codec = CODECS.get(name)
    if codec is None:
        raise UnsupportedError(f"no codec {name!r}; expected one of: {', '.join(CODECS)}")
    return codec
