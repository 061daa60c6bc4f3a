"""The table of codecs. Called by the workers, with the name that came beside a request's bytes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final

from hotset.codecs.base import Codec
from hotset.codecs.native import NativeCodec
from hotset.codecs.oip import OipCodec
from hotset.codecs.tfexamples import ClassifyCodec, RegressCodec
from hotset.codecs.tfserving import TfServingCodec
from hotset.errors import UnsupportedError

_ALL: Final[tuple[Codec, ...]] = (
    NativeCodec(),
    OipCodec(),
    TfServingCodec(),
    ClassifyCodec(),
    RegressCodec(),
)
CODECS: Final[Mapping[str, Codec]] = {codec.name: codec for codec in _ALL}
_GRPC: Final = frozenset({"oip-grpc", "oip-grpc-stream"})
"""Not in the table, and imported when they are asked for first: what they need is an extra."""


def by_name(name: str) -> Codec:
    """Return the codec of that name.

    Raises:
        UnsupportedError: there is none; the message names those there are.
    """
    codec = CODECS.get(name)
    if codec is None and name in _GRPC:
        return _grpc(name)
    if codec is None:
        raise UnsupportedError(f"no codec {name!r}; expected one of: {', '.join(CODECS)}")
    return codec


@cache
def _grpc(name: str) -> Codec:
    from hotset.codecs.oip_grpc import OipGrpcCodec
    from hotset.codecs.oip_grpc_parts import OipGrpcStreamCodec

    codecs: tuple[Codec, ...] = (OipGrpcCodec(), OipGrpcStreamCodec())
    return next(codec for codec in codecs if codec.name == name)
