"""tritonclient.grpc.aio, the asyncio client, unmodified, asks models that answer in parts: those of ``decoupled_models.py``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc.aio as triton
from checks import run_all
from triton_inputs import LIMIT_S, given, text

MOST_AHEAD = 64
"""Parts of a mebibyte: 1 in the worker's window, and what the sockets and gRPC's own windows of both sides hold."""


async def check_parts_of_several_requests(address: str, _directory: Path) -> None:
    """This client has no way to ask for an empty last answer."""

    async def requests() -> AsyncIterator[dict[str, Any]]:
        for number in range(3):
            yield {
                "model_name": "repeat",
                "inputs": [given("count", np.array([number], np.int32))],
                "request_id": str(number),
            }

    found = []
    async with triton.InferenceServerClient(address) as client:
        async for result, error in client.stream_infer(requests()):
            assert error is None, error
            response = result.get_response()
            assert not response.parameters["triton_final_response"].bool_param
            found.append((response.id, int(result.as_numpy("number")[0])))
    assert sorted(found) == [("1", 0), ("2", 0), ("2", 1)]


async def check_a_client_that_reads_nothing_holds_the_generator_up(address: str, directory: Path) -> None:
    """It gives a part each millisecond or so where it may; what has it stop is that nobody takes them."""

    async def requests() -> AsyncIterator[dict[str, Any]]:
        yield {
            "model_name": "endless",
            "inputs": [given("directory", text(directory)), given("name", text("slow"))],
        }
        await asyncio.sleep(LIMIT_S)

    async with triton.InferenceServerClient(address) as client:
        stream = client.stream_infer(requests())
        result, error = await anext(stream)
        assert error is None, error
        assert result.as_numpy("part").nbytes == 1 << 20
        made = await settled(directory / "slow.made")
        assert made <= MOST_AHEAD, made
        for _ in range(2 * MOST_AHEAD):
            result, error = await anext(stream)
            assert error is None, error
        assert (directory / "slow.made").stat().st_size > 2 * MOST_AHEAD
        assert stream.cancel()
        end_s = time.monotonic() + LIMIT_S
        while not (directory / "slow.closed").exists():
            assert time.monotonic() < end_s
            await asyncio.sleep(0.005)


async def settled(path: Path) -> int:
    """Return the size of a file once it has stayed the same for a while, or is too large already."""
    last, same = -1, 0
    while same < 20 and last <= MOST_AHEAD:
        await asyncio.sleep(0.02)
        found = path.stat().st_size
        last, same = found, same + 1 if found == last else 0
    return last


if __name__ == "__main__":
    run_all(dict(globals()))
