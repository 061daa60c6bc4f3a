"""The child process: ``python -m hotset.workers.child CONTROL DATA``, two inherited sockets. Started by ``spawn.py``,
or forked by ``forkserver.py``.

The main thread serves the control channel and starts every other thread: predict threads on the data channel,
loader threads for orders. It never predicts, and loads itself only what takes no time, so a ping is answered whatever the
models do, unless one of them keeps the interpreter to itself. The child ends when told to, and at once when the control channel ends.
"""

from __future__ import annotations

import gc
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from hotset import body_limits, priorities
from hotset.errors import ConfigError, HotsetError
from hotset.runtimes.reason import reason_of
from hotset.workers import framing, isolation, wire
from hotset.workers.asking import Asking
from hotset.workers.base import LoadReply, LoadSpec, Want
from hotset.workers.board import Board
from hotset.workers.datachannel import DataChannel, Shared
from hotset.workers.devicehost import DeviceHost
from hotset.workers.devices import bind
from hotset.workers.failure import pack, unpack
from hotset.workers.heap import HeapMeter, keep_freed_heap
from hotset.workers.host import Host
from hotset.workers.imports import imports
from hotset.workers.kit import Kit, kit_builder
from hotset.workers.loading import LoadThreads
from hotset.workers.predicting import PredictThreads

_logger: Final = logging.getLogger(__name__)

_CLOSED_ON_EXEC: Final[int] = getattr(socket, "MSG_CMSG_CLOEXEC", 0)

CRASHED: Final = 70
"""Exit status after a fault of hotset's own."""

TRIM_EVERY_S: Final = 4.0


class ControlChannel:
    """The control socket. ``receive`` in the main thread, all else in any. Replies arrive in the order of the calls."""

    def __init__(self, channel: socket.socket) -> None:
        self._socket = channel
        self._reader = framing.FrameReader(wire.decode_control_order)
        self._write = threading.Lock()
        self._held = b""
        self.files: list[int] = []
        """What came with orders; whoever carries them out closes them."""

    def receive(self) -> list[wire.ControlOrder]:
        """Wait for orders; none means that the parent is gone."""
        while data := self._read():
            orders = [order for order, _ in self._reader.feed(data)]
            if orders:
                return orders
        return []

    def _read(self) -> bytes:
        data, files, _, _ = socket.recv_fds(self._socket, framing.RECEIVE_BYTES, 3, _CLOSED_ON_EXEC)
        self.files += files
        return data

    def send(self, reply: wire.ControlReply) -> None:
        frame = framing.frame_head(reply)
        with self._write:
            held, self._held = self._held, b""
            self._socket.sendall(held + frame)

    def hold(self, reply: wire.ControlReply) -> None:
        """Send it with the next one, or with ``send_held``."""
        frame = framing.frame_head(reply)
        with self._write:
            self._held += frame

    def send_held(self) -> None:
        if self._held:
            with self._write:
                held, self._held = self._held, b""
                self._socket.sendall(held)


class Child:
    """Carries out control orders. Owned by the main thread; legal order: ``configure``, then ``serve``."""

    def __init__(self, control: ControlChannel, data: socket.socket) -> None:
        self._control = control
        self._data = data
        self._thread = threading.get_ident()
        self._shared: Shared | None = None
        self._board: Board | None = None
        self._asking: Asking | None = None
        self._trim_from_s = 0.0
        self._host: Host
        self._mailbox: DataChannel
        self._loading: LoadThreads
        self._predicting: PredictThreads

    def share(self, order: wire.Share) -> None:
        """Take over the files of shared memory that came with the order."""
        board, *arenas = self._control.files
        self._board = Board.mapped(board, order.board_threads)
        if arenas:
            self._shared = Shared(arenas[0], order.bodies_bytes, arenas[1], order.answers_bytes)

    def configure(self, order: wire.Configure) -> None:
        """Build the kit (which imports the user's predictor) and start all threads.

        Raises:
            ConfigError: the predictor does not fit.
        """
        isolation.log_to_stderr(order.log_level, order.log_format)
        body_limits.configure(
            json_depth=order.max_json_depth,
            elements=order.max_elements,
            unpacked_bytes=order.max_body_bytes,
        )
        # Before the user's code asks what there is.
        device = None if order.device is None else bind(order.device)
        kit = _built_kit(order)
        host: Callable[..., Host] = Host if device is None else partial(DeviceHost, device)
        self._host = host(
            kit,
            meter=HeapMeter.of_child(),
            max_batch=order.max_batch,
            max_body_bytes=order.max_body_bytes,
        )
        # What was imported so far stays for good, and later collections need not look at it again.
        gc.collect()
        gc.freeze()
        self._loading = LoadThreads(
            self._host,
            parallel_loads=order.parallel_loads,
            busy=isolation.favour_predictions,
            prepare=priorities.give_way,
            at_once=True,
            board=self._board,
        )
        self._mailbox = self._opened(order.threads)
        self._predicting = PredictThreads(
            self._host,
            self._mailbox,
            threads=order.threads,
            on_crash=lambda: os._exit(CRASHED),
            board=self._board,
        )
        self._asking = kit.asking
        if self._asking is not None:
            self._asking.bind(self._ask)
        self._loading.start()
        self._predicting.start()

    def _ask(self, number: int, want: Want) -> None:
        self._control.send(wire.Want(number, want.request, want.name, want.version))

    def _opened(self, threads: int) -> DataChannel:
        try:
            return DataChannel(self._data, self._shared, threads=threads)
        except OSError as error:
            raise ConfigError(f"the memory for large payloads could not be mapped: {error}") from error
        finally:
            while self._control.files:
                os.close(self._control.files.pop())

    def serve(self) -> None:
        """Carry out orders until told to close, or until the parent is gone."""
        while orders := self._control.receive():
            for order in orders:
                if isinstance(order, wire.Close):
                    self._predicting.finisher.close(0.0)  # their models can be unloaded then
                    self._loading.close(order.limit_s)
                    return
                self._carry_out(order)
            self._control.send_held()

    def _carry_out(self, order: wire.ControlOrder) -> None:
        match order:
            case wire.Ping(number):
                self._control.send(wire.Pong(number))
                self._trim_mailbox()
            case wire.Load(number, spec):
                self._loading.load(spec, self._load_done(number, spec))
            case wire.Unload(number, handle):
                self._loading.unload(handle, lambda: self._reply(wire.Unloaded(number)))
            case wire.Count(number, name):
                self._control.send(wire.Counted(number, tuple(self._host.executions.told(name))))
            case wire.Given(number, handle) if self._asking is not None:
                self._asking.answered(number, handle)
            case wire.Denied(number, failure) if self._asking is not None:
                self._asking.answered(number, None if failure is None else unpack(failure))
            case wire.Trim():
                self._loading.trim()
            case wire.Taken(number, count):
                self._predicting.finisher.taken(number, count)
            case wire.Stop(number):
                self._predicting.finisher.stop(number)
            case wire.ImportAhead(modules):
                imports.start(modules, prepare=priorities.give_way)
            case _:
                raise framing.WireError(f"an order out of place: {order}")

    def _trim_mailbox(self) -> None:
        """Not with each ping, as they come faster where somebody waits: what is used again within seconds stays."""
        now_s = time.monotonic()
        if now_s >= self._trim_from_s:
            self._trim_from_s = now_s + TRIM_EVERY_S
            self._mailbox.trim()

    def _load_done(self, number: int, spec: LoadSpec) -> Callable[[LoadReply | HotsetError], None]:
        def done(outcome: LoadReply | HotsetError) -> None:
            if isinstance(outcome, LoadReply):
                self._reply(wire.Loaded(number, spec.handle, outcome))
            else:
                self._reply(wire.Failed(number, pack(outcome)))

        return done

    def _reply(self, reply: wire.ControlReply) -> None:
        """Send it; in the thread that carries out orders, once all that came together are carried out.

        They are mostly an unload and the load behind it, and the gateway wakes up once for both.
        """
        if threading.get_ident() == self._thread:
            self._control.hold(reply)
        else:
            self._control.send(reply)


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
    if orders and isinstance(orders[0], wire.Share):
        child.share(orders[0])
        orders = orders[1:] or control.receive()
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
    isolation.end_before_the_parent()
    keep_freed_heap()
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
