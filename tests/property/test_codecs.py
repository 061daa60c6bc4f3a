"""Whatever bytes a client sends, a codec gives a request or ``InvalidInputError``; and what it writes, it reads."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from hotset.codecs.base import Codec
from hotset.codecs.registry import CODECS
from hotset.errors import InvalidInputError
from hotset.payload import DTYPES, InferRequest, InferResponse, Signature, TensorSpec
from hotset.runtimes.base import CallMeta

META = CallMeta("paris", 3)
SIGNATURES = [
    Signature("sklearn", (TensorSpec("x", None, (-1, 2)),)),
    Signature("onnx", (TensorSpec("x", "FP32", (-1, 2)), TensorSpec("y", "INT8", (-1,)))),
    Signature("onnx", (TensorSpec("x", "BYTES", (-1,)),)),
    Signature("onnx", (TensorSpec("x", "BOOL", (-1,)),)),
    Signature("python"),
]
JSON_DATATYPES = sorted(DTYPES.keys() - {"FP16"})
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(2**70), max_value=2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.just({"b64": "aGk="})
    | st.just({"b64": "é"})
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["x", "y", "b64", "z"]), inner)
    ),
    max_leaves=12,
)
tensors = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["x", "y", ""]) | values,
        "shape": st.lists(st.integers(-1, 4) | st.just(2**70), max_size=4) | values,
        "datatype": st.sampled_from([*JSON_DATATYPES, "FP16", "?"]) | values,
        "data": values,
        "parameters": values,
    },
)
requests = st.fixed_dictionaries(
    {},
    optional={
        "instances": values,
        "inputs": st.lists(tensors, max_size=3) | values,
        "outputs": values,
        "id": values,
        "parameters": values,
    },
)
nests = st.integers(1, 3000).map(lambda depth: b"[" * depth + b"]" * depth)
digits = st.integers(1, 6000).map(lambda count: b"9" * count)
frames = st.sampled_from(
    [
        b"%s",
        b'{"instances": %s}',
        b'{"instances": [%s, %s]}',
        b'{"instances": [{"x": %s}]}',
        b'{"inputs": %s}',
        b'{"inputs": [{"name": "x", "shape": [1], "datatype": "INT64", "data": [%s]}]}',
        b'{"inputs": [{"name": "x", "shape": [%s], "datatype": "FP32", "data": []}]}',
        b'{"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [%s]}]}',
        b'{"id": %s, "inputs": []}',
    ]
)
content_types = (
    st.sampled_from(
        ["", "application/json", "application/x-www-form-urlencoded", "text/x; charset*=utf-8''%ff"]
    )
    | st.text(max_size=20).map("text/plain; charset=".__add__)
    | st.sampled_from(["idna", "unicode_escape", "utf-16", "hex", '"']).map("text/plain; charset=".__add__)
)
bodies = (
    st.binary(max_size=40)
    | requests.map(lambda value: json.dumps(value).encode())
    | st.builds(
        lambda frame, part: frame.replace(b"%s", part), frames, nests | digits | st.binary(max_size=20)
    )
)


@pytest.mark.parametrize("codec", CODECS.values(), ids=list(CODECS))
@given(body=bodies, signature=st.sampled_from(SIGNATURES), content_type=content_types)
@example(body=b'{"instances": "\xff"}', signature=SIGNATURES[0], content_type="application/json")
@example(body=b'{"instances": [1e308, 1e309]}', signature=SIGNATURES[0], content_type="")
@example(body=b'{"instances": [' + b"9" * 320 + b"]}", signature=SIGNATURES[0], content_type="")
def test_any_bytes_are_a_request_or_invalid_input(
    codec: Codec, body: bytes, signature: Signature, content_type: str
) -> None:
    with suppress(InvalidInputError):
        request = codec.decode_tensors(body, META, signature)
        for array in request.inputs.values():
            assert array.nbytes <= 8 * len(body)
    with suppress(InvalidInputError):
        codec.decode_payload(body, CallMeta("paris", 3, content_type))


def arrays(datatype: str) -> st.SearchStrategy[Any]:
    shapes = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
    if datatype == "BYTES":
        return npst.arrays(object, shapes, elements=st.text(), fill=st.nothing())
    return npst.arrays(DTYPES[datatype], shapes).filter(lambda array: not np.isinf(array).any())


@settings(max_examples=200)
@given(datatype=st.sampled_from(JSON_DATATYPES), nested=st.booleans(), data=st.data())
def test_what_oip_writes_it_reads(datatype: str, nested: bool, data: st.DataObject) -> None:
    codec = CODECS["oip"]
    array = data.draw(arrays(datatype))
    encoded = codec.encode_tensors(InferResponse({"x": array}), InferRequest({}, id="7"), META)
    answer = json.loads(encoded.body)
    if nested and array.ndim > 1:
        answer["outputs"][0]["data"] = nest(answer["outputs"][0]["data"], array.shape)
    body = json.dumps({"id": answer["id"], "inputs": answer["outputs"]}).encode()
    request = codec.decode_tensors(body, META, SIGNATURES[0])
    assert request.id == "7"
    assert request.inputs["x"].dtype == array.dtype
    assert request.inputs["x"].shape == array.shape
    np.testing.assert_array_equal(request.inputs["x"], array)


def nest(flat: list[Any], shape: tuple[int, ...]) -> Any:
    """Nest a flat list, by hand, so that NumPy is not its own witness."""
    if not shape:
        return flat[0]
    step = len(flat) // shape[0] if shape[0] else 0
    return [nest(flat[index * step : (index + 1) * step], shape[1:]) for index in range(shape[0])]


@pytest.mark.parametrize("form", ["instances", "inputs"])
@settings(max_examples=150)
@given(datatype=st.sampled_from(JSON_DATATYPES), data=st.data())
def test_what_native_writes_it_reads(form: str, datatype: str, data: st.DataObject) -> None:
    codec = CODECS["native"]
    array = data.draw(arrays(datatype).filter(lambda array: array.ndim > 0 and array.size > 0))
    signature = Signature("onnx", (TensorSpec("x", datatype, (-1,) * array.ndim),))
    first = codec.decode_tensors(json.dumps({form: []}).encode(), META, signature)
    answer = json.loads(codec.encode_tensors(InferResponse({"x": array}), first, META).body)
    body = json.dumps({form: next(iter(answer.values()))}).encode()
    read = codec.decode_tensors(body, META, signature).inputs["x"]
    assert read.dtype == array.dtype
    assert read.shape == array.shape
    np.testing.assert_array_equal(read, array)
