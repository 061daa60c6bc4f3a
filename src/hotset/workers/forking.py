"""Children from a fork server: the gateway's side of it. Made by the composition root, called by ``process.py``.

It starts the fork server, tells it what to import, asks it for children, and starts another when it dies. It never
depends on one: whatever goes wrong, the child comes from a fresh interpreter, later but just as good. The children
are the gateway's own (see ``sibling.py``), so nothing of what a ``ChildProcess`` promises is different for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from hotset.workers import forkwire
from hotset.workers.headstart import StartedServer
from hotset.workers.sibling import ForkFailedError
from hotset.workers.spawn import (
    ChildProcess,
    ForkedProcess,
    FreshInterpreters,
    WatchedProcess,
    described_exit,
    socket_pairs,
)

_logger: Final = logging.getLogger(__name__)

MOST_DEATHS: Final = 3
"""After so many deaths without a child in between, there is no fork server any more."""

_CLOSE_LIMIT_S: Final = 1.0


class ForkServer:
    """Implements ``ChildSource``.

    Owned by the event loop. Any calls; ``close`` once, last: children that run are not touched.
    """

    def __init__(
        self,
        *,
        command: Sequence[str] = forkwire.COMMAND,
        environment: Mapping[str, str] | None = None,
        limit_s: float = 30.0,
        started: StartedServer | None = None,
    ) -> None:
        """A fork that takes longer than ``limit_s``, imports that come before it included, is given up.

        ``started`` is one that runs already, and is this one's from now on.
        """
        self._command = command
        self._environment = environment
        self._limit_s = limit_s
        self._started = None if started is None else started.take()
        self._fallback = FreshInterpreters(environment=environment)
        self._shared: dict[str, None] = {}
        self._own: dict[str, None] = {}
        self._server: _Server | None = None
        self._deaths = 0
        self._problem: str | None = None

    @property
    def pid(self) -> int | None:
        """The fork server's process, while there is one."""
        return self._server.process.pid if self._server is not None else None

    @property
    def modules(self) -> tuple[str, ...]:
        if self._deaths >= MOST_DEATHS:
            return ()  # it may have died of one of them, and so would every child
        return (*self._shared, *self._own)

    def import_ahead(self, shared: Iterable[str] = (), *, own: Iterable[str] = ()) -> None:
        """Have ``shared`` modules imported before the next fork, and ``own`` ones by each child for itself.

        Children that run already are not told.
        """
        new = [module for module in shared if module not in self._shared and module not in self._own]
        self._shared |= dict.fromkeys(new)
        self._own |= dict.fromkeys(module for module in own if module not in self._shared)
        if not new or self._problem is not None:
            return
        with contextlib.suppress(OSError):  # the next child asks again
            if self._server is None:
                self._running()
            elif not self._server.is_over:
                self._server.send(forkwire.ImportAhead(tuple(new)))

    async def start_child(self) -> ChildProcess:
        if self._problem is None:
            try:
                return await self._fork()
            except (ForkFailedError, OSError) as error:
                _logger.warning(
                    "a child starts from a fresh interpreter, as the fork server failed: %s", error
                )
        return await self._fallback.start_child()

    async def close(self) -> None:
        """End the fork server. Safe to call twice."""
        if self._started is not None:
            self._running()  # nobody asked it for anything yet
        self._problem = "it was closed"
        server, self._server = self._server, None
        if server is not None:
            server.close()
            await server.process.reap(_CLOSE_LIMIT_S)

    async def _fork(self) -> ChildProcess:
        server = self._running()
        if server.is_over:
            await asyncio.wait((server.process.exited,))  # then another takes its place
            if self._problem is not None:
                raise ForkFailedError(self._problem)
            server = self._running()
        with socket_pairs() as sockets:
            try:
                async with asyncio.timeout(self._limit_s):
                    pid = await server.fork(sockets.child_descriptors)
            except TimeoutError as error:
                server.close()
                self._on_end(server, f"made no child within {self._limit_s:g} s")
                raise ForkFailedError(f"it made no child within {self._limit_s:g} s") from error
            self._deaths = 0
            return ChildProcess(ForkedProcess(pid), sockets)

    def _running(self) -> _Server:
        if self._server is None:
            started, self._started = self._started, None
            if started is None:
                started = StartedServer(self._command, self._environment)
            self._server = _Server(started, on_reply=self._on_reply, on_end=self._on_end)
            if self._shared:
                self._server.send(forkwire.ImportAhead(tuple(self._shared)))
        return self._server

    def _on_reply(self, reply: forkwire.Reply) -> None:
        match reply:
            case forkwire.Refused(module, reason):
                _logger.debug("%s is imported by each child for itself: %s", module, reason)
                self._shared.pop(module, None)
                self._own[module] = None
            case forkwire.Imported(seconds):
                _logger.debug("imported ahead in %.3f s: %s", seconds, ", ".join(self._shared))
            case forkwire.NotForked(_, reason, lasting):
                if lasting:
                    self._give_up(reason)

    def _on_end(self, server: _Server, reason: str) -> None:
        if server is not self._server:
            return
        self._server = None
        self._deaths += 1
        if self._deaths >= MOST_DEATHS:
            self._give_up(f"it was lost {self._deaths} times: it {reason}")
            return
        _logger.warning("the fork server is gone, another takes its place: it %s", reason)
        try:
            self._running()
        except OSError as error:
            self._give_up(str(error))

    def _give_up(self, reason: str) -> None:
        if self._problem is None:
            self._problem = reason
            _logger.warning(
                "children start from fresh interpreters from now on: no fork server, as %s", reason
            )
        if self._server is not None:
            self._server.close()


class _Server:
    """One life of a fork server. ``on_end`` is called once, when it is gone and was not closed.

    Owned by the event loop.
    """

    def __init__(
        self,
        started: StartedServer,
        *,
        on_reply: Callable[[forkwire.Reply], None],
        on_end: Callable[[_Server, str], None],
    ) -> None:
        self._on_reply = on_reply
        self._on_end = on_end
        self._numbers = itertools.count(1)
        self._told = 0
        self._ending: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[int]] = {}
        self._loop = asyncio.get_running_loop()
        self._socket = started.channel
        self.process = WatchedProcess(started.process)
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket.fileno(), self._read)

    @property
    def is_over(self) -> bool:
        """Whether it can make no more children."""
        return self._socket.fileno() == -1

    def send(self, order: forkwire.Order, descriptors: Sequence[int] = ()) -> None:
        """Raises:
        OSError: the server is gone, or does not read.
        """
        socket.send_fds(self._socket, [forkwire.encode(order)], descriptors)

    async def fork(self, descriptors: Sequence[int]) -> int:
        """Return the process id of a new child that has ``descriptors``.

        Raises:
            ForkFailedError, OSError
        """
        number = next(self._numbers)
        self.send(forkwire.Fork(number), descriptors)
        forked: asyncio.Future[int] = self._loop.create_future()
        self._waiting[number] = forked
        try:
            return await forked
        except asyncio.CancelledError:
            if forked.done() and not forked.cancelled() and forked.exception() is None:
                self._end_unwanted(forked.result())  # it came in the very step in which it was given up
            raise

    def close(self) -> None:
        """Have it end; whoever waits for a child is told. Safe to call twice."""
        self._on_end = lambda _server, _reason: None
        self.process.kill()
        self._hang_up()

    def _read(self) -> None:
        try:
            while packet := self._socket.recv(forkwire.MOST_BYTES):
                self._take(forkwire.decode_reply(packet))
        except BlockingIOError:
            return
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            _logger.debug("the fork server's socket: %s", error)
        # The end: nobody has the other end any more, no child either that was about to tell of itself.
        self._hang_up()
        self._ending = self._loop.create_task(self._end(), name="reap the fork server")

    async def _end(self) -> None:
        """Reap it, and kill it only if it does not end by itself: how it ended says what was wrong with it."""
        status = await self.process.reap(_CLOSE_LIMIT_S)
        self._on_end(self, described_exit(status))

    def _take(self, reply: forkwire.Reply) -> None:
        if isinstance(reply, forkwire.Forked | forkwire.NotForked):
            if reply.number <= self._told:
                return  # told by the child as well as by the server
            self._told = reply.number
            self._settle(self._waiting.pop(reply.number), reply)
        self._on_reply(reply)

    def _settle(self, forked: asyncio.Future[int], reply: forkwire.Forked | forkwire.NotForked) -> None:
        if isinstance(reply, forkwire.NotForked):
            if not forked.done():
                forked.set_exception(ForkFailedError(reply.reason))
        elif not forked.done():
            forked.set_result(reply.pid)
        else:
            self._end_unwanted(reply.pid)

    def _end_unwanted(self, pid: int) -> None:
        """Nobody waits for this child any more, and nobody else would reap it."""
        WatchedProcess(ForkedProcess(pid)).kill()

    def _hang_up(self) -> None:
        if self.is_over:
            return
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        for forked in self._waiting.values():
            if not forked.done():
                forked.set_exception(ForkFailedError("it ended"))
        self._waiting.clear()
