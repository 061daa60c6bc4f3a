"""The fork server: ``python -m hotset.workers.forkserver SOCKET [MODULE…]``. Started by ``forking.py``.

A small process that imports what the children need and forks them on request, so that a child is there within
milliseconds, with its frameworks imported, and shares their memory with its neighbours until it writes to it. It loads
none of the user's models (a module that it imports may rehearse with one of its own), runs no code of the user's, and has
one thread, always: a module whose import starts threads is not for it, so it begins anew without that module. It ends
when its socket does.
"""

from __future__ import annotations

import gc
import importlib
import os
import socket
import sys
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from hotset import priorities
from hotset.runtimes.reason import reason_of
from hotset.workers import child, forkwire, isolation
from hotset.workers.sibling import ForkFailedError, fork_sibling, threads_of_this_process
from hotset.workers.standard import standard_kit

_FOR_THE_CHILDREN: Final = standard_kit
"""What nearly all of them build; imported here, as ``child`` is."""

_THREADS_END_S: Final = 0.2
"""A thread that an import has started, and that ends by itself, is given so long."""


class Sockets(NamedTuple):
    """A new child's own, as file descriptors."""

    control: int
    data: int


class ForkServer:
    """Carries out orders, one after the other. ``serve`` returns twice: in the server at its end, in each child at once."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._imported: list[str] = []

    def serve(self) -> Sockets | None:
        """Carry out orders until the gateway is gone: None. In a new child, return its sockets."""
        while True:
            packet, descriptors, _, _ = socket.recv_fds(
                self._channel, forkwire.MOST_BYTES, 2, socket.MSG_CMSG_CLOEXEC
            )
            if not packet:
                return None
            order = forkwire.decode_order(packet)
            if isinstance(order, forkwire.ImportAhead):
                self.import_all(order.modules)
            elif self._is_child(order.number, descriptors):
                return Sockets(*descriptors)

    def _is_child(self, number: int, descriptors: Sequence[int]) -> bool:
        """Fork; True in the child. The descriptors stay open in the child alone."""
        try:
            pid = fork_sibling()
        except ForkFailedError as error:
            self._tell(forkwire.NotForked(number, str(error), error.is_lasting))
        else:
            self._tell(forkwire.Forked(number, pid or os.getpid()))
            if pid == 0:
                self._channel.close()
                return True
        for descriptor in descriptors:
            os.close(descriptor)
        return False

    def import_all(self, modules: Sequence[str]) -> None:
        """Import each that can be imported and starts no threads; tell the gateway of the others."""
        began_s = time.monotonic()
        for position, module in enumerate(modules):
            try:
                importlib.import_module(module)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a module may raise anything while it is imported
                self._tell(forkwire.Refused(module, reason_of(error)))
            if _has_threads():
                self._tell(forkwire.Refused(module, "its import starts threads"))
                self._begin_anew([*self._imported, *modules[position + 1 :]])
            self._imported.append(module)
        settle()
        self._tell(forkwire.Imported(time.monotonic() - began_s))

    def _begin_anew(self, modules: Sequence[str]) -> None:
        """Become a new fork server with the same socket: a thread cannot be unimported."""
        self._channel.set_inheritable(True)
        os.execv(sys.executable, [*forkwire.COMMAND, str(self._channel.fileno()), *modules])  # noqa: S606

    def _tell(self, reply: forkwire.Reply) -> None:
        self._channel.send(forkwire.encode(reply))


def settle() -> None:
    """Put what was imported out of the collector's sight: a collection in a child would write to all of it."""
    gc.collect()
    gc.freeze()


def _has_threads() -> bool:
    end_s = time.monotonic() + _THREADS_END_S
    while threads_of_this_process() > 1:
        if time.monotonic() > end_s:
            return True
        time.sleep(0.005)
    return False


def main(arguments: list[str]) -> None:
    """Serve until the gateway is gone; each child goes on as one."""
    isolation.die_with_parent()
    priorities.go_first()  # the gateway may not have said so yet when it started us
    isolation.leave_signals_to_parent()
    isolation.call_process("hotset-forks")
    descriptor, *modules = arguments
    channel = socket.socket(fileno=int(descriptor))
    channel.set_inheritable(False)
    server = ForkServer(channel)
    try:
        if modules:
            server.import_all(modules)
        sockets = server.serve()
    except OSError:
        return  # the gateway is gone in the middle of a send
    if sockets is not None:
        isolation.forget_randomness()
        child.main([str(descriptor) for descriptor in sockets])


if __name__ == "__main__":
    main(sys.argv[1:])
