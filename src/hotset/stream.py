"""What the user's ``predict`` may return in place of an answer that is whole: a ``Stream``. Re-exported by ``hotset``.

It imports nothing, so that a predictor that imports it pays for nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer that goes to the client part by part, as ``parts`` makes them.

    A generator, an asynchronous generator or any other iterator that ``predict`` returns is as good as
    ``Stream(generator)``; with ``content_type`` the client is told this type, and not one by what the first part is.
    """

    parts: Iterable[Any] | AsyncIterable[Any]
    content_type: str | None = None
