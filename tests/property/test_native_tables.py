"""The short way of the native codec says what the longer way says, whatever the body."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hotset.codecs.native import NativeCodec
from hotset.errors import InvalidInputError
from hotset.payload import InferRequest, Signature, TensorSpec
from hotset.runtimes.base import CallMeta

META = CallMeta("paris", 1)
LONG = b" " * 70_000
"""Behind a body, it makes the codec take the longer way."""

numbers = st.integers() | st.floats(allow_nan=False) | st.integers(-(2**65), 2**65)
values = numbers | st.none() | st.booleans() | st.text(max_size=3)
tables = st.lists(st.lists(numbers, max_size=4), max_size=4) | st.lists(
    st.lists(values, max_size=3) | values, max_size=4
)
bodies = st.fixed_dictionaries({"instances": tables}) | st.fixed_dictionaries(
    {"instances": tables}, optional={"outputs": st.just(["predict"]), "inputs": tables, "other": values}
)
signatures = st.sampled_from([None, "FP64", "FP32", "INT64", "BYTES", "none", "two"])


def signature(kind: str | None) -> Signature:
    if kind == "none":
        return Signature("fake")
    names = ("a", "b") if kind == "two" else ("x",)
    datatype = None if kind == "two" else kind
    return Signature("fake", tuple(TensorSpec(name, datatype, (-1, -1)) for name in names))


def outcome(body: bytes, declared: Signature) -> InferRequest | str:
    try:
        return NativeCodec().decode_tensors(body, META, declared)
    except InvalidInputError as error:
        return str(error)


@given(bodies, signatures)
@example({"instances": [[2**63]]}, None)
@example({"instances": [[2**63, 1.5]]}, "FP64")
@example({"instances": [[1, 2], [3, 4]]}, "FP64")
@example({"instances": [[1, 2], [3]]}, None)
@example({"instances": []}, None)
@example({"instances": [[]]}, None)
def test_the_short_way_and_the_longer_one_agree(body: dict[str, Any], kind: str | None) -> None:
    data = json.dumps(body).encode()
    short, longer = outcome(data, signature(kind)), outcome(data + LONG, signature(kind))
    if isinstance(short, str) or isinstance(longer, str):
        assert short == longer
        return
    assert short.inputs.keys() == longer.inputs.keys()
    assert (short.outputs, short.parameters) == (longer.outputs, longer.parameters)
    for name, array in short.inputs.items():
        other = longer.inputs[name]
        assert (array.dtype, array.shape) == (other.dtype, other.shape)
        assert array.dtype == object or np.array_equal(array, other, equal_nan=array.dtype.kind == "f")


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"instances": [[1e999]]}', b"[" * 3000, b'\xff{"instances": []}']
)
def test_what_is_no_json_is_told_alike(body: bytes) -> None:
    assert outcome(body, signature(None)) == outcome(body + LONG, signature(None)) or body in {b"", b"{"}
