"""The yardstick of gRPC: grpcio's server with a handler that does nothing. Started by ``grpc_cost.py``:

    python bare_grpc.py PORT uvloop     grpcio's asyncio server on uvloop, as hotset runs it
    python bare_grpc.py PORT asyncio    on asyncio's own loop
    python bare_grpc.py PORT threads    grpcio's server with threads

It takes and gives bytes, so that it decodes and encodes nothing.
"""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc
import uvloop

ANSWER: Final = b"x" * 60
SERVICE: Final = "inference.GRPCInferenceService"
OPTIONS: Final = (("grpc.so_reuseport", 0),)


def handlers(infer: Any) -> Any:
    method = grpc.unary_unary_rpc_method_handler(infer)
    return (grpc.method_handlers_generic_handler(SERVICE, {"ModelInfer": method}),)


async def in_a_loop(port: str) -> None:
    async def infer(_body: bytes, _context: Any) -> bytes:
        return ANSWER

    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers(handlers(infer))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


def in_threads(port: str) -> None:
    server = grpc.server(ThreadPoolExecutor(4), options=OPTIONS)
    server.add_generic_rpc_handlers(handlers(lambda _body, _context: ANSWER))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


def main(arguments: list[str]) -> None:
    """Serve until SIGTERM."""
    port, kind = arguments
    match kind:
        case "uvloop":
            uvloop.run(in_a_loop(port))
        case "asyncio":
            asyncio.run(in_a_loop(port))
        case "threads":
            in_threads(port)
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
