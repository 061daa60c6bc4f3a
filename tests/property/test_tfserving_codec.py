"""TensorFlow Serving's codecs: what is written is read again, nothing but bad input is raised, and the short way says
what the longer one says."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from hotset.codecs.registry import by_name
from hotset.codecs.tfexamples import classification, regression
from hotset.errors import InvalidInputError, PredictFailedError
from hotset.payload import Array, InferResponse, Signature, TensorSpec, datatype_of
from hotset.runtimes.base import CallMeta

META = CallMeta("paris", 3)
LONG = b" " * 70_000
PREDICT = by_name("tfserving")
CODECS = [PREDICT, by_name("tfserving.classify"), by_name("tfserving.regress")]
SIGNATURES = [
    Signature("sklearn", (TensorSpec("x", None, (-1, 2)),)),
    Signature("onnx", (TensorSpec("x", "FP32", (-1, 2)), TensorSpec("y", "INT8", (-1,)))),
    Signature("onnx", (TensorSpec("x", "BYTES", (-1,)),), (TensorSpec("a", None, ()), TensorSpec("b", None, ()))),
    Signature("tensorflow", (TensorSpec("x", "BYTES", (-1,)),)),
    Signature("onnx", (TensorSpec("x", "FP32", (-1, -1)),)),
    Signature("python"),
]  # fmt: skip

kinds = st.sampled_from(["?", "i1", "u1", "i4", "u4", "i8", "u8", "f4", "f8"])
shapes = npst.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=3)
numbers = kinds.flatmap(lambda kind: npst.arrays(np.dtype(kind), shapes))
texts = shapes.flatmap(
    lambda shape: st.lists(st.text(max_size=4) | st.binary(max_size=4), min_size=int(np.prod(shape)), max_size=int(np.prod(shape)))
    .map(lambda items: objects(items).reshape(shape))
)  # fmt: skip
arrays = numbers | texts


def objects(items: list[Any]) -> Array:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def sent(value: Any) -> Any:
    """As a client writes it: bytes as ``b64``."""
    if isinstance(value, list):
        return [sent(item) for item in value]
    return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def declared(**inputs: Array) -> Signature:
    specs = tuple(TensorSpec(name, datatype_of(it), it.shape) for name, it in inputs.items())
    return Signature("onnx", specs)


@given(arrays, st.booleans(), st.booleans())
def test_what_a_client_writes_is_read(array: Array, rows: bool, named: bool) -> None:
    value = sent(array.tolist())
    key = "instances" if rows else "inputs"
    if named:
        value = [{"x": row} for row in value] if rows else {"x": value}
    read = PREDICT.decode_tensors(json.dumps({key: value}).encode(), META, declared(x=array)).inputs["x"]
    assert (read.shape, datatype_of(read)) == (array.shape, datatype_of(array))
    np.testing.assert_array_equal(read, array)


@given(numbers, numbers)
def test_several_inputs_in_rows(one: Array, other: Array) -> None:
    rows = min(len(one), len(other))
    one, other = one[:rows], other[:rows]
    body = json.dumps(
        {"instances": [{"a": a, "b": b} for a, b in zip(one.tolist(), other.tolist(), strict=True)]}
    )
    read = PREDICT.decode_tensors(body.encode(), META, declared(a=one, b=other)).inputs
    np.testing.assert_array_equal(read["a"], one)
    np.testing.assert_array_equal(read["b"], other)


@given(numbers, st.booleans(), st.integers(1, 2))
def test_what_is_answered_is_what_the_model_gave(array: Array, rows: bool, outputs: int) -> None:
    body = b'{"instances": [[1, 2]]}' if rows else b'{"inputs": [[1, 2]]}'
    request = PREDICT.decode_tensors(body, META, SIGNATURES[0])
    named = {f"output-{number}": array for number in range(outputs)}
    answer = json.loads(PREDICT.encode_tensors(InferResponse(named), request, META).body)
    (value,) = answer.values()
    for name in named if outputs > 1 else ():
        one = [row[name] for row in value] if rows else value[name]
        np.testing.assert_array_equal(np.array(one, array.dtype), array)
    if outputs == 1:
        np.testing.assert_array_equal(np.array(value, array.dtype), array)


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=3)
    | st.just({"b64": "aGk="})
    | st.just({"b64": "é"})
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y", "b64"]), inner),
    max_leaves=10,
)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "instances": st.lists(values, max_size=3) | values,
        "inputs": values,
        "examples": st.lists(st.dictionaries(st.sampled_from(["x", "y"]), values), max_size=3) | values,
        "context": st.dictionaries(st.sampled_from(["x", "z"]), values) | values,
        "signature_name": st.sampled_from(["", "serving_default", "a", "q", 3]) | values,
    },
)
tables = st.lists(st.lists(st.integers(-(2**130), 2**130) | st.floats(), max_size=3), max_size=3)
requests = (
    tables.map(lambda rows: json.dumps({"instances": rows}).encode())
    | bodies.map(lambda body: json.dumps(body).encode())
    | st.binary(max_size=30)
)


@given(requests, st.sampled_from(CODECS), st.sampled_from(SIGNATURES))
@example(b'{"instances": [NaN, "\\ud800"]}', PREDICT, SIGNATURES[2])
@example(b'{"examples": [{"x": [NaN, "\\ud800"]}]}', CODECS[1], SIGNATURES[3])
@example(b'{"instances": [' + b"9" * 5000 + b", NaN]}", PREDICT, SIGNATURES[0])
@example(b'{"inputs": ' + b"[" * 5000 + b"NaN" + b"]" * 5000 + b"}", PREDICT, SIGNATURES[0])
@settings(max_examples=300)
def test_whatever_comes_is_a_request_or_bad_input(body: bytes, codec: Any, signature: Signature) -> None:
    with suppress(InvalidInputError):
        for array in codec.decode_tensors(body, META, signature).inputs.values():
            assert isinstance(array, np.ndarray)
    with suppress(InvalidInputError):
        codec.decode_payload(memoryview(body), META)


@given(requests, st.sampled_from(SIGNATURES))
def test_the_short_way_says_what_the_longer_way_says(body: bytes, signature: Signature) -> None:
    short = long = None
    with suppress(InvalidInputError):
        short = PREDICT.decode_tensors(body, META, signature)
    with suppress(InvalidInputError):
        long = PREDICT.decode_tensors(body + LONG, META, signature)
    assert (short is None) == (long is None)
    if short is not None and long is not None:
        assert (short.inputs.keys(), short.outputs, short.parameters) == (
            long.inputs.keys(), long.outputs, long.parameters,
        )  # fmt: skip
        for name, array in short.inputs.items():
            assert array.dtype == long.inputs[name].dtype
            np.testing.assert_array_equal(array, long.inputs[name])


outputs = st.dictionaries(
    st.sampled_from(["classes", "scores", "predict", "predict_proba", "label", "y"]), arrays, max_size=3
)


@given(outputs)
def test_whatever_a_model_gives_is_a_result_or_refused(outputs: dict[str, Array]) -> None:
    for reading in (classification, regression):
        with suppress(InvalidInputError, PredictFailedError):
            assert len(reading(outputs)) in {len(array) for array in outputs.values()}


@given(values, st.sampled_from(CODECS))
def test_whatever_the_users_code_gives_is_json(result: Any, codec: Any) -> None:
    assert json.loads(codec.encode_result(result, None, META).body)
