"""The gRPC port: grpcio's asyncio server in the gateway's own loop, and the table of what it serves.

Messages are bytes to it: no method has a serializer. ``server.py`` opens it beside the HTTP port, and ends both together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import grpc
from grpc import aio

from hotset.api.auth import OPEN_GATE, Gate
from hotset.api.body import BodyReader
from hotset.api.dataplane import DataPlane
from hotset.api.grpc.health import Health
from hotset.api.grpc.inference import Inference
from hotset.api.grpc.management import Management, Unary
from hotset.api.grpc.reflection import Reflection
from hotset.api.grpc.statuses import refuse
from hotset.errors import ConfigError, UnsupportedError
from hotset.keys import MAX_NAME_BYTES
from hotset.messages.inference import NOT_SERVED, SERVICE
from hotset.messages.platform import HEALTH_SERVICE, REFLECTION_PACKAGES

Pem: TypeAlias = Callable[[], tuple[bytes, bytes]]
"""Gives a key and a certificate chain."""

END_S: Final = 5.0
"""What was cut off has answered within this time."""


class Listener:
    """Owned by the event loop in which it is made. ``bind`` → ``start`` → ``stop``; ``hurry`` makes a stop short."""

    def __init__(
        self,
        dataplane: DataPlane,
        *,
        bodies: BodyReader,
        version: str,
        max_batch: int,
        gate: Gate = OPEN_GATE,
        most_head_bytes: int = 1 << 16,
        most_name: int = MAX_NAME_BYTES,
        most_rpcs: int = 2048,
        most_connections: int = 1024,
    ) -> None:
        """``most_rpcs`` may be open at once, streams among them; gRPC refuses more itself, before it reads their messages."""
        self._stop: Final = asyncio.Event()
        self._hurry: Final = asyncio.Event()
        self._inference: Final = Inference(
            dataplane, bodies=bodies, stop=self._stop, gate=gate, most_name=most_name
        )
        self._server: Final = aio.server(
            options=(
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", bodies.limit_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_metadata_size", most_head_bytes),
                ("grpc.absolute_max_metadata_size", most_head_bytes),
                ("grpc.max_allowed_incoming_connections", most_connections),
            ),
            maximum_concurrent_rpcs=most_rpcs,
        )
        management = Management(
            dataplane, gate=gate, version=version, max_batch=max_batch, most_name=most_name
        )
        health = Health(dataplane.readiness, stop=self._stop)
        self._add(SERVICE, self._inference_methods(management.methods()))
        self._add(
            HEALTH_SERVICE,
            {
                "Check": grpc.unary_unary_rpc_method_handler(health.check),
                "Watch": grpc.unary_stream_rpc_method_handler(health.watch),
            },
        )
        for package in REFLECTION_PACKAGES:
            info = Reflection(package, stop=self._stop, gate=gate).info
            self._add(
                f"{package}.ServerReflection",
                {"ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(info)},
            )

    def bind(self, host: str, port: int, *, pem: Pem | None = None) -> int:
        """Take the port, and return its number; who connects waits until ``start``.

        ``pem`` gives the key and the certificate chain that count now; it is asked with each connection, in any thread.

        Raises:
            ConfigError: it is taken.
        """
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if pem is None:
                bound: int = self._server.add_insecure_port(address)
            else:
                bound = self._server.add_secure_port(address, _credentials(pem))
        except RuntimeError as error:
            raise ConfigError(
                f"cannot listen on {address} for gRPC; choose another host or grpc_port"
            ) from error
        return bound

    async def start(self) -> None:
        await self._server.start()

    async def stop(self, limit_s: float) -> None:
        """Take no more; let what is inside end, and after ``limit_s`` answer it with an error."""
        self._stop.set()
        stopping = asyncio.create_task(self._server.stop(limit_s + END_S), name="gRPC stops")
        hurried = asyncio.create_task(self._hurry.wait(), name="gRPC hurries")
        try:
            await asyncio.wait((stopping, hurried), timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            self._inference.cut_off()
            await stopping
        finally:
            hurried.cancel()

    def hurry(self) -> None:
        """Wait no longer for what is inside."""
        self._hurry.set()

    def _inference_methods(self, management: Mapping[str, Unary]) -> dict[str, Any]:
        unary = (
            dict.fromkeys(NOT_SERVED, _not_served) | dict(management) | {"ModelInfer": self._inference.infer}
        )
        methods = {name: grpc.unary_unary_rpc_method_handler(method) for name, method in unary.items()}
        methods["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(self._inference.stream)
        return methods

    def _add(self, service: str, methods: Mapping[str, Any]) -> None:
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, dict(methods)),))


def _credentials(pem: Pem) -> grpc.ServerCredentials:
    """Return credentials that are renewed with what ``pem`` gives."""
    told = pem()

    def renewed() -> Any:
        nonlocal told
        now = pem()
        if now == told:
            return None  # the same
        told = now
        return grpc.ssl_server_certificate_configuration([now])

    return grpc.dynamic_ssl_server_credentials(grpc.ssl_server_certificate_configuration([told]), renewed)


async def _not_served(_body: bytes, context: Any) -> bytes:
    return refuse(
        context,
        UnsupportedError(
            "this server does not have the extensions for shared memory, tracing and logging; "
            "ServerMetadata lists those it has"
        ),
    )
