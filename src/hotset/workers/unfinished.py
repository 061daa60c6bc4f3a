"""An answer that ``predict`` has not made yet: a coroutine to await, or a stream to send. ``finishing`` completes it.

Made by ``question`` in a predict thread. It keeps its model in use until whoever completes it says otherwise.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from hotset.codecs.base import Codec, StreamingCodec
from hotset.errors import PredictFailedError, UnsupportedError
from hotset.payload import InferRequest
from hotset.runtimes.base import CallMeta
from hotset.stream import Stream
from hotset.workers.base import PredictCall
from hotset.workers.held import Held

WHOLE: Final = frozenset({dict, list, str, bytes, float, int, np.ndarray, tuple, type(None)})
"""Types of nearly all results, which need not be looked at any closer."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """One call and what its ``predict`` returned. Owned by whoever completes it, who says ``Host.finished`` once."""

    held: Held
    call: PredictCall
    codec: Codec
    meta: CallMeta
    asked: InferRequest | None
    work: Awaitable[Any] | Stream


def unfinished(
    result: Any, held: Held, call: PredictCall, *, codec: Codec, meta: CallMeta, asked: InferRequest | None
) -> Unfinished | None:
    """Return what is left to do for a result; None if it is whole. Its model stays in use, beyond this call.

    Raises:
        PredictFailedError, UnsupportedError: as ``stream_of``.
    """
    work = stream_of(result, codec)
    if work is None:
        if not hasattr(type(result), "__await__"):
            return None
        work = result
    held.keep()
    return Unfinished(held, call, codec, meta, asked, work)


def stream_of(result: Any, codec: Codec) -> Stream | None:
    """Return a result as a stream, if it is one.

    Raises:
        PredictFailedError: it is, and is malformed.
        UnsupportedError: it is, and this protocol has no answers in parts.
    """
    if isinstance(result, Stream):
        stream = result
    elif hasattr(type(result), "__next__") or hasattr(type(result), "__anext__"):
        stream = Stream(result)
    else:
        return None
    if not isinstance(codec, StreamingCodec):
        _close(stream)
        raise UnsupportedError(
            "predict returned a stream, which this protocol cannot carry; ask POST /models/<model>/predict, "
            "or ModelStreamInfer over gRPC"
        )
    problem = _problem_with(stream)
    if problem:
        _close(stream)
        raise PredictFailedError(problem)
    return stream


def _close(stream: Stream) -> None:
    """It has not begun, and an asynchronous one need not be closed then."""
    close = getattr(stream.parts, "close", None)
    if callable(close):
        close()


def _problem_with(stream: Stream) -> str | None:
    content_type: Any = stream.content_type
    if content_type is not None and not _is_header_value(content_type):
        return f"expected a content type such as 'text/csv' for a stream, found: {content_type!r}"
    parts: Any = stream.parts
    if not isinstance(parts, Iterable | AsyncIterable):
        return f"expected an iterable for a stream's parts, found: {type(parts).__name__}"
    return None


def _is_header_value(text: Any) -> bool:
    return isinstance(text, str) and text.isascii() and text.isprintable() and bool(text.strip())
