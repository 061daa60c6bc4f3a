"""The memory that the gateway shares with one child for large payloads: bodies that are lent to it, and answers of its making.

``process.py`` makes one for each child. Where nothing is shared, bodies go through the socket like all others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hotset.shared.arena import Arena, Place, Segment, create_file
from hotset.shared.mapped import MappedArena
from hotset.workers.framing import WireError


class PayloadMemory:
    """Owned by the event loop. ``opened`` once; any ``lend``, ``returned`` and ``answer``; ``close`` when the child is gone."""

    def __init__(self, bodies: Arena | None, *, on_unused: Callable[[int], None]) -> None:
        """``bodies`` is where large bodies are, None: nowhere; and its size that of the child's own arena, for its answers.

        ``on_unused`` gets the number of an answer of which no view is left: in any thread, so it must only tell somebody else.
        """
        self._bodies = bodies
        self._on_unused = on_unused
        self._answers: MappedArena | None = None
        self._lent: dict[int, Segment] = {}

    @property
    def lent(self) -> int:
        """How many bodies the child has."""
        return len(self._lent)

    @contextmanager
    def opened(self) -> Iterator[tuple[int, list[int]]]:
        """The size of each arena and the files of both, for the child; the file of answers is closed afterwards: the memory stays.

        Raises:
            OSError: the system has no memory that can be shared.
        """
        if self._bodies is None:
            yield 0, []
            return
        size = self._bodies.size
        answers = create_file(size)
        try:
            self._answers = MappedArena(answers, size, on_unused=self._on_unused)
            yield size, [self._bodies.file, answers]
        finally:
            os.close(answers)

    def lend(self, number: int, body: Segment) -> tuple[bytes, Place | None]:
        """Return what to send for a large body; the child has the segment until it says that it has not."""
        if self._bodies is None:
            return body.tobytes(), None
        self._lent[number] = body
        return b"", body.place

    def returned(self, number: int) -> None:
        """The child has that body no longer. One that it does not have is fine."""
        self._lent.pop(number, None)

    def answer(self, number: int, place: Place) -> memoryview:
        """Return an answer of the child's.

        Raises:
            WireError: there is no such place.
        """
        if self._answers is None:
            raise WireError("an answer in shared memory, where none is shared")
        try:
            return self._answers.view(number, place)
        except ValueError as error:
            raise WireError(f"an answer that is nowhere: {error}") from error

    def close(self) -> None:
        """The child is gone, and reads nothing any more. Answers that are still looked at stay."""
        self._lent.clear()
        self._answers = None
