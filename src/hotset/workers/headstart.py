"""A fork server's process that runs before there is an event loop for it: it imports what it needs while the gateway does.

Started by ``hotset serve`` as soon as the settings are known; ``forking.py`` takes it over. On two processors the
first model of a server is in memory sooner by what both import at the same time, 0.3 to 0.4 s. It imports no framework yet, as nobody
knows which.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from hotset.workers import forkwire
from hotset.workers.spawn import ProcessHandle, start_program


class StartedServer:
    """A running fork server: its ``process``, and our end of its socket, ``channel``.

    Owned by whoever started it until somebody calls ``take``; ``close`` after that does nothing.
    """

    def __init__(
        self, command: Sequence[str] = forkwire.COMMAND, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start it.

        Raises:
            OSError: the system could not.
        """
        self._is_taken = False
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel: Final = ours
        try:
            with theirs:
                self.process: Final[ProcessHandle] = start_program(command, (theirs.fileno(),), environment)
        except BaseException:
            ours.close()
            raise

    def take(self) -> StartedServer:
        """Take it over: end and reap it from now on."""
        self._is_taken = True
        return self

    def close(self) -> None:
        """End it, if nobody took it."""
        if self._is_taken:
            return
        self.channel.close()
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def head_start(*, wanted: bool) -> Iterator[StartedServer | None]:
    """Start a fork server if one is ``wanted``; at the end it is gone, unless somebody took it.

    Where the system cannot, there is None: who needs one tries again, and says what is wrong.
    """
    started = None
    with contextlib.suppress(OSError):
        started = StartedServer() if wanted else None
    try:
        yield started
    finally:
        if started is not None:
            started.close()
