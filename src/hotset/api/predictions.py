"""The prediction routes: the path that every request of every client takes. A ``Door`` says what differs between protocols.

There are two ways in. ``connection`` brings whole requests to ``start``, and sends the bytes that ``rendered`` makes of
the outcome; that is how hotset's own server works. ``app`` brings ASGI requests to ``serve``, behind any other server.
Nothing here depends on how many models or routes there are, and nothing parses a body.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final, NamedTuple, TypeAlias, cast

from hotset.api.address import check_length, model_ref
from hotset.api.auth import OPEN_GATE, Access, Gate, check_model
from hotset.api.body import BodyReader, BodySink, ClientGoneError
from hotset.api.dataplane import DataPlane
from hotset.api.errors import (
    HttpError,
    WrongMethod,
    cut_off_reply,
    error_reply,
    resolved_headers,
    wrong_method,
)
from hotset.api.headers import RequestHeaders, all_headers, headers_without_token, read_headers
from hotset.api.http1 import Heads, Wire, rendered, stream_head, whole, with_json_length
from hotset.api.pile import Portion
from hotset.api.ports import Answer, StreamingAnswer
from hotset.api.reply import RawHeader, Receive, Reply, Scope, Send, send_head, send_reply
from hotset.api.started import Done
from hotset.errors import ErrorKind, HotsetError, InvalidInputError
from hotset.keys import MAX_NAME_BYTES, ModelRef
from hotset.payload import Rest, Streamed
from hotset.shared.arena import Payload

_EVENTS: Final = "text/event-stream"

Explain: TypeAlias = Callable[[HotsetError, ModelRef], str | None]
"""Puts an error into the words that a protocol's clients match on; None leaves it in its own."""


_STATUS: Final = ":status"
"""Among an answer's headers, but none of HTTP's: the status, where it is not 200."""

StatusOf: TypeAlias = Callable[[HotsetError, ModelRef], int | None]
"""The status that a protocol's clients expect of an error; None leaves it as it is for all."""


def own_words(_error: HotsetError, _ref: ModelRef) -> str | None:
    """Leave every error in its own words."""
    return None


def own_status(_error: HotsetError, _ref: ModelRef) -> int | None:
    """Leave every error its own status."""
    return None


def told(error: HotsetError, ref: ModelRef | None, *, explain: Explain, status: StatusOf) -> Reply:
    """Return the answer for an error in the words of a protocol; without ``ref`` the name itself was wrong."""
    if ref is None:
        return error_reply(error)
    return error_reply(error, message=explain(error, ref), status=status(error, ref))


@dataclass(frozen=True, slots=True)
class Door:
    """One protocol's prediction route: ``<prefix><model>[/versions/<version>]<suffix>``, POST only.

    Where it is ``labelled``, ``/labels/<label>`` may stand in the place of the version. With ``only`` it is the path
    ``prefix`` alone, asked with ``method``, and always means that ref.
    """

    protocol: str
    codec: str
    prefix: bytes
    suffix: bytes
    explain: Explain = own_words
    status: StatusOf = own_status
    labelled: bool = False
    method: str = "POST"
    only: ModelRef | None = None
    wrong_method: WrongMethod = wrong_method

    def opens(self, path: bytes) -> bool:
        if self.only is not None:
            return path == self.prefix
        return (
            path.startswith(self.prefix)
            and path.endswith(self.suffix)
            and len(path) >= len(self.prefix) + len(self.suffix)
        )

    def ref(self, path: bytes) -> ModelRef:
        """Return the ref in a path that it opens.

        Raises:
            InvalidInputError: the name or the version is malformed.
        """
        if self.only is not None:
            return self.only
        return model_ref(path, prefix=self.prefix, suffix=self.suffix, labelled=self.labelled)


class BrokenOffError(Exception):
    """An answer has begun and cannot be ended: the client must not take it for whole."""


class Target(NamedTuple):
    """What a request's first line asks for: a prediction of ``ref``, or why its name is wrong in itself.

    In words and not as an exception: targets are kept, and one that is raised again and again grows by a traceback
    each time, with all that it refers to.
    """

    door: Door
    ref: ModelRef | str
    query: str


class Predictions:
    """Owned by the event loop. Any number of ``serve`` at once; or, for one request, ``target``, ``head``, ``start``."""

    def __init__(
        self,
        dataplane: DataPlane,
        *,
        bodies: BodyReader,
        doors: Sequence[Door],
        gate: Gate = OPEN_GATE,
        most_name: int = MAX_NAME_BYTES,
    ) -> None:
        self._most_name: Final = most_name
        self._gate: Final = gate
        # Chosen once: where there are no tokens, no request pays for a look at them.
        self.head: Final = self._head_behind_gate if gate.asks_for_tokens else self._head
        self._headers_for_models: Final = headers_without_token if gate.asks_for_tokens else all_headers
        self._dataplane: Final = dataplane
        self._bodies: Final = bodies
        self._doors: Final = tuple(doors)
        self._heads: Final = Heads()

    def door(self, path: bytes) -> Door | None:
        """Return the door that a path leads to, if it is one of predictions."""
        for door in self._doors:
            if door.opens(path):
                return door
        return None

    # Whole requests

    @property
    def limit_bytes(self) -> int:
        """How large a body may be."""
        return self._bodies.limit_bytes

    @property
    def limit_s(self) -> float:
        """How long a body may take to come."""
        return self._bodies.limit_s

    def target(self, path: bytes, query: bytes) -> Target | None:
        """Return what a path asks for, if that is a prediction. It depends on nothing else, so it may be kept."""
        door = self.door(path)
        if door is None:
            return None
        ref: ModelRef | str
        try:
            ref = door.ref(path)
            check_length(ref.name, self._most_name)
        except InvalidInputError as error:
            ref = str(error)
        return Target(door, ref, query.decode("latin-1"))

    def _head_behind_gate(self, target: Target, raw: Sequence[RawHeader]) -> RequestHeaders:
        """The same as ``_head``, for those who may."""
        grant = self._gate.admit({"headers": raw}, Access.PREDICT)
        if isinstance(target.ref, ModelRef):
            check_model(grant, target.ref.name)
        return self._head(target, raw)

    def _head(self, target: Target, raw: Sequence[RawHeader]) -> RequestHeaders:
        """Read the headers, and refuse what need not be read to its end.

        Raises:
            HotsetError, HttpError: to be told with ``refused``.
        """
        if isinstance(target.ref, str):
            raise InvalidInputError(target.ref)
        headers = read_headers(raw)
        self._dataplane.check_open(target.ref)
        if headers.length is not None and headers.length > self._bodies.limit_bytes:
            raise self._bodies.too_large()
        return headers

    def portion(self) -> Portion:
        """Return what counts a body's bytes on the heap."""
        return self._bodies.pile.portion()

    def sink(self, headers: RequestHeaders, *, on_room: Callable[[], None], portion: Portion) -> BodySink:
        """Return where the parts of a body go that does not come in one."""
        return self._bodies.sink(declared=headers.length, on_room=on_room, portion=portion)

    def too_late(self, *, waited_for_room: bool) -> HotsetError | HttpError:
        """Return why a body was not whole in time."""
        return self._bodies.no_room() if waited_for_room else self._bodies.too_late()

    def refused(self, target: Target, error: HotsetError | HttpError, *, keep_alive: bool) -> Wire:
        """Return the answer to a request that never reached the data plane, which counts all others."""
        self._refused(target.door, error.kind if isinstance(error, HotsetError) else ErrorKind.INVALID_INPUT)
        return self.rendered(target, error, keep_alive=keep_alive)

    def start(
        self, target: Target, headers: RequestHeaders, raw: Sequence[RawHeader], body: Payload, done: Done
    ) -> None:
        """Answer a whole request: ``done`` gets what ``rendered`` takes."""
        assert isinstance(target.ref, ModelRef)
        self._dataplane.start(
            target.ref,
            protocol=target.door.protocol,
            codec=target.door.codec,
            body=body,
            content_type=headers.content_type,
            query_string=target.query,
            headers=partial(self._headers_for_models, raw),
            codec_headers=headers.codec,
            timeout_s=headers.timeout_s,
            done=done,
        )

    def rendered(self, target: Target, outcome: Answer | Exception, *, keep_alive: bool) -> Wire:
        """Return the bytes of HTTP/1.1 for an outcome."""
        if isinstance(outcome, Answer):
            try:
                return self._good(outcome, keep_alive=keep_alive)
            except UnicodeEncodeError as error:  # in a header, which only user code can bring
                return rendered(error_reply(error), keep_alive=keep_alive)
        return rendered(_failed(target, outcome), keep_alive=keep_alive)

    def opened(self, answer: StreamingAnswer, *, keep_alive: bool, is_chunked: bool) -> bytes:
        """Return the head of a streamed answer.

        Raises:
            ValueError: it cannot be sent; to be told with ``rendered``.
        """
        return stream_head(_good(answer), keep_alive=keep_alive, is_chunked=is_chunked)

    def _good(self, answer: Answer, *, keep_alive: bool) -> Wire:
        encoded = answer.encoded
        if answer.tier == "memory" and not encoded.headers and keep_alive:
            head = self._heads.of(answer.key, encoded.content_type)
            if head is not None:
                return whole(head, encoded.body)
        elif answer.tier == "memory" and len(encoded.headers) == 1 and keep_alive:
            head = self._heads.of(answer.key, encoded.content_type)
            head = None if head is None else with_json_length(head, *encoded.headers[0])
            if head is not None:
                return whole(head, encoded.body)
        return rendered(_good(answer), keep_alive=keep_alive)

    # Behind another ASGI server

    async def serve(self, door: Door, path: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens to it."""
        ref: ModelRef | None = None
        try:
            if scope["method"] != door.method:
                raise door.wrong_method(scope["method"], path.decode("latin-1"), door.method)
            ref = self._admitted(door, path, scope)
            portion = self.portion()  # kept until the answer was sent
            headers, body = await self._request(door, ref, scope, receive, portion)
            answer = await self._dataplane.infer(
                ref,
                protocol=door.protocol,
                codec=door.codec,
                body=body,
                content_type=headers.content_type,
                query_string=scope["query_string"].decode("latin-1"),
                headers=partial(self._headers_for_models, scope["headers"]),
                codec_headers=headers.codec,
                timeout_s=headers.timeout_s,
            )
            if isinstance(answer, StreamingAnswer):
                await self._serve_parts(answer, receive, send)
                return
            reply = _good(answer)
        except ClientGoneError:
            return
        except asyncio.CancelledError:
            if not self._dataplane.draining:
                raise
            reply = cut_off_reply()
        except HotsetError as error:
            reply = told(error, ref, explain=door.explain, status=door.status)
        except BrokenOffError:
            raise
        except Exception as error:  # noqa: BLE001 - the last border: it is logged and answered
            reply = error_reply(error)
        await send_reply(reply, send)

    async def _serve_parts(self, answer: StreamingAnswer, receive: Receive, send: Send) -> None:
        """Send a streamed answer.

        Raises:
            BrokenOffError: it is not whole. What the server makes of that is that the client sees it.
        """
        encoded = cast("Streamed", answer.encoded)
        watch = asyncio.get_running_loop().create_task(_close_when_gone(encoded.rest, receive))
        try:
            await send_head(_good(answer), send)
            await send({"type": "http.response.body", "body": bytes(encoded.body), "more_body": True})
            async for part in encoded.rest:
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except HotsetError as error:
            event = error_event(encoded.content_type, error)
            await send({"type": "http.response.body", "body": event, "more_body": True})
            raise BrokenOffError(str(error)) from error
        finally:
            encoded.rest.close()
            watch.cancel()

    def _admitted(self, door: Door, path: bytes, scope: Scope) -> ModelRef:
        try:
            grant = self._gate.admit(scope, Access.PREDICT)
            ref = door.ref(path)
            check_length(ref.name, self._most_name)
            check_model(grant, ref.name)
            return ref
        except HotsetError as error:
            self._refused(door, error.kind)
            raise

    async def _request(
        self, door: Door, ref: ModelRef, scope: Scope, receive: Receive, portion: Portion
    ) -> tuple[RequestHeaders, Payload]:
        try:
            headers = read_headers(scope["headers"])
            self._dataplane.check_open(ref)
            return headers, await self._bodies.read_payload(receive, portion=portion, declared=headers.length)
        except HotsetError as error:
            self._refused(door, error.kind)
            raise
        except HttpError:
            self._refused(door, ErrorKind.INVALID_INPUT)
            raise

    def _refused(self, door: Door, kind: ErrorKind) -> None:
        """Count a request that never reached the data plane, which counts all others."""
        self._dataplane.observer(door.protocol).failed(kind, 0.0)


async def _close_when_gone(rest: Rest, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    rest.close()


def error_event(content_type: str, error: HotsetError) -> bytes:
    """Return how a streamed answer says that it broke off; nothing where its type has no way to."""
    if content_type.partition(";")[0].strip().lower() != _EVENTS:
        return b""
    return b"".join((b"event: error\ndata: ", error_reply(error).body, b"\n\n"))


def _failed(target: Target, error: Exception) -> Reply:
    if isinstance(error, HotsetError) and isinstance(target.ref, ModelRef):
        return told(error, target.ref, explain=target.door.explain, status=target.door.status)
    return error_reply(error)


def _good(answer: Answer) -> Reply:
    encoded = answer.encoded
    headers = resolved_headers(*answer.key)
    if answer.tier != "memory":
        timing = f"fetch;dur={answer.fetch_s * 1e3:.1f}, load;dur={answer.load_s * 1e3:.1f}"
        headers.append((b"server-timing", timing.encode("ascii")))
    status = 200
    for name, value in encoded.headers:
        if name == _STATUS:
            status = _known_status(value)
        else:
            headers.append((name.lower().encode("ascii"), value.encode("latin-1")))
    return Reply(status, encoded.body, encoded.content_type.encode("latin-1"), headers)


def _known_status(value: str) -> int:
    """Return the status that a handler gave its answer; one that HTTP has not is the handler's fault."""
    try:
        return HTTPStatus(int(value)).value
    except ValueError:
        return HTTPStatus.INTERNAL_SERVER_ERROR.value
