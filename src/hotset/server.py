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
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import uvicorn
import uvloop

from hotset import logs, priorities
from hotset.api.predictions import Predictions
from hotset.config import Settings
from hotset.connection import KEEP_ALIVE_S, SWEEP_S, Connection, sweep
from hotset.crowd import Rounds, most_connections, raise_files_limit
from hotset.drain_times import time_to_end
from hotset.errors import ConfigError
from hotset.events import EventBus
from hotset.exchange import Targets
from hotset.grpc_port import GrpcPort, check_grpc
from hotset.renewal import Renewal, Renewals
from hotset.replica import Replica
from hotset.runtimes.handler_source import check_handler
from hotset.runtimes.predictor_source import check_predictor
from hotset.tls import Certificate
from hotset.tokens import tokens_of
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

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._rounds = Rounds(self.server_state.connections, turns=round(SWEEP_S * _TICKS_PER_S))

    async def on_tick(self, counter: int) -> bool:
        sweep(next(self._rounds), asyncio.get_running_loop().time())
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
    certificate = _certificate(settings)
    with ExitStack() as stack:
        listening = stack.enter_context(_bound(settings.host, settings.port))
        admins = None
        if settings.admin_port:
            admins = stack.enter_context(_bound(settings.host, settings.admin_port))
        uvloop.run(_serve(settings, listening, on_listening, forks, admins=admins, certificate=certificate))


def _certificate(settings: Settings) -> Certificate | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return Certificate(settings.tls_cert, settings.tls_key)


def _renewals(replica: Replica, certificate: Certificate | None) -> Iterator[Renewal]:
    if certificate is not None:
        yield Renewal("certificate and key", certificate.paths, certificate.renew)
    tokens, source = replica.tokens, replica.settings.auth
    if tokens is not None and source is not None and source.path is not None:
        yield Renewal("tokens", (Path(source.path),), lambda: tokens.replace(tokens_of(source)))


def _listener(
    app: Callable[..., Awaitable[None]],
    predictions: Predictions,
    settings: Settings,
    certificate: Certificate | None,
) -> Listener:
    config = uvicorn.Config(
        app,
        http=partial(  # type: ignore[arg-type]
            Connection,
            predictions=predictions,
            targets=Targets(predictions),
            most_head_bytes=settings.max_header_size,
            most=most_connections(raise_files_limit()),
        ),
        interface="asgi3",
        lifespan="off",
        ws="none",
        proxy_headers=False,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=int(KEEP_ALIVE_S),
        timeout_graceful_shutdown=time_to_end(settings.drain_timeout).inside_s,  # type: ignore[arg-type]  # it is awaited
        backlog=BACKLOG,
    )
    if certificate is not None:
        config.load()
        config.ssl = certificate.context  # not one of uvicorn's own making: this one can be renewed
    return Listener(config)


async def _serve(
    settings: Settings,
    listening: socket.socket,
    on_listening: Callable[[str], None],
    forks: StartedServer | None = None,
    *,
    admins: socket.socket | None = None,
    certificate: Certificate | None = None,
) -> None:
    events = EventBus()
    events.subscribe(logs.EventLines().log)
    replica = Replica(settings, events=events, forks=forks)
    app = replica.app
    grpc = GrpcPort(replica, certificate=certificate)
    listeners = {_listener(app, app.predictions, settings, certificate): listening}
    if admins is not None:
        listeners[_listener(app.admin, app.no_predictions, settings, certificate)] = admins
    loop = asyncio.get_running_loop()
    starting = asyncio.create_task(replica.start(), name="start")

    def stop() -> None:
        starting.cancel()  # it has ended, or is not worth waiting for: a predictor may take a minute to import
        for listener in listeners:
            if replica.dataplane.draining:
                listener.hurry()
            listener.should_exit = True
        replica.drain()
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
    if admins is not None:
        logger.info("the admin's port is %s", _url(admins, is_secure=certificate is not None))
    url = _url(listening, is_secure=certificate is not None)
    logger.info("serving %s on %s", replica.store.url, url)
    on_listening(url)
    renewing = asyncio.create_task(Renewals(_renewals(replica, certificate)).run(), name="renewals")
    try:
        await asyncio.gather(*(listener.serve(sockets=[bound]) for listener, bound in listeners.items()))
    finally:
        renewing.cancel()
        await grpc.stopped()
        replica.dataplane.cut_off()  # the connections are closed
        await replica.stop()
        logger.info("stopped")


def _url(listening: socket.socket, *, is_secure: bool) -> str:
    scheme = "https" if is_secure else "http"
    host, port = listening.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


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
