"""One RPC of ``ModelStreamInfer``: the requests that come on it, each with one answer, or with as many as its model makes.

``inference`` makes one for each. Answers begin in the order of their requests; those that come in parts go on beside each
other, and beside whole ones. What is wrong with a request is its own last answer, and the RPC goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final, TypeAlias, cast

from hotset.api.grpc.asked import NOTHING, Asked, read_asked
from hotset.api.grpc.statuses import as_ours, words
from hotset.api.grpc.streams import Incoming, Turn, Turns
from hotset.api.ports import Answer, StreamingAnswer
from hotset.keys import ModelKey, ModelRef
from hotset.messages.fields import framed
from hotset.messages.joined import Unpacker
from hotset.messages.parameters import parameters_of
from hotset.messages.pool import message_class
from hotset.payload import Streamed

Find: TypeAlias = Callable[[Asked], ModelRef]
"""Gives the model that is asked for, if whoever asks may."""

Predict: TypeAlias = Callable[[ModelRef, bytes], Awaitable[Answer]]

AHEAD: Final = 64
"""So many requests of one stream are answered at once; then no more are read until one of them has its last answer."""

WANTS_END: Final = "triton_enable_empty_final_response"
"""The parameter of a request whose client wants to be told when there will be no more parts."""

_INFER_RESPONSE: Final = 2

_Response: Final = message_class("ModelInferResponse")
_StreamResponse: Final = message_class("ModelStreamInferResponse")


def _flagged(*, is_last: bool) -> bytes:
    """Return what is put behind an answer: encoded messages of one type can be joined."""
    message = _Response()
    message.parameters["triton_final_response"].bool_param = is_last
    encoded: bytes = message.SerializeToString()
    return encoded


_LAST: Final = _flagged(is_last=True)
_NOT_LAST: Final = _flagged(is_last=False)


class Conversation:
    """Owned by one RPC. ``run`` once."""

    def __init__(self, write: Callable[[bytes], Awaitable[Any]], *, find: Find, predict: Predict) -> None:
        self._find: Final = find
        self._predict: Final = predict
        self._turns: Final = Turns(write)
        self._room: Final = asyncio.Semaphore(AHEAD)

    async def run(self, messages: Incoming) -> None:
        """Answer all that comes. Cancelled, it gives up what is under way: a model that makes parts is stopped."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._room.acquire()
                body = await messages.next()
                if body is None:
                    return
                group.create_task(self._send(self._answers(body), self._turns.next()))
                del body  # the next one may come in an hour

    async def _send(self, answers: AsyncGenerator[bytes, None], turn: Turn) -> None:
        try:
            async with aclosing(answers):
                async for message in answers:
                    await turn.write(message)
            await turn.end()
        finally:
            self._room.release()

    async def _answers(self, body: bytes) -> AsyncGenerator[bytes, None]:
        """Yield each ``ModelStreamInferResponse`` for one request."""
        asked, ref, rest = NOTHING, None, None
        try:
            asked = read_asked(body)
            ref = self._find(asked)
            answer = await self._predict(ref, body)
            if isinstance(answer, StreamingAnswer):
                rest = cast("Streamed", answer.encoded).rest
            elif answer.encoded.body:
                message = _framed(answer.encoded.body, _LAST)
                # Both may lie in memory that others wait for, and the client may take its time.
                del answer, body
                yield message
                return
            wants_end = parameters_of(body).get(WANTS_END) is True
            del body
            if rest is not None:
                unpacker = Unpacker()
                for part in unpacker.feed(answer.encoded.body):
                    yield _framed(part, _NOT_LAST)
                async for piece in rest:
                    for part in unpacker.feed(piece):
                        yield _framed(part, _NOT_LAST)
            if wants_end:
                yield _framed(_empty(asked, answer.key), _LAST)
        except Exception as error:  # noqa: BLE001 - the last border: it is logged and answered
            yield _failed(asked, words(as_ours(error), ref))
        finally:
            if rest is not None:
                rest.close()


def _framed(response: bytes | memoryview, flag: bytes) -> bytes:
    return b"".join((framed(_INFER_RESPONSE, len(response) + len(flag)), response, flag))


def _empty(asked: Asked, key: ModelKey) -> bytes:
    """Return the answer that has nothing but whose it is."""
    own_id = asked.id.decode("utf-8", "replace")
    message = _Response(model_name=key.name, model_version=str(key.version), id=own_id)
    encoded: bytes = message.SerializeToString()
    return encoded


def _failed(asked: Asked, message: str) -> bytes:
    answer = _StreamResponse(error_message=message)
    answer.infer_response.id = asked.id.decode("utf-8", "replace")
    answer.infer_response.model_name = asked.name.decode("utf-8", "replace")
    answer.infer_response.parameters["triton_final_response"].bool_param = True
    encoded: bytes = answer.SerializeToString()
    return encoded
