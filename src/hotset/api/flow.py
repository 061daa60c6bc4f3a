"""The parts of a streamed answer on their way through the data plane: each within a time limit, under the lease.

The data plane makes one for each streamed answer, and a door iterates it as any ``Rest``. It ends once, whatever ends it:
then the lease is given back, and the request is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Self, TypeAlias, cast

from hotset.api.ports import Lease, StreamingAnswer
from hotset.errors import ErrorKind, HotsetError, UnavailableError
from hotset.limits import Limits
from hotset.payload import Rest, Streamed

Ended: TypeAlias = Callable[[HotsetError | None], None]
"""Gets why an answer broke off; None where it did not, or its client wanted no more."""


class Flow:
    """Implements ``Rest``. Owned by the event loop, and by the door that iterates it."""

    __slots__ = ("_is_over", "_lease", "_limit_s", "_limits", "_rest", "on_end")

    def __init__(self, rest: Rest, lease: Lease, *, limits: Limits, limit_s: float) -> None:
        """``limit_s`` is how long each part may take to come, from when it is asked for."""
        self._rest: Final = rest
        self._lease: Final = lease
        self._limits: Final = limits
        self._limit_s: Final = limit_s
        self._is_over = False
        self.on_end: Ended | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            with self._limits.within(self._limit_s):
                return await anext(self._rest)
        except StopAsyncIteration:
            self._end(None)
            raise
        except TimeoutError as error:
            late = UnavailableError(
                f"the next part of the answer did not come within {self._limit_s:g} s",
                kind=ErrorKind.DEADLINE,
            )
            self._break(late)
            raise late from error
        except HotsetError as error:
            self._break(error)
            raise

    def close(self) -> None:
        self._rest.close()
        self._end(None)

    def _break(self, error: HotsetError) -> None:
        error.key = self._lease.key
        self._rest.close()
        self._end(error)

    def _end(self, error: HotsetError | None) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._lease.release()
        if self.on_end is not None:
            self.on_end(error)


def flowing(streamed: Streamed, lease: Lease, *, limits: Limits, limit_s: float) -> Streamed:
    """Return a streamed answer whose parts hold the lease."""
    flow = Flow(streamed.rest, lease, limits=limits, limit_s=limit_s)
    return Streamed(streamed.body, streamed.content_type, streamed.headers, rest=flow)


def when_over(answer: StreamingAnswer, ended: Ended) -> None:
    """Have ``ended`` called once the answer is over."""
    cast("Flow", cast("Streamed", answer.encoded).rest).on_end = ended
