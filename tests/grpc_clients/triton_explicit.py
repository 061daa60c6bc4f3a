"""The messages of tritonclient, with the tensors' elements as numbers: what clients in other languages send."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import numpy as np
from checks import failure, run_all
from tensors import TENSORS, same
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

FIELDS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def check_every_datatype(address: str, _directory: Path) -> None:
    """Numbers are answered with numbers."""
    with grpc.insecure_channel(address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        for datatype, field in FIELDS.items():
            tensor = TENSORS[datatype]
            answer = stub.ModelInfer(request(datatype, tensor.shape, field, tensor.ravel().tolist()))
            assert not answer.raw_output_contents
            (output,) = answer.outputs
            assert (output.name, output.datatype, tuple(output.shape)) == ("x", datatype, tensor.shape)
            values = np.array(list(getattr(output.contents, field)), dtype=tensor.dtype)
            assert same(values.reshape(tensor.shape), tensor), datatype


def check_what_only_raw_bytes_can_carry(address: str, _directory: Path) -> None:
    """FP16 has no field: a request with it says so."""
    with grpc.insecure_channel(address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        details = refused(stub, request("FP16", (1,), "fp32_contents", [1.0]))
        assert details == "input 'x': FP16 has no field in the contents; send it in raw_input_contents"


def check_what_does_not_fit(address: str, _directory: Path) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        mixed = request("FP64", (1,), "fp64_contents", [1.0])
        mixed.raw_input_contents.append(bytes(8))
        missing = request("FP64", (1,), "fp64_contents", [])
        missing.inputs[0].ClearField("contents")
        twice = request("FP64", (1,), "fp64_contents", [1.0])
        twice.inputs.append(twice.inputs[0])
        for text, asked in (
            ("input 'x': found contents beside raw_input_contents", mixed),
            ("input 'x': the shape [1] has 1 elements, but fp64_contents has: 0", missing),
            ("input 'x' is given twice", twice),
            ("the shape [3] has 3 elements", request("FP64", (3,), "fp64_contents", [1.0])),
            ("expected fp64_contents for FP64", request("FP64", (1,), "fp32_contents", [1.0])),
            ("expected INT8 from -128 to 127, found: 128", request("INT8", (1,), "int_contents", [128])),
            ("expected a datatype of BOOL", request("FP128", (1,), "fp32_contents", [1.0])),
            ("sizes of 0 or more", request("FP64", (-1,), "fp64_contents", [1.0])),
            ("at most 64 dimensions", request("FP64", (1,) * 65, "fp64_contents", [1.0])),
        ):
            details = refused(stub, asked)
            assert text in details, details


def check_bytes_that_are_no_message(address: str, _directory: Path) -> None:
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for body in (
            b"\x0a\xff",
            b"\x0b",
            b"\xff" * 20,
            b"\x0a\x02\xff\xfe",
            b"\x0a\x04echo\x2a\x02\x0a\x09",
        ):
            error = failure(lambda body=body: call(body))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error
        assert GRPCInferenceServiceStub(channel).ServerLive(messages.ServerLiveRequest()).live


def check_errors_say_their_kind(address: str, _directory: Path) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        asked = request("FP64", (1,), "fp64_contents", [1.0], model="broken")
        trailing = dict(failure(lambda: stub.ModelInfer(asked)).trailing_metadata())
        assert trailing["error-kind"] == "predict_failed"
        assert trailing["x-model-version"] == "1"


def check_a_body_too_large(address: str, _directory: Path) -> None:
    """The server of the test takes 16 MiB."""
    with grpc.insecure_channel(address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        asked = request("FP64", (1,), "fp64_contents", [])
        asked.inputs[0].ClearField("contents")
        asked.raw_input_contents.append(bytes(17 * 1024 * 1024))
        error = failure(lambda: stub.ModelInfer(asked))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED, error


def request(
    datatype: str, shape: tuple[int, ...], field: str, values: list[Any], *, model: str = "echo"
) -> messages.ModelInferRequest:
    asked = messages.ModelInferRequest(model_name=model)
    tensor = asked.inputs.add(name="x", datatype=datatype, shape=shape)
    getattr(tensor.contents, field).extend(values)
    return asked


def refused(stub: GRPCInferenceServiceStub, asked: messages.ModelInferRequest) -> str:
    error = failure(lambda: stub.ModelInfer(asked))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error
    return error.details()


if __name__ == "__main__":
    run_all(dict(globals()))
