"""JSON that nests too deep, and tensors of too many elements, are refused before anything is made of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotset.body_limits import LEAST_ELEMENTS, LIMITS, _is_deeper, check_depth, configure
from hotset.codecs.arrays import to_array
from hotset.codecs.content import read_payload
from hotset.codecs.npy import read_npy, write_npy
from hotset.codecs.rawtensors import read_tensor
from hotset.config import TABLE, kind_of
from hotset.errors import InvalidInputError


@pytest.fixture
def limits() -> Iterator[None]:
    depth, elements, unpacked = LIMITS.json_depth, LIMITS.elements, LIMITS.unpacked_bytes
    configure(json_depth=8, elements=10, unpacked_bytes=unpacked)
    yield
    configure(json_depth=depth, elements=elements, unpacked_bytes=unpacked)


def depth_of(value: Any) -> int:
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 0


VALUES = st.recursive(
    st.none() | st.integers() | st.text('[]{}"\\ab', max_size=6),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text('[]{}"\\a', max_size=4), inner, max_size=3)
    ),
    max_leaves=40,
)


@given(VALUES, st.integers(0, 12))
def test_the_depth_is_that_of_the_value_whatever_stands_in_its_text(value: Any, most: int) -> None:
    body = json.dumps(value).encode()
    assert _is_deeper(body, most) is (depth_of(value) > most)


@pytest.mark.parametrize(
    "body", [b"[" * 5000, b"[{" * 3000, b'{"a":' * 3000 + b"1" + b"}" * 3000, b'["]",' * 3000 + b"]" * 3000]
)
def test_what_nests_without_end_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInputError, match="more than 200 levels"):
        check_depth(body, "the body")


def test_lists_and_objects_count_alike() -> None:
    assert _is_deeper(b'{"a": [1]}', 1)
    assert not _is_deeper(b'{"a": [1]}', 2)


def test_text_without_an_end_costs_no_more_than_its_length() -> None:
    assert not _is_deeper(b'"' + b'\\"' * 200_000, 8)


def test_many_rows_are_not_deep() -> None:
    check_depth(json.dumps([[1, 2]] * 5000).encode(), "the body")


@pytest.mark.usefixtures("limits")
def test_payloads_and_tensors_are_bounded() -> None:
    assert read_payload(b"[" * 8 + b"]" * 8, "application/json") is not None
    deep = b"[" * 9 + b"]" * 9
    with pytest.raises(InvalidInputError, match="max_json_depth"):
        read_payload(deep, "application/json")
    assert read_payload(deep, "") == deep, "what need not be JSON is not read as JSON"
    assert to_array([1] * 10, None, "x").size == 10
    assert read_tensor(b"0" * 10, "UINT8", [2, 5], "x").size == 10
    for refused in (
        lambda: to_array([1] * 11, None, "x"),
        lambda: read_tensor(b"0" * 11, "UINT8", [11], "x"),
        lambda: read_npy(write_npy(np.zeros(11), "x"), "x"),
    ):
        with pytest.raises(InvalidInputError, match="expected at most 10 elements"):
            refused()


@pytest.mark.usefixtures("limits")
def test_an_arrow_column_of_nothing_but_nulls_is_bounded() -> None:
    pa = pytest.importorskip("pyarrow")
    arrow = pytest.importorskip("hotset.codecs.arrow")
    few, many = (pa.table({"a": pa.nulls(count)}) for count in (10, 1 << 30))
    assert arrow.read_table(arrow.write_table(few), "x").num_rows == 10
    with pytest.raises(InvalidInputError, match="expected at most 10 elements"):
        arrow.read_table(arrow.write_table(many), "x")


def test_the_limits_are_those_of_the_settings() -> None:
    assert LIMITS.json_depth == TABLE["max_json_depth"].default
    assert LIMITS.elements == TABLE["max_tensor_elements"].default
    assert LIMITS.unpacked_bytes == TABLE["max_body_size"].default
    assert kind_of("max_tensor_elements").schema["minimum"] == LEAST_ELEMENTS
