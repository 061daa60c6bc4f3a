"""The binary tensor data extension: what is written is read, and whatever else comes is refused in good order."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from hotset.codecs.oip import OipCodec
from hotset.codecs.rawtensors import RAW_DATATYPES
from hotset.errors import InvalidInputError
from hotset.payload import DTYPES, Array, Encoded, InferResponse, Signature, TensorSpec
from hotset.runtimes.base import CallMeta
from hotset.workers.base import LoadSpec, PredictCall
from hotset.workers.host import Host
from hotset.workers.standard import standard_kit
from model_files import regressor

CODEC = OipCodec()
META = CallMeta("paris", 3)
SIGNATURES = [
    Signature("sklearn", (TensorSpec("x", None, (-1, 2)),)),
    Signature("onnx", (TensorSpec("x", "BYTES", (-1,)),)),
    Signature("onnx", (TensorSpec("x", "FP32", (-1, 2)), TensorSpec("y", "INT8", (-1,)))),
    Signature("python"),
]


def meta_of(length: object) -> CallMeta:
    return CallMeta("paris", 3, headers=(("inference-header-content-length", str(length)),))


def arrays(datatype: str) -> st.SearchStrategy[Any]:
    shapes = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
    if datatype == "BYTES":
        return npst.arrays(object, shapes, elements=st.binary(max_size=6), fill=st.nothing())
    return npst.arrays(DTYPES[datatype], shapes)


named = st.dictionaries(st.text(max_size=4), st.sampled_from(sorted(DTYPES)).flatmap(arrays), max_size=4)


@settings(max_examples=200)
@given(outputs=named)
def test_what_is_written_is_read(outputs: dict[str, Array]) -> None:
    asked = json.dumps({"inputs": [], "parameters": {"binary_data_output": True}}).encode()
    request = CODEC.decode_tensors(asked, META, SIGNATURES[0])
    answer = CODEC.encode_tensors(InferResponse(outputs), request, META)
    length = int(dict(answer.headers).get("Inference-Header-Content-Length", len(answer.body)))
    text = json.loads(bytes(answer.body)[:length])
    head = json.dumps({"inputs": text["outputs"]}).encode()
    found = CODEC.decode_tensors(head + bytes(answer.body)[length:], meta_of(len(head)), SIGNATURES[0]).inputs
    assert list(found) == list(outputs)
    for name, array in outputs.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert (found[name].tolist(), found[name].dtype) == (array.tolist(), array.dtype) or (
            found[name].tobytes() == array.tobytes()
        )


tensors = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["x", "y"]),
        "shape": st.lists(st.integers(-1, 3) | st.just(2**70), max_size=3),
        "datatype": st.sampled_from([*RAW_DATATYPES, "?"]),
    },
    optional={
        "parameters": st.fixed_dictionaries(
            {}, optional={"binary_data_size": st.integers(-2, 30) | st.just(2**63) | st.none()}
        ),
        "data": st.just([]) | st.just([1]) | st.just(["a"]),
    },
)
wishes = st.fixed_dictionaries(
    {"name": st.just("y")},
    optional={
        "parameters": st.fixed_dictionaries(
            {}, optional={"binary_data": st.booleans() | st.none(), "classification": st.integers(0, 2)}
        )
    },
)
heads = st.fixed_dictionaries(
    {"inputs": st.lists(tensors, max_size=3)},
    optional={
        "outputs": st.lists(wishes, max_size=2),
        "parameters": st.fixed_dictionaries(
            {}, optional={"binary_data_output": st.booleans() | st.integers()}
        ),
    },
).map(lambda value: json.dumps(value).encode())
bodies = st.tuples(heads | st.binary(max_size=9), st.binary(max_size=40))


@settings(max_examples=300)
@given(
    body=bodies,
    shift=st.integers(-3, 3) | st.just(-(10**6)) | st.just(10**6),
    signature=st.sampled_from(SIGNATURES),
    cut=st.integers(0, 12),
)
def test_any_bytes_are_a_request_or_invalid_input(
    body: tuple[bytes, bytes], shift: int, signature: Signature, cut: int
) -> None:
    head, tail = body
    whole = head + tail[: len(tail) - cut]
    meta = meta_of(max(0, len(head) + shift))
    with suppress(InvalidInputError):
        for array in CODEC.decode_tensors(whole, meta, signature).inputs.values():
            assert array.nbytes <= 8 * len(whole) + 64
    with suppress(InvalidInputError):
        CODEC.decode_payload(memoryview(whole), meta)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    place = tmp_path_factory.mktemp("model")
    (place / "model.pkl").write_bytes(regressor(3))
    host = Host(standard_kit(None, {}))
    host.load(LoadSpec(1, "paris", 1, str(place)))
    return host


@settings(max_examples=300, deadline=None)
@given(
    datatype=st.sampled_from([*RAW_DATATYPES, "?"]),
    shape=st.lists(st.integers(0, 3), max_size=3),
    values=st.binary(max_size=40),
    excess=st.sampled_from([0, 0, 0, 1, -1, 5]),
    named=st.sampled_from(["input-0", "x"]),
    length=st.none() | st.integers(0, 20),
    coding=st.sampled_from([None, "gzip", "deflate"]),
)
def test_a_model_asked_anything_answers_or_says_what_is_wrong(
    host: Host,
    datatype: str,
    shape: list[int],
    values: bytes,
    excess: int,
    named: str,
    length: int | None,
    coding: str | None,
) -> None:
    """Never a failure of the model or the server's own: numbers of any kind, NaN among them, cut short or too long."""
    size = max(0, len(values) + excess)
    it = {
        "name": named,
        "shape": shape,
        "datatype": datatype,
        "parameters": {"binary_data_size": size},
    }
    head = json.dumps({"inputs": [it], "parameters": {"binary_data_output": True}}).encode()
    headers = [("inference-header-content-length", str(len(head) if length is None else length))]
    if coding is not None:
        headers.append(("content-encoding", coding))  # which it is not
    outcome = host.predict_all([PredictCall(1, "oip", head + values, headers=tuple(headers))])[0]
    assert isinstance(outcome, Encoded | InvalidInputError), outcome
