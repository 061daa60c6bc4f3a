"""``model.yaml``, read strictly: what it says, and what is refused, with the path, what was found and what was expected."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hotset.errors import LoadFailedError
from hotset.runtimes.modelyaml import (
    DeclaredTensor,
    ModelOptions,
    Sample,
    read_model_yaml,
)
from hotset.runtimes.options import Device, RuntimeOptions

WHOLE = """
runtime: onnxruntime
device: cuda:1
inputs:
  - {name: rows, datatype: FP32, shape: [-1, 3]}
outputs:
  - name: fare
batching: {max_batch_size: 16}
warmup:
  - {instances: [[1, 2, 3]]}
  - {inputs: [{name: rows, shape: [1, 3], datatype: FP32, data: [1, 2, 3]}]}
  - sample.json
options: {intra_op_num_threads: 2}
"""
FILES = ["model.onnx", "sample.json"]


def read(tmp_path: Path, text: str) -> ModelOptions:
    (tmp_path / "model.yaml").write_text(text)
    (tmp_path / "sample.json").write_text('{"inputs": {"rows": [[1, 2, 3]]}}')
    return read_model_yaml(tmp_path, FILES)


def test_all_of_it(tmp_path: Path) -> None:
    options = read(tmp_path, WHOLE)
    assert options.runtime == "onnxruntime"
    assert options.runtime_options == RuntimeOptions(Device("cuda", 1), {"intra_op_num_threads": 2})
    assert options.inputs == (DeclaredTensor("rows", "FP32", (-1, 3)),)
    assert options.outputs == (DeclaredTensor("fare"),)
    assert (options.batching, options.most_rows) == (True, 16)
    first, second, third = options.samples
    assert first == Sample("warmup[0]", "native", b'{"instances":[[1,2,3]]}')
    assert (second.where, second.codec) == ("warmup[1]", "oip")
    assert json.loads(second.body)["inputs"][0]["name"] == "rows"
    assert third == Sample("warmup[2] (sample.json)", "native", b'{"inputs": {"rows": [[1, 2, 3]]}}')


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}", "device: cpu\noptions: {}\nwarmup: []\n"])
def test_all_of_it_may_be_left_out(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == ModelOptions()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("runtimes: sklearn", "runtimes: found an unknown key, expected one of: runtime, inputs, outputs, device"),
        ("- sklearn", "found ['sklearn'], expected keys and values"),
        ("sklearn", "found 'sklearn', expected keys and values"),
        ("runtime: [sklearn]", "runtime: found ['sklearn'], expected text"),
        ("runtime: 3", "runtime: found 3, expected text"),
        ("inputs: {name: x}", "inputs: found {'name': 'x'}, expected a list"),
        ("inputs: [{name: x, size: 3}]", "inputs[0].size: found an unknown key, expected one of: name, datatype, shape"),
        ("inputs: [{shape: [1]}]", "inputs[0].name: found nothing, expected a value"),
        ("inputs: [{name: x}, {name: 3}]", "inputs[1].name: found 3, expected text"),
        ("inputs: [{name: x, shape: [-2]}]", "inputs[0].shape[0]: found -2, expected int >= -1"),
        ("inputs: [{name: x, shape: [a]}]", "inputs[0].shape[0]: found 'a', expected int"),
        ("inputs: [{name: x, datatype: float}]", "inputs[0].datatype: found 'float', expected one of: BOOL, UINT8"),
        ("inputs: [{name: x}, {name: x}]", "inputs[1].name: found 'x', expected another name"),
        ("outputs: []", "outputs: found an empty list, expected one tensor or more"),
        ("device: gpu", "device: found 'gpu', expected cpu, cuda, or one of several as in cuda:1"),
        ("device: cuda:x", "device: found 'cuda:x', expected cpu"),
        ("options: " + "[" * 100_000, "model.yaml"),
        ("batching: often", "batching: found 'often', expected true or false, or keys and values"),
        ("batching: 16", "batching: found 16, expected true or false, or keys and values"),
        ("batching: {max_batch_size: 0}", "batching.max_batch_size: found 0, expected int >= 1"),
        ("batching: {size: 3}", "batching.size: found an unknown key, expected one of: max_batch_size"),
        ("warmup: sample.json", "warmup: found 'sample.json', expected a list"),
        ("warmup: [other.json]", "warmup[0]: found 'other.json', expected one of the version's files, or a request"),
        ("warmup: [model.onnx]", "warmup[0]: model.onnx is no JSON"),
        ("warmup: [../../etc/passwd]", "warmup[0]: found '../../etc/passwd', expected one of the version's files"),
        ("options: [1]", "options: found [1], expected keys and values"),
        ("runtime: sklearn\nruntime: skops", "model.yaml:2: runtime: found twice, expected it once"),
        ("options: {a: &x 1, b: *x}", "model.yaml:1: found the alias *x"),
        ("options: &x {a: *x}", "model.yaml:1: found the alias *x"),
        ("? [a, b]\n: c", "a key that is no text"),
        ("runtime: 'sklearn", "model.yaml is no YAML:"),
        ("runtime: !!python/object/apply:os.system ['true']", "model.yaml is no YAML:"),
        ("a: 1\n---\nb: 2", "model.yaml is no YAML:"),
        ("options: {since: 2020-99-99}", "model.yaml cannot be read: ValueError"),
        ("x" * (1 << 20) + "x", "model.yaml: found 1048577 bytes, expected at most 1048576"),
    ],
)  # fmt: skip
def test_what_does_not_fit_says_where_and_what(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "model.onnx").write_text("no JSON")
    with pytest.raises(LoadFailedError) as caught:
        read(tmp_path, text)
    assert message in str(caught.value)
    assert str(caught.value).startswith("model.yaml")
    assert len(str(caught.value)) < 400


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(LoadFailedError, match=r"cannot read model\.yaml: No such file"):
        read_model_yaml(tmp_path, [])
