"""The gRPC port of a server, where there is one: the only place that knows that gRPC may not be installed.

Called by ``server.py``. What serves the port is ``api/grpc``, which is imported only if the port is wanted.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from functools import partial
from importlib.util import find_spec
from typing import Any, Final

from hotset import __version__
from hotset.config import Settings
from hotset.drain_times import time_to_end
from hotset.errors import ConfigError
from hotset.replica import Replica
from hotset.runtimes.ahead import Imports
from hotset.tls import Certificate

_PACKAGES: Final = ("grpc", "google.protobuf")
_LISTENER: Final = "hotset.api.grpc.listener"
_AHEAD: Final = Imports(own=("hotset.codecs.oip_grpc",))
"""For the children: the first request should not wait for it."""

logger = logging.getLogger(__name__)


def check_grpc(settings: Settings) -> None:
    """Refuse a port that cannot be served.

    Raises:
        ConfigError: what it needs is not installed.
    """
    if settings.grpc_port and not all(map(_is_installed, _PACKAGES)):
        raise ConfigError(
            f"grpc_port: found {settings.grpc_port}, but gRPC is not installed; "
            "install it with: pip install 'hotset[grpc]', or leave grpc_port at 0"
        )


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # of the package that it is in
        return False


class GrpcPort:
    """Owned by the event loop in which it is made. ``start`` → ``begin_stop`` → ``stopped``; does nothing where it is off.

    ``check_grpc`` comes before it.
    """

    def __init__(self, replica: Replica, *, certificate: Certificate | None = None) -> None:
        """Take the port; who connects waits until ``start``. With ``certificate`` only who speaks TLS.

        Raises:
            ConfigError: the port is taken.
        """
        self._replica = replica
        self._listener: Any = None
        self._stopping: Any = None
        settings = replica.settings
        if not settings.grpc_port:
            return
        listener = importlib.import_module(_LISTENER).Listener
        self._listener = listener(
            replica.dataplane,
            bodies=replica.app.bodies,
            version=__version__,
            max_batch=settings.max_batch_size,
            gate=replica.app.gate,
            most_head_bytes=settings.max_header_size,
            most_name=settings.max_name_length,
            most_rpcs=settings.grpc_max_rpcs,
            most_connections=settings.grpc_max_connections,
        )
        pem = None if certificate is None else partial(getattr, certificate, "pem")
        self._port = self._listener.bind(settings.host, settings.grpc_port, pem=pem)

    async def start(self) -> None:
        if self._listener is not None and self._stopping is None:
            self._replica.pool.import_ahead(_AHEAD)
            await self._listener.start()
            logger.info("serving gRPC on %s:%d", self._replica.settings.host, self._port)

    def begin_stop(self) -> None:
        """Take no more, and let what is inside end; called again, wait for nobody."""
        if self._listener is None:
            return
        if self._stopping is None:
            limit_s = time_to_end(self._replica.settings.drain_timeout).inside_s
            self._stopping = asyncio.create_task(self._listener.stop(limit_s), name="gRPC port stops")
        else:
            self._listener.hurry()

    async def stopped(self) -> None:
        """Return when nothing is inside any more, and the port is free."""
        if self._listener is not None:
            if self._stopping is None:
                self.begin_stop()
            await self._stopping
