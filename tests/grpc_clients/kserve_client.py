"""kserve's InferenceGRPCClient, unmodified. Its package needs others than ours, so it has an environment of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from checks import run_all
from kserve import InferenceGRPCClient, InferInput, InferRequest
from tensors import TENSORS, same

RAW_ONLY = {"FP16"}


async def check_health(address: str, _directory: Path) -> None:
    async with InferenceGRPCClient(address) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("echo")
        assert not await client.is_model_ready("atlantis")


async def check_every_datatype(address: str, _directory: Path) -> None:
    """As raw bytes and as numbers; what came in one form is answered in it."""
    async with InferenceGRPCClient(address) as client:
        for datatype, tensor in TENSORS.items():
            for raw in (True, False):
                if datatype == "BYTES" or (datatype in RAW_ONLY and not raw):
                    continue
                asked = InferInput("x", list(tensor.shape), datatype)
                asked.set_data_from_numpy(tensor, binary_data=raw)
                answer = await client.infer(InferRequest("echo", [asked], request_id="5"))
                assert (answer.id, answer.model_name, answer.model_version) == ("5", "echo", "2")
                assert same(answer.outputs[0].as_numpy(), tensor), datatype


async def check_text(address: str, _directory: Path) -> None:
    """The client itself refuses bytes that are not text, and gives text back as such or as bytes."""
    words = np.array(["", "Zürich"], dtype=np.object_)
    async with InferenceGRPCClient(address) as client:
        for raw in (True, False):
            asked = InferInput("x", [2], "BYTES")
            asked.set_data_from_numpy(words, binary_data=raw)
            answer = await client.infer(InferRequest("echo", [asked]))
            found = answer.outputs[0].as_numpy().tolist()
            assert [item.decode() if isinstance(item, bytes) else item for item in found] == words.tolist()


if __name__ == "__main__":
    run_all(dict(globals()))
