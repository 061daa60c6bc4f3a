"""What is unfinished, run to its end at once, for the warm-up: what it makes is thrown away."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from typing import Any

from hotset.errors import HotsetError
from hotset.payload import Encoded
from hotset.stream import Stream
from hotset.workers.cutting import Cutter
from hotset.workers.loopthread import LoopThread
from hotset.workers.question import failure_of
from hotset.workers.unfinished import Unfinished, stream_of

_DONE = Encoded(b"")


def completed(work: Unfinished, loop: LoopThread) -> Encoded | HotsetError:
    """Return what is left of the answer, or why there is none. Not in the loop's own thread."""
    try:
        return _completed(work, loop)
    except BaseException as error:  # noqa: BLE001 - whatever the user's code raises is the call's own failure
        return failure_of(work.held, error)


def _completed(work: Unfinished, loop: LoopThread) -> Encoded:
    stream = work.work
    if not isinstance(stream, Stream):
        result = loop.run(_awaited(stream))
        found = stream_of(result, work.codec)
        if found is None:
            return work.codec.encode_result(result, work.asked, work.meta)
        stream = found
    cutter = Cutter(work, stream)
    if isinstance(stream.parts, AsyncIterable):
        loop.run(_read(stream.parts, cutter))
    else:
        _read_all(stream.parts, cutter)
    return _DONE


async def _awaited(result: Any) -> Any:
    return await result


async def _read(parts: AsyncIterable[Any], cutter: Cutter) -> None:
    async for part in parts:
        for _ in cutter.cut(part):
            pass


def _read_all(parts: Iterable[Any], cutter: Cutter) -> None:
    for part in parts:
        for _ in cutter.cut(part):
            pass
