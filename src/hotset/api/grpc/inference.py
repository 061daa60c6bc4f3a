"""``ModelInfer`` and ``ModelStreamInfer``: the path that every prediction over gRPC takes.

Tensors are not looked at: of a request only the model, its version and its id are read, and the rest goes to the worker
as it came. Its answer is a whole ``ModelInferResponse``, or on a stream any number of them.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final

from grpc import aio

from hotset.api.address import check_length
from hotset.api.auth import OPEN_GATE, Access, Gate, check_model
from hotset.api.body import BodyReader
from hotset.api.dataplane import DataPlane
from hotset.api.grpc.asked import Asked, read_asked
from hotset.api.grpc.callers import admit, metadata_for_models, metadata_of
from hotset.api.grpc.conversation import Conversation
from hotset.api.grpc.statuses import as_ours, cut_off, refuse
from hotset.api.grpc.streams import incoming
from hotset.api.ports import Answer
from hotset.errors import HotsetError, InvalidInputError
from hotset.keys import MAX_NAME_BYTES, ModelRef, parse_ref
from hotset.shared.arena import COPY_BYTES, LARGE_BYTES, Payload

PROTOCOL: Final = "oip-grpc"
CODEC: Final = "oip-grpc"
STREAM_CODEC: Final = "oip-grpc-stream"


class Refs:
    """Models as they are named, parsed; those that are asked often are kept. Owned by the event loop."""

    MOST: Final = 8192
    LONGEST: Final = 512

    def __init__(self, *, most_name: int = MAX_NAME_BYTES) -> None:
        self._most_name = most_name
        self._known: dict[tuple[bytes, bytes], ModelRef] = {}

    def find(self, name: bytes, version: bytes) -> ModelRef:
        """Return the ref.

        Raises:
            InvalidInputError: the name or the version is malformed.
        """
        found = self._known.get((name, version))
        if found is not None:
            return found
        try:
            ref = parse_ref(name.decode("utf-8"), version.decode("utf-8"))
            check_length(ref.name, self._most_name)
        except UnicodeDecodeError as error:
            raise InvalidInputError(
                f"expected a name and a version in UTF-8, found: {name[:80]!r}, {version[:80]!r}"
            ) from error
        if len(name) + len(version) <= self.LONGEST:
            if len(self._known) >= self.MOST:
                self._known.clear()
            self._known[name, version] = ref
        return ref


class Inference:
    """Owned by the event loop. Legal order: any RPCs; ``stop`` set by its owner; ``cut_off``."""

    def __init__(
        self,
        dataplane: DataPlane,
        *,
        bodies: BodyReader,
        stop: asyncio.Event,
        gate: Gate = OPEN_GATE,
        most_name: int = MAX_NAME_BYTES,
    ) -> None:
        self._gate: Final = gate if gate.asks_for_tokens else None
        self._metadata_for_models: Final = metadata_for_models if gate.asks_for_tokens else metadata_of
        self._dataplane: Final = dataplane
        self._bodies: Final = bodies
        self._stop: Final = stop
        self._refs: Final = Refs(most_name=most_name)
        self._running: Final[set[asyncio.Task[Any]]] = set()
        self._is_cut_off = False

    def cut_off(self) -> None:
        """Wait no longer for what is inside: answer it with an error."""
        self._is_cut_off = True
        for task in self._running:
            task.cancel()

    async def infer(self, body: bytes, context: Any) -> bytes:
        """Answer one request."""
        ref: ModelRef | None = None
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            ref = self._ref(read_asked(body), context)
            answer = await self._predict(ref, body, context)
        except asyncio.CancelledError:
            if not self._is_cut_off:
                raise
            return refuse(context, cut_off())
        except Exception as error:  # noqa: BLE001 - the last border: it is logged and answered
            return refuse(context, as_ours(error), ref)
        finally:
            self._running.discard(task)
        if answer.tier != "memory":
            context.set_trailing_metadata((_timing(answer),))
        return bytes(answer.encoded.body)

    async def stream(self, _requests: Any, context: Any) -> None:
        """Answer each request of a stream, in as many messages as its model makes; what is wrong with one is its own answer."""
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        conversation = Conversation(
            context.write,
            find=lambda asked: self._ref(asked, context),
            predict=lambda ref, body: self._predict(ref, body, context, codec=STREAM_CODEC),
        )
        try:
            async with incoming(context, self._stop) as messages:
                await conversation.run(messages)
                if messages.is_stopped:
                    refuse(context, cut_off())
        except asyncio.CancelledError:
            if not self._is_cut_off:
                raise
            refuse(context, cut_off())
        except ExceptionGroup as group:
            if group.split(aio.BaseError)[1] is not None:
                raise
            # The client has gone in the middle of a message: grpcio tells so by cancelling, but for a moment not yet.
            raise asyncio.CancelledError from group
        finally:
            self._running.discard(task)

    def _ref(self, asked: Asked, context: Any) -> ModelRef:
        """Return what is asked for, if whoever asks may."""
        try:
            grant = None if self._gate is None else admit(self._gate, context, Access.PREDICT)
            ref = self._refs.find(asked.name, asked.version)
            if grant is not None:
                check_model(grant, ref.name)
            return ref
        except HotsetError as error:
            self._dataplane.observer(PROTOCOL).failed(error.kind, 0.0)
            raise

    async def _predict(self, ref: ModelRef, body: bytes, context: Any, *, codec: str = CODEC) -> Answer:
        payload: Payload = body
        if len(body) >= LARGE_BYTES:
            portion = self._bodies.pile.portion()  # until it is answered
            portion.grow(len(body))
            payload = await self._shared(body)
        return await self._dataplane.infer(
            ref,
            protocol=PROTOCOL,
            codec=codec,
            body=payload,
            content_type="application/grpc",
            headers=partial(self._metadata_for_models, context),
            timeout_s=context.time_remaining(),
        )

    async def _shared(self, body: bytes) -> Payload:
        """Return a large request where the children can read it, once there is room for it."""
        if not self._bodies.shares:
            return body
        has_room = asyncio.Event()
        sink = self._bodies.sink(declared=len(body), on_room=has_room.set)
        try:
            if not sink.append(body[:COPY_BYTES]):
                async with asyncio.timeout(self._bodies.limit_s):
                    await has_room.wait()
            for start in range(COPY_BYTES, len(body), COPY_BYTES):
                await asyncio.sleep(0)  # others' turn
                sink.append(body[start : start + COPY_BYTES])
            return sink.finish()
        except TimeoutError as error:
            raise self._bodies.no_room() from error
        finally:
            sink.drop()


def _timing(answer: Answer) -> tuple[str, str]:
    return "server-timing", f"fetch;dur={answer.fetch_s * 1e3:.1f}, load;dur={answer.load_s * 1e3:.1f}"
