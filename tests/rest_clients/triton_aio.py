"""tritonclient.http.aio, unmodified. ``python triton_aio.py <host:port>``"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import tritonclient.http.aio as triton
from samples import FINITE, LARGE, TENSORS, run_all, same
from tritonclient.utils import InferenceServerException

CODINGS = (None, "gzip", "deflate")


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Any]:
    async with triton.InferenceServerClient(address) as client:
        yield client


def given(name: str, datatype: str, array: np.ndarray, *, binary: bool = True) -> Any:
    return triton.InferInput(name, list(array.shape), datatype).set_data_from_numpy(array, binary_data=binary)


async def check_all_but_predictions(address: str) -> None:
    async with connected(address) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("types", "1")
        assert (await client.get_server_metadata())["name"] == "hotset"
        assert (await client.get_model_metadata("types"))["platform"] == "onnxruntime"
        assert (await client.get_model_config("types"))["max_batch_size"] == 64
        await client.load_model("spare")
        rows = {row["name"]: row["state"] for row in await client.get_model_repository_index()}
        assert rows["spare"] == "READY"
        await client.unload_model("spare")
        rows = {row["name"]: row["state"] for row in await client.get_model_repository_index()}
        assert rows["spare"] == "UNAVAILABLE"
        assert (await client.get_inference_statistics("spare"))["model_stats"]


async def check_every_datatype(address: str) -> None:
    async with connected(address) as client:
        for coding in CODINGS:
            answer = await client.infer(
                "types",
                [given(f"in_{name}", name, array) for name, array in TENSORS.items()],
                request_compression_algorithm=coding,
                response_compression_algorithm=coding,
            )
            assert all(same(answer.as_numpy(f"out_{name}"), array) for name, array in TENSORS.items())
        plain = {name: array for name, array in FINITE.items() if name != "FP16"}
        answer = await client.infer(
            "types",
            [given(f"in_{name}", name, array, binary=name == "FP16") for name, array in FINITE.items()],
            outputs=[triton.InferRequestedOutput(f"out_{name}", binary_data=False) for name in plain],
        )
        assert all(same(answer.as_numpy(f"out_{name}"), array) for name, array in plain.items())


async def check_many_large_ones_at_once(address: str) -> None:
    async with connected(address) as client:
        arrays = [LARGE + number for number in range(6)]
        answers = await asyncio.gather(
            *(client.infer("large", [given("x", "FP64", array)]) for array in arrays)
        )
        assert all(same(answer.as_numpy("y"), array) for answer, array in zip(answers, arrays, strict=True))


async def check_what_is_wrong_is_said(address: str) -> None:
    async with connected(address) as client:
        message = ""
        try:
            await client.infer("atlantis", [given("x", "FP64", np.ones((1, 4)))])
        except InferenceServerException as error:
            message = error.message()
        assert "unknown model: 'atlantis' is not found" in message


run_all(dict(globals()))
