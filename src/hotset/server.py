"""One hotset server: a replica behind uvicorn, and its signals.

``hotset serve`` calls ``run``. On SIGTERM or SIGINT the replica is not ready at once, refuses new predictions, lets
those inside end, unloads and exits with 0. What is still inside when ``drain_timeout`` is over, or when a second signal
comes, is answered with 503.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import uvicorn
import uvloop

from hotset import logs, priorities
from hotset.config import Settings
from hotset.connection import KEEP_ALIVE_S, SWEEP_S, Connection, sweep
from hotset.errors import ConfigError
from hotset.events import EventBus
from hotset.exchange import Targets
from hotset.grpc_port import GrpcPort, check_grpc
from hotset.replica import Replica
from hotset.runtimes.handler_source import check_handler
from hotset.runtimes.predictor_source import check_predictor
from hotset.workers.headstart import StartedServer

BACKLOG: Final = 2048
SWITCH_INTERVAL_S: Final = 0.0005
"""Threads beside the event loop (a pass over a large listing) let go of the interpreter this soon."""

_TICKS_PER_S: Final = 10
"""uvicorn's own."""

logger = logging.getLogger(__name__)


class Listener(uvicorn.Server):
    """uvicorn without its own signal handling, which would end the process with the signal and not with 0.

    It looks after the connections: what is idle, too slow, or still there at the end.
    """

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def on_tick(self, counter: int) -> bool:
        if counter % round(SWEEP_S * _TICKS_PER_S) == 0:
            sweep(self.server_state.connections, asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait for what is inside as long as draining may take; then cut off the rest."""
        await super().shutdown(sockets)
        for connection in tuple(self.server_state.connections):
            if isinstance(connection, Connection):
                connection.cut_off()

    def hurry(self) -> None:
        """Cut off what is still inside, and wait for nobody."""
        self.force_exit = True
        for task in self.server_state.tasks:
            task.cancel()


def run(
    settings: Settings,
    *,
    on_listening: Callable[[str], None] = lambda _url: None,
    forks: StartedServer | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; ``on_listening`` is told the address. ``forks`` is a fork server that runs already.

    Raises:
        ConfigError: a setting does not fit this machine, or the address is taken.
        WorkerDiedError: a child did not start.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    priorities.go_first()
    # Whoever started us may have it ignored, and then nobody is told how a child ended: not us, nor the user's code.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    logs.configure(settings.log_level, settings.log_format, sys.stderr)
    if settings.predictor is not None and settings.cortex is not None:
        check_handler(Path(settings.predictor), settings.predictor_config)
    elif settings.predictor is not None:
        check_predictor(Path(settings.predictor))
    check_grpc(settings)
    with _bound(settings.host, settings.port) as listening:
        uvloop.run(_serve(settings, listening, on_listening, forks))


async def _serve(
    settings: Settings,
    listening: socket.socket,
    on_listening: Callable[[str], None],
    forks: StartedServer | None = None,
) -> None:
    events = EventBus()
    events.subscribe(logs.log_event)
    replica = Replica(settings, events=events, forks=forks)
    predictions = replica.app.predictions
    grpc = GrpcPort(replica)
    listener = Listener(
        uvicorn.Config(
            replica.app,
            http=partial(Connection, predictions=predictions, targets=Targets(predictions)),  # type: ignore[arg-type]
            lifespan="off",
            ws="none",
            proxy_headers=False,
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=int(KEEP_ALIVE_S),
            timeout_graceful_shutdown=int(settings.drain_timeout) or 1,
            backlog=BACKLOG,
        )
    )
    loop = asyncio.get_running_loop()
    starting = asyncio.create_task(replica.start(), name="start")

    def stop() -> None:
        starting.cancel()  # it has ended, or is not worth waiting for: a predictor may take a minute to import
        if replica.dataplane.draining:
            listener.hurry()
        replica.drain()
        listener.should_exit = True
        grpc.begin_stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    await asyncio.wait((starting,))
    if starting.cancelled():
        logger.info("stopped while it started")
        await grpc.stopped()
        return
    starting.result()
    await grpc.start()
    gc.freeze()  # what was imported stays: a full collection of it would hold every request up for a tenth of a second
    host, port = listening.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    logger.info("serving %s on %s", replica.store.url, url)
    on_listening(url)
    try:
        await listener.serve(sockets=[listening])
    finally:
        await grpc.stopped()
        replica.dataplane.cut_off()  # the connections are closed
        await replica.stop()
        logger.info("stopped")


@contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    with listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another host or port"
            ) from error
        yield listening
