"""tritonclient.grpc.aio, the asyncio client, unmodified. The server has the models of ``test_grpc_clients.py``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc.aio as triton
from checks import run_all
from tensors import TENSORS, same
from triton_inputs import LIMIT_S, given
from tritonclient.utils import InferenceServerException


async def check_all_but_predictions(address: str, _directory: Path) -> None:
    async with triton.InferenceServerClient(address) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("echo")
        assert not await client.is_model_ready("atlantis")
        assert (await client.get_server_metadata()).name == "hotset"
        assert list((await client.get_model_metadata("echo")).versions) == ["1", "2"]
        await client.load_model("spare")
        await client.unload_model("spare")
        index = await client.get_model_repository_index(as_json=True)
        assert {"echo", "spare", "broken", "waiting"} <= {row["name"] for row in index["models"]}


async def check_every_datatype_at_once(address: str, _directory: Path) -> None:
    async with triton.InferenceServerClient(address) as client:
        answers = await asyncio.gather(
            *(client.infer("echo", [given("x", tensor, datatype)]) for datatype, tensor in TENSORS.items())
        )
        for (datatype, tensor), answer in zip(TENSORS.items(), answers, strict=True):
            assert same(answer.as_numpy("x"), tensor), datatype


async def check_stream(address: str, _directory: Path) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for number in range(300):
            tensor = given("x", np.full((2,), float(number)), "FP64")
            model = "broken" if number == 13 else "echo"
            yield {"model_name": model, "inputs": [tensor], "request_id": str(number)}

    number = 0
    async with triton.InferenceServerClient(address) as client:
        async for result, error in client.stream_infer(requests()):
            if number == 13:
                assert "no good" in error.message()
            else:
                assert error is None, error
                assert result.get_response().id == str(number)
                assert result.as_numpy("x").tolist() == [number, number]
            number += 1
    assert number == 300


async def check_a_stream_that_is_cancelled(address: str, directory: Path) -> None:
    """What it was waiting for is given up, and the server goes on."""

    async def requests() -> AsyncIterator[dict[str, Any]]:
        yield {"model_name": "waiting", "inputs": [given("x", np.ones(1), "FP64")]}
        await asyncio.sleep(LIMIT_S)

    async with triton.InferenceServerClient(address) as client:
        stream = client.stream_infer(requests())
        reading = asyncio.ensure_future(anext(stream))
        while not (directory / "predicting").exists():
            await asyncio.sleep(0.005)
        assert stream.cancel()
        try:
            await reading
        except (InferenceServerException, asyncio.CancelledError):
            pass
        else:
            raise AssertionError("expected an error")
        (directory / "release").touch()
        again = await client.infer("echo", [given("x", np.ones(1), "FP64")])
        assert again.as_numpy("x").tolist() == [1.0]


if __name__ == "__main__":
    run_all(dict(globals()))
