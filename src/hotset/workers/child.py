"""The child process: ``python -m hotset.workers.child CONTROL DATA``, two inherited sockets. Started by ``spawn.py``,
or forked by ``forkserver.py``.

The main thread serves the control channel and starts every other thread: predict threads on the data channel,
loader threads for orders. It never loads or predicts itself, so a ping is answered whatever the models do, unless
one of them keeps the interpreter to itself. The child ends when told to, and at once when the control channel ends.
"""

from __future__ import annotations

import gc
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable
from typing import Final

from hotset.errors import ConfigError, HotsetError
from hotset.payload import Encoded
from hotset.runtimes.reason import reason_of
from hotset.workers import isolation, wire
from hotset.workers.backlog import Job
from hotset.workers.base import LoadReply, LoadSpec, PredictCall
from hotset.workers.failure import pack
from hotset.workers.host import Host
from hotset.workers.imports import import_in_background
from hotset.workers.kit import Kit, kit_builder
from hotset.workers.loading import LoadThreads
from hotset.workers.predicting import Answered, PredictThreads

_logger: Final = logging.getLogger(__name__)

CRASHED: Final = 70
"""Exit status after a fault of hotset's own."""

_LARGE_READ: Final = 1 << 20


class DataChannel:
    """The predict threads' mailbox over the data socket. ``receive`` in one thread at a time, ``send`` in any."""

    def __init__(self, channel: socket.socket) -> None:
        self._socket = channel
        self._reader = wire.FrameReader(wire.decode_predict)
        self._write = threading.Lock()

    def receive(self, *, wait: bool) -> list[Job] | None:
        while True:
            size = min(max(self._reader.missing, wire.RECEIVE_BYTES), _LARGE_READ)
            try:
                data = self._socket.recv(size, 0 if wait else socket.MSG_DONTWAIT)
            except BlockingIOError:
                return []
            if not data:
                return None
            jobs = [_job(message, body) for message, body in self._reader.feed(data)]
            if jobs or not wait:
                return jobs

    def send(self, answers: list[Answered]) -> None:
        pieces: list[bytes] = []
        for answer in answers:
            pieces += _answer_frame(answer)
        buffers = wire.joined(pieces)
        with self._write:
            for buffer in buffers:
                self._socket.sendall(buffer)


def _job(message: wire.Predict, body: bytes) -> Job:
    return Job(
        message.number,
        PredictCall(
            message.handle,
            message.codec,
            body,
            message.content_type,
            message.query_string,
            message.headers,
            message.deadline_s,
        ),
    )


def _answer_frame(answer: Answered) -> tuple[bytes, ...]:
    number, outcome = answer
    if isinstance(outcome, Encoded):
        try:
            message = wire.Answer(number, outcome.content_type, tuple(outcome.headers))
            return wire.frame_head(message, len(outcome.body)), outcome.body
        except (wire.WireError, TypeError) as error:
            outcome = HotsetError(f"an answer that cannot be sent: {error}")
    return (wire.frame_head(wire.Failed(number, pack(outcome))),)


class ControlChannel:
    """The control socket. ``receive`` in the main thread, ``send`` in any."""

    def __init__(self, channel: socket.socket) -> None:
        self._socket = channel
        self._reader = wire.FrameReader(wire.decode_control_order)
        self._write = threading.Lock()

    def receive(self) -> list[wire.ControlOrder]:
        """Wait for orders; none means that the parent is gone."""
        while data := self._socket.recv(wire.RECEIVE_BYTES):
            orders = [order for order, _ in self._reader.feed(data)]
            if orders:
                return orders
        return []

    def send(self, reply: wire.ControlReply) -> None:
        frame = wire.frame_head(reply)
        with self._write:
            self._socket.sendall(frame)


class Child:
    """Carries out control orders. Owned by the main thread; legal order: ``configure``, then ``serve``."""

    def __init__(self, control: ControlChannel, data: socket.socket) -> None:
        self._control = control
        self._data = data
        self._host: Host
        self._loading: LoadThreads
        self._predicting: PredictThreads

    def configure(self, order: wire.Configure) -> None:
        """Build the kit (which imports the user's predictor) and start all threads.

        Raises:
            ConfigError: the predictor does not fit.
        """
        isolation.log_to_stderr(order.log_level, order.log_format)
        self._host = Host(_built_kit(order), max_batch=order.max_batch)
        # What was imported so far stays for good, and later collections need not look at it again.
        gc.collect()
        gc.freeze()
        self._loading = LoadThreads(
            self._host,
            parallel_loads=order.parallel_loads,
            busy=isolation.favour_predictions,
            prepare=isolation.give_way,
        )
        self._predicting = PredictThreads(
            self._host, DataChannel(self._data), threads=order.threads, on_crash=lambda: os._exit(CRASHED)
        )
        self._loading.start()
        self._predicting.start()

    def serve(self) -> None:
        """Carry out orders until told to close, or until the parent is gone."""
        while orders := self._control.receive():
            for order in orders:
                if isinstance(order, wire.Close):
                    self._loading.close(order.limit_s)
                    return
                self._carry_out(order)

    def _carry_out(self, order: wire.ControlOrder) -> None:
        match order:
            case wire.Ping(number):
                self._control.send(wire.Pong(number))
            case wire.Load(number, spec):
                self._loading.load(spec, self._load_done(number, spec))
            case wire.Unload(number, handle):
                self._loading.unload(handle, lambda: self._control.send(wire.Unloaded(number)))
            case wire.ImportAhead(modules):
                import_in_background(modules, prepare=isolation.give_way)
            case _:
                raise wire.WireError(f"an order out of place: {order}")

    def _load_done(self, number: int, spec: LoadSpec) -> Callable[[LoadReply | HotsetError], None]:
        def done(outcome: LoadReply | HotsetError) -> None:
            if isinstance(outcome, LoadReply):
                self._control.send(wire.Loaded(number, spec.handle, outcome))
            else:
                self._control.send(wire.Failed(number, pack(outcome)))

        return done


def _built_kit(order: wire.Configure) -> Kit:
    try:
        return kit_builder(order.kit)(order.predictor, order.config)
    except HotsetError:
        raise
    except (Exception, SystemExit) as error:
        _logger.exception("the worker's kit could not be built")
        raise ConfigError(reason_of(error)) from error


def _run(control: ControlChannel, data: socket.socket) -> None:
    child = Child(control, data)
    orders = control.receive()
    if len(orders) != 1 or not isinstance(orders[0], wire.Configure):
        return
    try:
        child.configure(orders[0])
    except HotsetError as error:
        control.send(wire.Refused(pack(error)))
        return
    control.send(wire.Ready())
    child.serve()


def main(arguments: list[str]) -> None:
    """Run until the control channel ends, then leave at once: a thread of the user's must not keep us."""
    isolation.die_with_parent()
    isolation.leave_signals_to_parent()
    isolation.call_process("hotset-child")
    control, data = (socket.socket(fileno=int(number)) for number in arguments)
    for channel in (control, data):
        channel.set_inheritable(False)
    status = 0
    try:
        _run(ControlChannel(control), data)
    except OSError:
        status = 1  # the parent is gone in the middle of a send
    except Exception:
        _logger.exception("the control thread crashed")
        status = CRASHED
    logging.shutdown()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main(sys.argv[1:])
