"""kserve's InferenceRESTClient, unmodified. Its package needs others than ours, so it has an environment of its own."""

from __future__ import annotations

import asyncio
import sys

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from samples import FINITE, TENSORS, same


async def main(url: str) -> None:
    client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=60))
    assert await client.is_server_live(url)
    assert await client.is_server_ready(url)
    assert await client.is_model_ready(url, "large")
    assert not await client.is_model_ready(url, "atlantis")
    array = np.arange(8.0).reshape(2, 4)
    for binary in (True, False):
        tensor = InferInput("x", list(array.shape), "FP64")
        tensor.set_data_from_numpy(array, binary_data=binary)
        for wanted in (None, True, False):
            outputs = None
            if wanted is not None:
                outputs = [RequestedOutput("y", parameters={"binary_data": wanted})]
            request = InferRequest("large", [tensor], request_outputs=outputs)
            answer = await client.infer(url, request, model_name="large")
            (output,) = answer.outputs
            np.testing.assert_array_equal(output.as_numpy(), array)
            print("passed", binary, wanted, flush=True)
    halves = np.array([[1.5, -2.0, 0.25]], np.float16)
    await check_halves(client, url, halves)
    await check_every_datatype(client, url)
    message = ""
    try:
        await client.infer(url, request, model_name="atlantis")
    except httpx.HTTPStatusError as error:
        message = str(error)
    assert "Request for unknown model: 'atlantis' is not found" in message
    await client.close()


async def check_every_datatype(client: InferenceRESTClient, url: str) -> None:
    for binary in (True, False):
        inputs = []
        for name, array in (TENSORS if binary else FINITE).items():
            tensor = InferInput(f"in_{name}", list(array.shape), name)
            tensor.set_data_from_numpy(array, binary_data=binary or name == "FP16")
            inputs.append(tensor)
        request = InferRequest("types", inputs, parameters={"binary_data_output": True})
        answer = await client.infer(url, request, model_name="types")
        found = {output.name: output.as_numpy() for output in answer.outputs}
        for name, array in (TENSORS if binary else FINITE).items():
            assert same(found[f"out_{name}"], array), (name, binary, found[f"out_{name}"])


async def check_halves(client: InferenceRESTClient, url: str, halves: np.ndarray) -> None:
    tensor = InferInput("x", list(halves.shape), "FP16")
    tensor.set_data_from_numpy(halves, binary_data=True)
    request = InferRequest("echo", [tensor], parameters={"binary_data_output": True})
    answer = await client.infer(url, request, model_name="echo")
    np.testing.assert_array_equal(answer.outputs[0].as_numpy(), halves)


asyncio.run(main(f"http://{sys.argv[1]}"))
