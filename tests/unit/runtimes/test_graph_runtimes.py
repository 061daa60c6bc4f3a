"""TensorFlow, Keras, LiteRT and PyTorch: what ``graph_probe.py`` reports of models of every odd kind, each in a process."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import graph_probe

Report = dict[str, Any]

SUMS = [[6.0], [22.0], [38.0]]


@functools.cache
def _report(framework: str) -> dict[str, Report]:
    environment = dict(os.environ) | {
        "PYTHONPATH": str(Path(graph_probe.__file__).parent),
        "OMP_NUM_THREADS": "1",
    }
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, graph_probe.__file__, framework, folder],
            capture_output=True, text=True, check=False, timeout=150, env=environment,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def of(framework: str) -> Callable[[str], Report]:
    return lambda name: _report(framework)[name]


tensorflow, torch = of("tensorflow"), of("torch")

slow_tensorflow = [pytest.mark.slow, pytest.mark.xdist_group("graphs of TensorFlow")]
slow_torch = [pytest.mark.slow, pytest.mark.xdist_group("graphs of PyTorch")]


def marked(marks: list[Any], *cases: tuple[Any, ...]) -> list[Any]:
    return [pytest.param(*case, marks=marks, id=case[1]) for case in cases]


@pytest.mark.parametrize(
    ("report", "name", "expected"),
    marked(
        slow_tensorflow,
        (tensorflow, "threads", [1, 1]),
        (tensorflow, "default", {"sum": SUMS}),
        (tensorflow, "by name", {"size": 12, "loud": "OSLO"}),
        (tensorflow, "the only one", {"loud": "OSLO"}),
        (tensorflow, "together", True),
        (tensorflow, "tensorflow loaded together", True),
        (tensorflow, "keras loaded together", True),
        (tensorflow, "litert loaded together", True),
        (tensorflow, "SavedModel goes", True),
        (tensorflow, "sequential", {"sum": SUMS}),
        (tensorflow, "listed", {"twice": [[[2.0, 2.0]] * 3], "thrice": [[[3.0, 3.0]] * 3]}),
        (tensorflow, "mapped", {"difference": [[2.0, 2.0]]}),
        (tensorflow, "keras together", True),
        (tensorflow, "keras goes", True),
        (tensorflow, "lite", {"sum": SUMS}),
        (tensorflow, "lite by name", {"first": ["zürich"], "twice": [[0.0, 2.0, 4.0, 6.0]]}),
        (tensorflow, "lite without signatures", [SUMS, SUMS[:1], SUMS]),
        (tensorflow, "lite without signatures together", True),
        (tensorflow, "lite together", True),
    )
    + marked(
        slow_torch,
        (torch, "threads", 1),
        (torch, "program", {"output_0": SUMS[:2]}),
        (torch, "program together", True),
        (torch, "torch_export loaded together", True),
        (torch, "torchscript loaded together", True),
        (torch, "program goes", True),
        (torch, "nested", {"kept": 4.0}),
        (
            torch,
            "bfloat16",
            {"output_0": [[0.0, 2.0, 4.0, 6.0], [8.0, 10.0, 12.0, 14.0], [16.0, 18.0, 20.0, 22.0]]},
        ),
        (torch, "script", {"output_0": SUMS}),
        (torch, "as JSON has it", {"output_0": SUMS}),
        (torch, "default kept", {"times": [[0.0, 2.0, 4.0, 6.0]]}),
        (torch, "script goes", True),
    ),
)
def test_answers(report: Callable[[str], Report], name: str, expected: Any) -> None:
    assert report(name).get("answer") == expected, report(name)


@pytest.mark.parametrize(
    ("report", "name", "kind", "says"),
    marked(
        slow_tensorflow,
        (tensorflow, "not a scalar", "InvalidInputError", "input 'word': expected the shape [], found: [1]"),
        (tensorflow, "no such signature", "LoadFailedError", "no signature 'mean'; save it with one"),
        (tensorflow, "no signatures", "LoadFailedError", "no signature 'serving_default'"),
        (
            tensorflow,
            "no type for it",
            "LoadFailedError",
            "'numbers' is of a type that hotset cannot carry: complex64",
        ),
        (tensorflow, "no such option", "LoadFailedError", "options.threads: found an unknown key"),
        (tensorflow, "two of them", "LoadFailedError", "several SavedModels; keep one of them: "),
        (tensorflow, "broken", "LoadFailedError", "cannot load the SavedModel: "),
        (tensorflow, "code in it", "LoadFailedError", "risk of arbitrary code execution"),
        (
            tensorflow,
            "never built",
            "LoadFailedError",
            "unbuilt.keras does not say what its inputs are; begin the model",
        ),
        (tensorflow, "broken keras", "LoadFailedError", "cannot load broken.keras: "),
        (
            tensorflow,
            "lite fixed",
            "InvalidInputError",
            "input 'rows': expected the shape [1, 4], found: [3, 4]",
        ),
        (
            tensorflow,
            "lite undecided",
            "LoadFailedError",
            "name one in model.yaml's options; found: fixed, total",
        ),
        (tensorflow, "lite broken", "LoadFailedError", "cannot load broken.tflite: "),
    )
    + marked(
        slow_torch,
        (
            torch,
            "rows as exported",
            "InvalidInputError",
            "input 'pair_0': expected the shape [3, 4], found: [2, 4]",
        ),
        (torch, "no scalar", "InvalidInputError", "input 'options_scale': expected the shape [], found: [2]"),
        (
            torch,
            "cuda",
            "LoadFailedError",
            "device: found cuda, expected one that is there; PyTorch finds no",
        ),
        (torch, "cuda script", "LoadFailedError", "device: found cuda:1, expected one that is there"),
        (torch, "a program's options", "LoadFailedError", "options.threads: found an unknown key"),
        (torch, "broken program", "LoadFailedError", "cannot load broken.pt2: "),
        (torch, "text", "InvalidInputError", "input 'input': expected numbers, found: BYTES"),
        (torch, "no such output", "InvalidInputError", "no output 'mean'; this model has: times"),
        (
            torch,
            "needs a number",
            "LoadFailedError",
            "forward takes 'factor' of type float; expected tensors",
        ),
        (torch, "pickled", "LoadFailedError", "write it with torch.export.save (*.pt2) or torch.jit.save"),
        (torch, "state", "LoadFailedError", "state.pt is not TorchScript, but a state_dict or a module"),
        (torch, "old", "LoadFailedError", "old.pt is not TorchScript, but damaged or a state_dict"),
        (torch, "broken script", "LoadFailedError", "broken.pt is not TorchScript, but damaged"),
    ),
)
def test_refuses(report: Callable[[str], Report], name: str, kind: str, says: str) -> None:
    found = report(name)
    assert found.get("kind") == kind, found
    assert says in found["error"]


@pytest.mark.slow
@pytest.mark.xdist_group("graphs of PyTorch")
def test_a_scripts_error_is_its_last_line() -> None:
    """The rest of what TorchScript says is the model's source, and the paths of the machine that wrote it."""
    found = torch("does not fit")
    assert found["kind"] == "PredictFailedError"
    assert found["error"].startswith("RuntimeError: expected m1 and m2 to have the same dtype")
    assert "\n" not in found["error"]


@pytest.mark.slow
@pytest.mark.xdist_group("graphs of PyTorch")
def test_a_program_that_writes_into_its_input_does_not_write_into_the_request() -> None:
    assert torch("writes into it")["kept"]


@pytest.mark.slow
@pytest.mark.xdist_group("graphs of PyTorch")
def test_nested_inputs_and_outputs_have_flat_names() -> None:
    found = torch("nested")
    assert [name for name, _, _ in found["inputs"]] == ["pair_0", "pair_1", "options_scale"]
    assert found["outputs"] == [["sums_0", "FP32", [3, 4]], ["kept", "FP32", []], ["fixed", "INT64", []]]


@pytest.mark.slow
@pytest.mark.xdist_group("graphs of TensorFlow")
def test_sizes_that_are_not_known_are_any() -> None:
    assert tensorflow("listed")["inputs"] == [["steps", "FP32", [-1, -1, 2]]]
    assert tensorflow("by name")["inputs"] == [["anything", "FP32", []], ["word", "BYTES", []]]
