"""What the gateway and its fork server say to each other, over a socket pair that keeps messages apart.

One message a packet. With ``Fork`` come two file descriptors, the child's ends of its control and its data socket.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

COMMAND: Final = (sys.executable, "-P", "-m", "hotset.workers.forkserver")
"""What starts a fork server; its end of the socket pair comes behind, as a number."""

MOST_BYTES: Final = 1 << 16


class ImportAhead(msgspec.Struct, array_like=True, frozen=True, tag="import"):
    """To the server: import these modules, in order, before anything else that comes after."""

    modules: tuple[str, ...]


class Fork(msgspec.Struct, array_like=True, frozen=True, tag="fork"):
    """To the server: make a child; its two sockets come along."""

    number: int


class Forked(msgspec.Struct, array_like=True, frozen=True, tag="forked"):
    """To the gateway, from the server and from the child itself: whoever is killed first, the gateway hears of it."""

    number: int
    pid: int


class NotForked(msgspec.Struct, array_like=True, frozen=True, tag="not forked"):
    """To the gateway; with ``is_lasting`` it will never be otherwise."""

    number: int
    reason: str
    is_lasting: bool


class Refused(msgspec.Struct, array_like=True, frozen=True, tag="refused"):
    """To the gateway: this module is not imported ahead of a fork, and why; each child has to do it for itself."""

    module: str
    reason: str


class Imported(msgspec.Struct, array_like=True, frozen=True, tag="imported"):
    """To the gateway: all that was asked for so far is imported, as far as it can be."""

    seconds: float


Order: TypeAlias = ImportAhead | Fork
Reply: TypeAlias = Forked | NotForked | Refused | Imported

encode: Final = msgspec.msgpack.Encoder().encode
decode_order: Final[Callable[[bytes], Order]] = msgspec.msgpack.Decoder(Order).decode
decode_reply: Final[Callable[[bytes], Reply]] = msgspec.msgpack.Decoder(Reply).decode
