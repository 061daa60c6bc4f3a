"""One client's HTTP/1.1 connection: uvicorn's, but predictions are answered without a task or an ASGI call.

``server.py`` gives the class to uvicorn, which makes one for each connection. httptools parses, whatever is asked. A
prediction is collected here, started in the data plane, and its answer written in the step in which it comes; every
other request goes uvicorn's way to the ASGI app. Requests that a client sends ahead (pipelining) are predicted side by
side and answered in order; they never overtake, or are overtaken by, one that goes uvicorn's way.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from hotset.api.errors import cut_off_reply, error_reply
from hotset.api.host_header import host_fault
from hotset.api.http1 import Wire, rendered
from hotset.api.ports import Answer, StreamingAnswer
from hotset.api.predictions import Predictions
from hotset.crowd import WANTED_FILES, make_way, most_connections
from hotset.errors import InvalidInputError, OverloadedError
from hotset.exchange import Exchange, Place, Targets
from hotset.outflow import Outflow
from hotset.payload import Streamed
from hotset.upload import LEAST_UPLOAD_BYTES, Upload
from hotset.uptake import Uptake

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

Cycle: TypeAlias = "tuple[RequestResponseCycle, ASGI3Application]"
"""A request that goes uvicorn's way, and the app that it goes to."""

MOST_AHEAD: Final = 32
"""So many requests of one connection are inside at most; then it is not read until some are answered."""

MOST_IGNORED: Final = 16
"""So many times as much as a body may have is read and dropped of one that was refused; a client that sends on does not want the
answer. Without a bound, one that sends as fast as it can would keep a processor busy for as long as a request may take to come."""

MOST_HEAD_BYTES: Final = 64 << 10
KEEP_ALIVE_S: Final = 75.0
SWEEP_S: Final = 1.0

MOST_CONNECTIONS: Final = most_connections(WANTED_FILES)

_AT_ONCE: Final = struct.pack("ii", 1, 0)
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_OURS: Final = frozenset({b"host", b"expect"})
"""Headers that are for the connection, whatever is asked."""

_SEVERAL: Final = b" "
"""In the place of a host, where more than one was named: no header's value looks like this."""


class Connection(HttpToolsProtocol):
    """Made by uvicorn. Owned by the event loop.

    ``_coming`` is the prediction whose request is being read, ``_inside`` those that are not answered, ``_running``
    the request that goes uvicorn's way now, and ``_held`` what waits for its turn, in the order of the requests.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        predictions: Predictions,
        targets: Targets,
        most_head_bytes: int = MOST_HEAD_BYTES,
        most: int = MOST_CONNECTIONS,
    ) -> None:
        """``most`` connections there may be; past that, idle ones make way."""
        super().__init__(config, server_state, app_state, _loop)
        self._predictions = predictions
        self._targets = targets
        self._most_head_bytes = most_head_bytes
        self._coming: Exchange | None = None
        self._inside: deque[Place] = deque()
        self._held: deque[Place | Cycle] = deque()
        self._running: RequestResponseCycle | None = None
        self._is_mid_request = False
        self._is_ignored = False
        self._ignored_bytes = 0  # of a body that was refused
        self._in_head = False
        self._host: bytes | None = None
        self._good_host = b""  # the last that was looked at: nearly always that of the next request too
        self._loose_bytes = 0  # since the request began, or its last part of a body: its head or its trailers
        self._is_ending = False
        self._is_old = False  # a client of HTTP/1.0
        self._is_releasing = False
        self._outflow: Outflow | None = None
        self._since_s = self.loop.time()
        self._uptake = Uptake(self._since_s, limit_s=KEEP_ALIVE_S)
        self._most = most

    # What the transport says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", transport))
        connections = cast("set[Connection]", self.connections)
        if not make_way(connections, self._most, newcomer=self):
            crowded = OverloadedError(
                f"too many connections; expected at most {self._most}, none of them is idle"
            )
            self._enter_early(
                Place(keep_alive=False, answer=rendered(error_reply(crowded), keep_alive=False))
            )

    def data_received(self, data: bytes) -> None:
        if self._is_ending and self._is_ignored:
            return  # nothing behind the last request is understood, or kept
        self._loose_bytes += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self.send_400_response("expected HTTP/1.1, found a request that is malformed")
            return
        if self._loose_bytes > self._most_head_bytes and self._is_mid_request:
            self.send_400_response(f"the head of the request is longer than {self._most_head_bytes} bytes")
        if self._coming is not None:
            self._receive_rest(self._coming)

    def _receive_rest(self, coming: Exchange) -> None:
        """Have the rest of a large body received where it is to be, and not through the parser."""
        sink = coming.sink
        if sink is None:
            coming.settle(self._predictions)
            if coming.answer is not None:
                self._enter_early(coming)
        elif sink.missing >= LEAST_UPLOAD_BYTES and not self.transport.is_closing():
            self.transport.set_protocol(Upload(sink, self, on_whole=self._received_directly))

    def _received_directly(self) -> None:
        """The parser would wait for that body for ever: the next request gets a new one."""
        self.transport.set_protocol(self)
        self.parser = httptools.HttpRequestParser(self)
        with suppress(AttributeError):  # httptools before 0.6.3; as uvicorn does
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.on_message_complete()

    def _parse(self, data: bytes) -> None:
        """Have all of it parsed.

        Another protocol that a client offers (Java's client does so with its first request) is not taken up. But the
        parser takes what comes behind such a head for that protocol, and not for a body: it gets the head once more,
        without the offer.
        """
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                if self._is_ignored and self._is_ending:
                    return
                data = self._head_without_offer() + data[offer.args[0] :]
            else:
                return

    def _head_without_offer(self) -> bytes:
        parser = self.parser
        first = b"%b %b HTTP/%b\r\n" % (parser.get_method(), self.url, parser.get_http_version().encode())
        lines = (b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade")
        return b"%b%b\r\n" % (first, b"".join(lines))

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more; whether it still reads shows when its answers are written. Who is in the middle of a
        streamed answer has gone: the next part may be long in coming, and its maker should know before."""
        if not self._inside or self._running is not None or self._outflow is not None:
            return False
        self._is_ending = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        running = self._running
        if running is not None and running is not self.cycle:
            running.disconnected = True
            running.message_event.set()
        super().connection_lost(exc)
        if self._coming is not None:
            self._coming.drop()
        self._coming = None
        self._drop_inside()
        self._held.clear()

    def pause_writing(self) -> None:
        """The client does not read its answers: it is not read either."""
        super().pause_writing()
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.read_on()

    # What the parser says

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._coming = None
        self._is_ignored = self._is_ending
        self._is_mid_request = self._in_head = True
        self._host = None
        self._loose_bytes = 0
        self._since_s = self.loop.time()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer: it must not pass for a header, and nobody wants it
        name = name.lower()
        if name in _OURS:
            if name == b"host":
                self._host = value if self._host is None else _SEVERAL
            elif value.lower() == b"100-continue":
                self.expect_100_continue = self.parser.get_http_version() != "1.0"
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._is_ignored:
            return
        parser = self.parser
        if parser.should_upgrade():
            if parser.get_method() == b"CONNECT":
                raise httptools.HttpParserError("this is no proxy")
            self._is_ignored = True  # until its head comes again
            return
        if self._host != self._good_host and not self._is_host_good():
            return
        target = self._targets.find(self.url) if parser.get_method() == b"POST" else None
        if target is None:
            self._go_uvicorns_way()
            return
        keep_alive = parser.get_http_version() != "1.0" and parser.should_keep_alive()
        if not keep_alive:
            self._is_old = parser.get_http_version() == "1.0"
        self._coming = coming = Exchange(self, target, keep_alive=keep_alive)
        coming.head(self._predictions, self.headers)
        if coming.answer is not None:
            self._enter_early(coming)
        elif self.expect_100_continue:
            self._invite()

    def _is_host_good(self) -> bool:
        """Whether the request says as it has to which host it is for; else it is refused."""
        hosts = [value for name, value in self.headers if name == b"host"]
        fault = host_fault(hosts, version=self.parser.get_http_version())
        if fault is not None:
            self.send_400_response(fault)
        elif hosts:
            self._good_host = hosts[0]
        return fault is None

    def _invite(self) -> None:
        """Tell a client that waits for it to send its body, once nothing stands before its answer."""
        if self.expect_100_continue and not (self._inside or self._held or self._running):
            self.expect_100_continue = False
            self.transport.write(_CONTINUE)

    def _go_uvicorns_way(self) -> None:
        """Begin a request as uvicorn's ``on_message_begin`` would have done."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers  # into the list that the scope has
        self.cycle = None  # type: ignore[assignment]  # the order is kept here and not in uvicorn's own pipeline
        super().on_headers_complete()
        if expects:
            self.cycle.keep_alive = False  # answered unread, nobody knows whether its body will come
        if not self.cycle.keep_alive:
            self._is_ending = True

    def on_body(self, body: bytes) -> None:
        coming = self._coming
        self._loose_bytes = 0
        if self._is_ignored:
            self._ignore(len(body))
            return
        if coming is None:
            super().on_body(body)
        elif not coming.add(self._predictions, body):
            self.flow.pause_reading()
        elif coming.answer is not None:
            self._enter_early(coming)

    def _ignore(self, size: int) -> None:
        self._ignored_bytes += size
        if self._ignored_bytes > MOST_IGNORED * self._predictions.limit_bytes and self._is_empty():
            self._close()

    def on_message_complete(self) -> None:
        self._is_mid_request = False
        self._since_s = self.loop.time()
        coming = self._coming
        if self._is_ignored:
            return
        if coming is None:
            super().on_message_complete()
        else:
            self._coming = None
            self._enter(coming)

    def send_400_response(self, msg: str) -> None:
        """Answer, in its turn, what is no HTTP. What comes behind it cannot be understood."""
        if self._is_mid_request and self._coming is None and not self._is_ignored and self.cycle is not None:
            self._give_up(self.cycle)
        reply = error_reply(InvalidInputError(msg))
        self._enter_early(Place(keep_alive=False, answer=rendered(reply, keep_alive=False)))

    def _give_up(self, cycle: RequestResponseCycle) -> None:
        """Nobody must wait for the rest of a body that will never be whole."""
        if cycle.response_complete or not cycle.more_body:
            return  # it is not that request which is malformed
        cycle.disconnected = True
        cycle.message_event.set()
        if self._running is cycle:
            self._running = None
            if cycle.response_started:
                self._close()
        elif self._held and isinstance(self._held[-1], tuple) and self._held[-1][0] is cycle:
            self._held.pop()

    # Order

    def _enter_early(self, place: Place) -> None:
        """It is answered although it is not whole, and the rest of it is ignored."""
        self._coming = None
        self._is_ignored = True
        self._ignored_bytes = 0
        self._in_head = False
        self._enter(place)

    def _enter(self, place: Place) -> None:
        """It starts, or waits for what came before it."""
        if not place.keep_alive:
            self._is_ending = True
        if self._held or self._running or len(self._inside) >= MOST_AHEAD:
            if isinstance(place, Exchange):
                place.settle(self._predictions)
            self._held.append(place)
            self.flow.pause_reading()
        else:
            self._begin(place)

    def _begin(self, place: Place) -> None:
        self._inside.append(place)
        if place.answer is not None:
            self._write_answers()
        elif isinstance(place, Exchange):
            place.start(self._predictions)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if self._inside or self._held or self._running:
            self._held.append((cycle, app))
            self.flow.pause_reading()
        else:
            self._running = cycle
            super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        self._running = None
        super().on_response_complete()
        self._unset_keepalive_if_required()  # the sweep knows better what is idle
        self._since_s = self.loop.time()
        if self.transport.is_closing():
            self._held.clear()
            return
        self._release()
        if self._is_ending and self._is_empty():
            self._close()
        elif self._coming is not None:
            self._invite()

    def _release(self) -> None:
        """Start what was held, as far as it may start now."""
        if self._is_releasing:
            return
        self._is_releasing = True
        held = self._held
        while held and self._running is None and len(self._inside) < MOST_AHEAD:
            first = held[0]
            if isinstance(first, Place):
                held.popleft()
                self._begin(first)
            elif not self._inside:
                held.popleft()
                self._start_asgi_task_now(*first)
            else:
                break
        self._is_releasing = False

    def _start_asgi_task_now(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        self.flow.resume_reading()  # its body may not be here yet
        super()._start_asgi_task(cycle, app)

    # Answers

    def answered(self, exchange: Exchange, outcome: Answer | Exception) -> None:
        """For ``Exchange``: its prediction has ended, or its answer has begun."""
        if type(outcome) is StreamingAnswer:
            self._opened(exchange, outcome)
            return
        inside = self._inside
        if not inside:
            return  # the client has gone
        keep_alive = exchange.keep_alive and not (self._is_ending and self._is_last(exchange))
        exchange.answer = self._predictions.rendered(exchange.target, outcome, keep_alive=keep_alive)
        if inside[0] is exchange:
            self._write_answers()

    def _opened(self, exchange: Exchange, answer: StreamingAnswer) -> None:
        """Put a streamed answer in its place."""
        encoded = cast("Streamed", answer.encoded)
        if not self._inside:
            encoded.rest.close()
            return
        keep_alive = exchange.keep_alive and not (self._is_ending and self._is_last(exchange))
        is_chunked = not self._is_old
        try:
            head = self._predictions.opened(answer, keep_alive=keep_alive, is_chunked=is_chunked)
        except ValueError as error:
            encoded.rest.close()
            self.answered(exchange, error)
            return
        exchange.answer = Outflow(head, encoded, is_chunked=is_chunked, keep_alive=keep_alive)
        exchange.keep_alive = True  # the place behind it, of its end, says whether the connection is closed
        if self._inside[0] is exchange:
            self._write_answers()

    def _start_stream(self, outflow: Outflow) -> None:
        """Write it bit by bit. Its end has a place of its own, which the answers behind it wait for."""
        self._outflow = outflow
        end = Place(keep_alive=outflow.keep_alive)
        self._inside.appendleft(end)
        outflow.start(self.transport, drain=self.flow.drain, done=partial(self._stream_ended, outflow, end))

    def _stream_ended(self, outflow: Outflow, end: Place, is_whole: bool) -> None:
        self._outflow = None
        if not self._inside:
            return  # the client has gone
        if is_whole:
            end.answer = outflow.last
            self._write_answers()
        elif outflow.is_chunked:
            self._close()
        else:
            self._reset()

    def _reset(self) -> None:
        """End the connection as no whole answer ends: where there are no chunks, closed in order it would look whole."""
        connected = self.transport.get_extra_info("socket")
        if connected is not None:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self.transport.abort()

    def _drop_inside(self) -> None:
        """Nobody waits for these answers any more."""
        outflow, self._outflow = self._outflow, None
        if outflow is not None:
            outflow.drop()
        while self._inside:
            answer = self._inside.popleft().answer
            if isinstance(answer, Outflow):
                answer.drop()

    def _write_answers(self) -> None:
        """Write every answer that is next in order."""
        inside = self._inside
        keep_alive = True
        while inside and keep_alive and (answer := inside[0].answer) is not None:
            keep_alive = inside.popleft().keep_alive
            self._write(answer)
            self.server_state.total_requests += 1
        self._since_s = self.loop.time()
        if not keep_alive or (self._is_ending and self._is_empty()):
            self._close()
            return
        if self._held:
            self._release()
        if self.flow.read_paused:
            self.read_on()
        if self._coming is not None:
            self._invite()

    def _write(self, answer: Wire | Outflow) -> None:
        if isinstance(answer, bytes):
            self.transport.write(answer)
        elif isinstance(answer, Outflow):
            self._start_stream(answer)
        else:
            self.transport.writelines(answer)

    def read_on(self) -> None:
        """Read again, unless there is no room for a body, the client does not read, or has sent far ahead."""
        coming = self._coming
        if (
            self.flow.write_paused
            or self._held
            or len(self._inside) >= MOST_AHEAD
            or (coming is not None and coming.waits_for_room)
        ):
            return
        self.flow.resume_reading()

    def _is_last(self, exchange: Exchange) -> bool:
        """Whether nothing is to be answered behind it: who is told that the connection closes reads no further."""
        return self._inside[-1] is exchange and not (self._held or self._coming)

    def _is_empty(self) -> bool:
        return not (self._inside or self._held or self._running or self._coming)

    def _close(self) -> None:
        self._drop_inside()
        self._held.clear()
        self.transport.close()

    # The end

    def shutdown(self) -> None:
        """Take nothing new; close when what is here is answered."""
        self._is_ending = True
        if self._running is not None:
            self._running.keep_alive = False
        elif self._is_empty():
            # An idle client may be long in saying that it closes too, as TLS asks of it; there is nothing to lose.
            is_secure = self.transport.get_extra_info("ssl_object") is not None
            (self.transport.abort if is_secure else self.transport.close)()

    @property
    def idle_since_s(self) -> float | None:
        """Since when nothing was asked of it; None while something is on its way in or out."""
        if self._is_mid_request or not self._is_empty() or self._unsent():
            return None
        return self._since_s

    def make_way(self) -> None:
        """Close, as another client wants the place."""
        self._is_ending = True
        self.transport.abort()

    def _unsent(self) -> int:
        return self.transport.get_write_buffer_size()

    def cut_off(self) -> None:
        """Answer what is still inside with 503 and close: draining is over."""
        if self._inside and self.transport is not None:
            if self._outflow is None:
                self._write(rendered(cut_off_reply(), keep_alive=False))
            elif self._outflow.is_chunked:
                self._outflow.cut_off()
            else:
                self._reset()
            self._close()

    def sweep(self, now_s: float) -> None:
        """Close a connection that is idle for too long, and refuse a request that is too long in coming."""
        if self._uptake.is_stuck(self._unsent(), now_s):
            self.transport.abort()  # to close it would be to wait until all is sent
            return
        coming = self._coming
        if self.flow.read_paused and not (coming is not None and coming.waits_for_room):
            self._since_s = now_s  # it is we who are slow
            return
        waited_s = now_s - self._since_s
        if self._is_mid_request:
            if waited_s > self._predictions.limit_s:
                self._refuse_late()
        elif waited_s > KEEP_ALIVE_S and self._is_empty():
            self.transport.close()

    def _refuse_late(self) -> None:
        coming = self._coming
        if coming is not None:
            # A client that we have not read is told when it has sent all; one that is slow is waited for no more.
            coming.keep_alive = coming.keep_alive and coming.waits_for_room
            error = self._predictions.too_late(waited_for_room=coming.waits_for_room)
            coming.refuse(self._predictions, error)
            self._enter_early(coming)
        elif self._is_empty():  # what uvicorn's way has is not: it watches the time of its bodies itself
            self.transport.close()


def sweep(connections: Iterable[asyncio.Protocol], now_s: float) -> None:
    """Look at every connection; to be called each ``SWEEP_S``."""
    for connection in tuple(connections):
        if isinstance(connection, Connection):
            connection.sweep(now_s)
