"""What goes back under the number of a call: a whole answer, a failure, or an answer in parts.

Made by the predict threads and by ``finishing``, carried by a mailbox. An answer in parts is ``Begun``, any ``Part``, and
``End`` or a failure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from hotset.errors import HotsetError
from hotset.payload import Encoded

WINDOW: Final = 16
"""So many parts of an answer are under way at most: then its maker waits until some were taken."""

PIECE_BYTES: Final = 1 << 16
"""A larger part is cut, so that a window is no more than a mebibyte."""


@dataclass(frozen=True, slots=True)
class Begun:
    """The first part, with the type of all. It takes no room in the window."""

    first: Encoded


@dataclass(frozen=True, slots=True)
class Part:
    """One more part, or a piece of it."""

    body: bytes


@dataclass(frozen=True, slots=True)
class End:
    """There was no more."""


Outcome: TypeAlias = Encoded | HotsetError | Begun | Part | End


class Answered(NamedTuple):
    """What goes back under the number of a job."""

    number: int
    outcome: Outcome
