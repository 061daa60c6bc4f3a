"""What the bodies of requests take of the server's own memory, all together, and the bound on it.

Bodies that children share have a room of their own (``shared.room``); on the pile is all else that is not small and whole at once:
what has come of a body that is on its way, and large bodies until they are answered where nothing is shared. Every door
counts here. It holds no body itself, and makes nobody wait: past the bound a request is refused.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from hotset.errors import OverloadedError


class Portion:
    """What one request has on the pile. Owned by whoever holds its body: it goes from the pile when nobody refers to it."""

    __slots__ = ("_bytes", "_pile")

    def __init__(self, pile: Pile) -> None:
        self._pile = pile
        self._bytes = 0

    def grow(self, size: int) -> None:
        """Take so many bytes more.

        Raises:
            OverloadedError: there would be too much on the pile.
        """
        self._pile.take(size)
        self._bytes += size

    def clear(self) -> None:
        """Give all of it back."""
        if self._bytes:
            self._pile.give_back(self._bytes)
            self._bytes = 0

    __del__ = clear


class Pile:
    """Owned by the event loop, but for ``give_back``, which may be a finalizer's doing in any thread."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes: Final = limit_bytes
        self._bytes = 0
        self._given_back: Final[deque[int]] = deque()

    @property
    def bytes(self) -> int:
        """What is on it now."""
        given_back = self._given_back
        while given_back:
            self._bytes -= given_back.popleft()
        return self._bytes

    def portion(self) -> Portion:
        """Return an empty one."""
        return Portion(self)

    def take(self, size: int) -> None:
        """For ``Portion``.

        Raises:
            OverloadedError: there would be too much.
        """
        taken = self.bytes
        if taken + size > self.limit_bytes:
            raise OverloadedError(
                f"the memory for bodies is full: {taken} of {self.limit_bytes} bytes are taken (max_bodies_size), "
                f"and this one needs {size} more"
            )
        self._bytes = taken + size

    def give_back(self, size: int) -> None:
        self._given_back.append(size)
