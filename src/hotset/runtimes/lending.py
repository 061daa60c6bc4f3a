"""What a handler written for Cortex asks for in the middle of a request: the seam to whoever lends it models.

``workers.asking`` implements it, in the process in which the handler runs. Protocols alone, and no behaviour.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Final, Protocol

from hotset.runtimes.base import Servable

REQUEST_HEADER: Final = ":request"
METHOD_HEADER: Final = ":method"
"""What is no header of the client's travels before them as HTTP/2's pseudo-headers do: the number under which a handler
asks for models, and the method of HTTP, where it is not POST."""

STATUS_HEADER: Final = ":status"
"""The same, on the way back: the status of an answer that is not 200."""


class BeginAgainError(BaseException):
    """The request cannot go on where it is, and is begun again: its handler's call is to end.

    No ``Exception``, so that a handler which catches those does not catch this.
    """


class Lender(Protocol):
    """Lends models to handlers. Thread-safe."""

    def request(self, number: int) -> AbstractContextManager[None]:
        """Have what this thread borrows belong to a request; given back at the end.

        Raises (at the end):
            UnavailableError: the request is begun again, and this answer to it is nobody's.
        """
        ...

    def lend(self, name: str, version: str) -> Servable:
        """Return a model that stays loaded until the request ends.

        Raises:
            HotsetError: there is none, or it cannot be loaded.
            BeginAgainError
        """
        ...
