"""Runs the checks of one client, in a process of its own: messages of two clients cannot be in one process.

    python triton_sync.py <host:port> <directory>

Every function ``check_…`` of the calling script is called with the address and a directory that the server's models look into.
The first failure is shown and ends the process with 1.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import grpc


def run_all(names: Mapping[str, Any]) -> None:
    address, directory = sys.argv[1], Path(sys.argv[2])
    for name, check in names.items():
        if name.startswith("check_"):
            outcome = check(address, directory)
            if inspect.isawaitable(outcome):
                asyncio.run(_awaited(outcome))
            print("passed", name, flush=True)


def failure(call: Callable[[], object]) -> Any:
    """Return the error that a call ends with."""
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("expected an error")


async def _awaited(outcome: Any) -> None:
    await outcome
