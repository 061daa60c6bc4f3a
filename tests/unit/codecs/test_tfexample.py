"""``tf.Example`` messages, read back with protobuf by their published definition."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from hotset.codecs.registry import by_name
from hotset.codecs.tfexample import serialized
from hotset.errors import InvalidInputError
from hotset.payload import Signature, TensorSpec
from hotset.runtimes.base import CallMeta

Field = descriptor_pb2.FieldDescriptorProto


def example_class() -> Any:
    """``tensorflow/core/example/example.proto``, in a pool of its own."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="t", syntax="proto3")

    def message(name: str, **fields: tuple[int, int, str, bool]) -> Any:
        added = file.message_type.add(name=name)
        for field, (number, kind, type_name, repeated) in fields.items():
            label = Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL
            made = added.field.add(name=field, number=number, type=kind, label=label)
            if type_name:
                made.type_name = type_name
        return added

    message("BytesList", value=(1, Field.TYPE_BYTES, "", True))
    message("FloatList", value=(1, Field.TYPE_FLOAT, "", True))
    message("Int64List", value=(1, Field.TYPE_INT64, "", True))
    feature = message(
        "Feature",
        bytes_list=(1, Field.TYPE_MESSAGE, ".t.BytesList", False),
        float_list=(2, Field.TYPE_MESSAGE, ".t.FloatList", False),
        int64_list=(3, Field.TYPE_MESSAGE, ".t.Int64List", False),
    )
    feature.oneof_decl.add(name="kind")
    for field in feature.field:
        field.oneof_index = 0
    features = message("Features", feature=(1, Field.TYPE_MESSAGE, ".t.Features.FeatureEntry", True))
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=Field.TYPE_STRING, label=Field.LABEL_OPTIONAL)
    entry.field.add(
        name="value",
        number=2,
        type=Field.TYPE_MESSAGE,
        label=Field.LABEL_OPTIONAL,
        type_name=".t.Feature",
    )
    message("Example", features=(1, Field.TYPE_MESSAGE, ".t.Features", False))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Example"))


def test_a_message_is_read_back() -> None:
    features = {
        "age": [42, -1, 2**63 - 1, True],
        "ratio": [0.5, -1.25],
        "name": ["é", {"b64": "/wA="}],
        "long": ["x" * 300],
        "none": [],
    }
    example = example_class().FromString(serialized(features, "examples[0]"))
    found = example.features.feature
    assert set(found) == set(features)
    assert list(found["age"].int64_list.value) == [42, -1, 2**63 - 1, 1]
    assert list(found["ratio"].float_list.value) == [0.5, -1.25]
    assert list(found["name"].bytes_list.value) == ["é".encode(), b"\xff\x00"]
    assert found["long"].bytes_list.value[0] == b"x" * 300
    assert found["none"].WhichOneof("kind") is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([1, 2.5], "Unexpected element type"),
        (["a", 1], "Unexpected element type"),
        ([2**63], "out of range for an int64"),
        ([1e300], "out of range for a float"),
        ([{"b64": 3}], "not base64"),
    ],
)
def test_what_does_not_fit_names_the_feature(values: list[Any], words: str) -> None:
    with pytest.raises(InvalidInputError, match=f"Feature: a: .*{words}"):
        serialized({"a": values}, "examples[0]")


def test_a_tensorflow_model_that_parses_examples_itself_gets_messages() -> None:
    signature = Signature("tensorflow_savedmodel", (TensorSpec("inputs", "BYTES", (-1,)),))
    request = by_name("tfserving.classify").decode_tensors(
        b'{"examples": [{"a": 1}, {"b": "x"}]}', CallMeta("paris", 1), signature
    )
    first, second = (example_class().FromString(item) for item in request.inputs["inputs"])
    assert list(first.features.feature["a"].int64_list.value) == [1]
    assert list(second.features.feature["b"].bytes_list.value) == [b"x"]
