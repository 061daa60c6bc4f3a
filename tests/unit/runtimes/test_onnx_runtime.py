"""ONNX Runtime: declared inputs, outputs, files."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from hotset.errors import InvalidInputError, LoadFailedError, PredictFailedError
from hotset.payload import InferRequest
from hotset.runtimes.onnx_runtime import OnnxRuntime, OnnxServable
from hotset.runtimes.options import Device, RuntimeOptions

FLOAT, DOUBLE, TEXT = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.STRING


def write(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any]) -> None:
    graph = helper.make_graph(nodes, "city", inputs, outputs)
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))


def load(tmp_path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any]) -> OnnxServable:
    write(tmp_path / "model.onnx", nodes, inputs, outputs)
    return OnnxRuntime().load(tmp_path, ["model.onnx"])


@pytest.fixture
def two(tmp_path: Path) -> OnnxServable:
    """Inputs a [n, 2] and b [n, 2]; outputs sum and product."""
    values = [helper.make_tensor_value_info(name, FLOAT, ["n", 2]) for name in ("a", "b", "sum", "product")]
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Mul", ["a", "b"], ["product"])]
    return load(tmp_path, nodes, values[:2], values[2:])


ONES = np.ones((3, 2), np.float32)


def test_declares(two: OnnxServable) -> None:
    declared = [(spec.name, spec.datatype, spec.shape) for spec in two.signature.inputs]
    assert declared == [("a", "FP32", (-1, 2)), ("b", "FP32", (-1, 2))]
    assert [spec.name for spec in two.signature.outputs] == ["sum", "product"]
    assert two.signature.platform == "onnxruntime"


def test_all_outputs_or_those_asked_for(two: OnnxServable) -> None:
    outputs = two.infer(InferRequest({"b": ONES * 3, "a": ONES * 2})).outputs
    assert {name: array[0, 0] for name, array in outputs.items()} == {"sum": 5.0, "product": 6.0}
    assert list(two.infer(InferRequest({"a": ONES, "b": ONES}, ("product",))).outputs) == ["product"]


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"a": ONES}, "input 'b' is missing; found: a"),
        ({}, "input 'a' is missing; found: no inputs"),
        ({"a": ONES, "b": ONES, "c": ONES}, "unknown input: c; this model has: a, b"),
        ({"a": ONES, "b": ONES.astype(np.float64)}, "input 'b': expected FP32, found: FP64"),
        ({"a": ONES, "b": np.array(["x"])}, "input 'b': expected FP32, found: BYTES"),
        ({"a": ONES, "b": ONES[:, :1]}, r"input 'b': expected the shape \[-1, 2\], found: \[3, 1\]"),
        ({"a": ONES, "b": ONES[0]}, r"input 'b': expected the shape \[-1, 2\], found: \[2\]"),
    ],
)
def test_wrong_inputs(two: OnnxServable, inputs: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        two.infer(InferRequest(inputs))


def test_an_unknown_output(two: OnnxServable) -> None:
    with pytest.raises(InvalidInputError, match="no output 'mean'; this model has: sum, product"):
        two.infer(InferRequest({"a": ONES, "b": ONES}, ("mean",)))


def test_text_as_bytes_or_str(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    value = helper.make_tensor_value_info
    servable = load(tmp_path, [node], [value("x", TEXT, ["n"])], [value("y", TEXT, ["n"])])
    for given in (np.array([b"rome", "oslo"], dtype=object), np.array(["rome", "oslo"])):
        assert servable.infer(InferRequest({"x": given})).outputs["y"].tolist() == ["rome", "oslo"]


def test_maps_are_left_out_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    value = helper.make_tensor_value_info
    maps = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(FLOAT, []))
    )
    nodes = [
        helper.make_node("Identity", ["x"], ["y"]),
        helper.make_node("ZipMap", ["x"], ["maps"], domain="ai.onnx.ml", classlabels_int64s=[0, 1]),
    ]
    outputs = [value("y", FLOAT, ["n", 2]), helper.make_value_info("maps", maps)]
    with caplog.at_level(logging.WARNING):
        servable = load(tmp_path, nodes, [value("x", FLOAT, ["n", 2])], outputs)
    assert list(servable.infer(InferRequest({"x": ONES})).outputs) == ["y"]
    assert "maps (seq(map(int64,tensor(float))))" in caplog.text


def test_without_a_tensor_output(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    sequence = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, None))
    node = helper.make_node("SequenceConstruct", ["x"], ["list"])
    with pytest.raises(LoadFailedError, match=r"has no tensor output, only: list \(seq"):
        load(tmp_path, [node], [value("x", FLOAT, [1])], [helper.make_value_info("list", sequence)])


def test_what_the_framework_refuses_is_the_clients_input(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    node = helper.make_node("Gather", ["x", "at"], ["y"])
    inputs = [value("x", FLOAT, ["n", 2]), value("at", TensorProto.INT64, ["k"])]
    servable = load(tmp_path, [node], inputs, [value("y", FLOAT, None)])
    with pytest.raises(InvalidInputError, match=r"the model refused the inputs: InvalidArgument: .*out of"):
        servable.infer(InferRequest({"x": ONES, "at": np.array([99])}))


def test_what_breaks_within_the_graph_is_not(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    node = helper.make_node("MatMul", ["a", "b"], ["c"])
    inputs = [value("a", FLOAT, ["i", "j"]), value("b", FLOAT, ["k", "l"])]
    servable = load(tmp_path, [node], inputs, [value("c", FLOAT, None)])
    with pytest.raises(PredictFailedError, match=r"Fail: .*MatMul dimension mismatch"):
        servable.infer(InferRequest({"a": ONES, "b": ONES}))


def test_weights_in_a_file_beside_the_model(tmp_path: Path) -> None:
    weights = helper.make_tensor("w", FLOAT, [2], np.array([2, 3], np.float32).tobytes(), raw=True)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "w"], ["y"])],
        "city",
        [value("x", FLOAT, ["n", 2])],
        [value("y", FLOAT, ["n", 2])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    onnx.save(
        model, str(tmp_path / "city.onnx"), save_as_external_data=True, location="city.bin", size_threshold=0
    )
    servable = OnnxRuntime().load(tmp_path, ["city.onnx", "city.bin"])
    assert servable.infer(InferRequest({"x": ONES})).outputs["y"][0].tolist() == [2.0, 3.0]


@pytest.mark.parametrize("content", [b"", b"not protobuf", b"\x08\x08"])
def test_corrupt(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(LoadFailedError, match=r"cannot load model\.onnx: \w+"):
        OnnxRuntime().load(tmp_path, ["model.onnx"])


def write_doubling(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    node = helper.make_node("Add", ["x", "x"], ["y"])
    write(tmp_path / "model.onnx", [node], [value("x", FLOAT, ["n", 2])], [value("y", FLOAT, ["n", 2])])


def test_options_are_the_sessions(tmp_path: Path) -> None:
    write_doubling(tmp_path)
    options = RuntimeOptions(
        values={
            "intra_op_num_threads": 2,
            "inter_op_num_threads": 3,
            "execution_mode": "parallel",
            "graph_optimization_level": "basic",
            "enable_cpu_mem_arena": True,
            "session_config": {"session.use_env_allocators": "1"},
        }
    )
    servable = OnnxRuntime().load(tmp_path, ["model.onnx"], options)
    found: Any = servable._session.get_session_options()
    assert (found.intra_op_num_threads, found.inter_op_num_threads) == (2, 3)
    assert found.execution_mode.name == "ORT_PARALLEL"
    assert found.graph_optimization_level.name == "ORT_ENABLE_BASIC"
    assert found.enable_cpu_mem_arena
    assert found.get_session_config_entry("session.use_env_allocators") == "1"
    assert servable.infer(InferRequest({"x": ONES})).outputs["y"][0].tolist() == [2.0, 2.0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"threads": 2}, "model.yaml: options.threads: found an unknown key, expected one of: intra_op_num_threads,"),
        ({"intra_op_num_threads": -1}, "model.yaml: options.intra_op_num_threads: found -1, expected int >= 0"),
        ({"execution_mode": "fast"}, "options.execution_mode: found 'fast', expected one of: parallel, sequential"),
        ({"session_config": {"a": 1}}, "options.session_config"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    write_doubling(tmp_path)
    with pytest.raises(LoadFailedError) as caught:
        OnnxRuntime().load(tmp_path, ["model.onnx"], RuntimeOptions(values=values))
    assert message in str(caught.value)


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("there is one")
    write_doubling(tmp_path)
    with pytest.raises(
        LoadFailedError, match=r"device: found cuda:1, expected one that is there; this ONNX Runtime is"
    ):
        OnnxRuntime().load(tmp_path, ["model.onnx"], RuntimeOptions(Device("cuda", 1)))
