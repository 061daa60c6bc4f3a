"""``model.yaml``, whatever it says: options that are as written, or a failed load with a short reason, and nothing else."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from hotset.errors import LoadFailedError
from hotset.runtimes.modelyaml import ModelOptions, read_model_yaml
from hotset.runtimes.onnx_runtime import OnnxOptions

KEYS = st.sampled_from(
    ["runtime", "device", "inputs", "outputs", "batching", "warmup", "options", "name", "datatype", "shape",
     "max_batch_size", "instances", "runtimes", "a.b", "a[0]", ""]
)  # fmt: skip
SCALARS = (
    st.none() | st.booleans() | st.integers(-5, 1 << 70) | st.floats() | st.dates()
    | st.sampled_from(["sklearn", "cpu", "cuda:1", "FP32", "x", "sample.json", "../x", "`", "$.a", "a - at `$.b`"])
    | st.text(max_size=20)
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda deeper: st.lists(deeper, max_size=3) | st.dictionaries(KEYS, deeper, max_size=4),
    max_leaves=12,
)
NAMES = st.text(min_size=1, max_size=8)
TENSORS = st.fixed_dictionaries(
    {"name": NAMES},
    optional={
        "datatype": st.sampled_from(["FP32", "BYTES"]),
        "shape": st.lists(st.integers(-1, 9), max_size=4),
    },
)
FITTING = st.fixed_dictionaries(
    {},
    optional={
        "runtime": NAMES,
        "device": st.sampled_from(["cpu", "cuda", "cuda:3"]),
        "inputs": st.lists(TENSORS, min_size=1, max_size=3, unique_by=lambda it: it["name"]),
        "outputs": st.lists(TENSORS, min_size=1, max_size=3, unique_by=lambda it: it["name"]),
        "batching": st.booleans() | st.fixed_dictionaries({"max_batch_size": st.integers(1, 99)}),
        "warmup": st.lists(
            st.dictionaries(NAMES, st.integers(0, 9), max_size=2) | st.just("sample.json"), max_size=3
        ),
        "options": st.dictionaries(NAMES, st.integers(0, 9), max_size=3),
    },
)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "sample.json").write_text("{}")
        yield Path(name)


def read(folder: Path, text: str) -> ModelOptions:
    (folder / "model.yaml").write_text(text)
    return read_model_yaml(folder, ["model.onnx", "sample.json"])


@given(FITTING)
def test_what_fits_is_read_as_it_was_written(folder: Path, said: dict[str, Any]) -> None:
    options = read(folder, yaml.safe_dump(said))
    assert options.runtime == said.get("runtime")
    assert options.runtime_options.values == said.get("options", {})
    for kind in ("inputs", "outputs"):
        tensors = getattr(options, kind)
        assert (tensors is None) == (kind not in said)
        for tensor, written in zip(tensors or (), said.get(kind, ()), strict=True):
            shape = written.get("shape")
            found = (tensor.name, tensor.datatype, tensor.shape)
            assert found == (
                written["name"],
                written.get("datatype"),
                None if shape is None else tuple(shape),
            )
    assert len(options.samples) == len(said.get("warmup", ()))
    assert bool(options.batching) == bool(said.get("batching"))


@given(VALUES)
@example({"inputs": [{"name": "x", "a - at `$.b`": 1}]})
@example({"batching": {"max_batch_size": 1 << 70}})
@example({"warmup": [float("nan")]})
def test_whatever_it_says_is_taken_or_refused(folder: Path, value: Any) -> None:
    taken_or_refused(folder, yaml.safe_dump(value, allow_unicode=True))


@given(
    st.text(st.characters(codec="utf-8"), max_size=60) | st.text("{}[]:,-&*!|>'\"#%@ \n\tab1", max_size=60)
)
def test_whatever_is_written_is_taken_or_refused(folder: Path, text: str) -> None:
    taken_or_refused(folder, text)


def taken_or_refused(folder: Path, text: str) -> None:
    said = ""
    try:
        options = read(folder, text)
        options.runtime_options.read(OnnxOptions)
    except LoadFailedError as error:
        said = str(error)
    assert not said or said.startswith(("model.yaml", "cannot read"))
    assert len(said) < 1000
