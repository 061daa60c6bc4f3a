"""What every format promises once it is served: the table is ``runtime_cases.py``; the processes, ``runtime_probe.py``.

A framework trains, saves and answers in one process; hotset loads and answers in another, as a child does. So no
framework is imported in pytest, and none is in the way of another.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runtime_cases
import runtime_probe
from hotset.payload import DTYPES
from hotset.runtimes import registry
from runtime_cases import CASES, Case

LIMIT_S = 150


def run(case: str, folder: Path) -> str:
    tests = Path(runtime_cases.__file__).parent
    environment = dict(os.environ) | {"PYTHONPATH": str(tests), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", runtime_probe.__file__, case, str(folder)],
        capture_output=True, text=True, check=False, timeout=LIMIT_S, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, f"{case}: {done.stderr[-4000:]}"
    return done.stdout


@dataclass(frozen=True)
class Served:
    """One case: its files, what the framework said, and what was reported of serving it."""

    name: str
    case: Case
    folder: Path
    report: dict[str, Any]

    @property
    def files(self) -> list[str]:
        model = self.folder / "model"
        return sorted(path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file())


@pytest.fixture(scope="session")
def folders() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@functools.cache
def _served(name: str, folders: Path) -> Served:
    folder = Path(tempfile.mkdtemp(dir=folders, prefix=f"{name}-"))
    return Served(name, CASES[name], folder, json.loads(run(name, folder).splitlines()[-1]))


@pytest.fixture(
    params=[
        pytest.param(
            name,
            marks=[pytest.mark.xdist_group(f"runtime {name}"), *([pytest.mark.slow] if case.slow else [])],
        )
        for name, case in CASES.items()
    ]
)
def served(request: pytest.FixtureRequest, folders: Path) -> Served:
    return _served(request.param, folders)


def arrays(answer: dict[str, Any]) -> dict[str, np.ndarray]:
    assert "error" not in answer, answer
    return {
        output["name"]: np.array(output["data"], DTYPES[output["datatype"]]).reshape(output["shape"])
        for output in answer["outputs"]
    }


def same(found: np.ndarray, expected: np.ndarray, rtol: float) -> bool:
    if expected.dtype.kind in "fc":
        return bool(np.allclose(found, expected, rtol=rtol, atol=rtol))
    if expected.dtype.kind in "SUO":
        said = [item.decode() if isinstance(item, bytes) else item for item in expected.ravel().tolist()]
        return found.ravel().tolist() == said
    return bool(np.array_equal(found, expected))


def test_is_known_by_its_files(served: Served) -> None:
    runtime = registry.detect(served.files)
    assert runtime.name == served.case.runtime == served.report["runtime"]
    assert runtime.patterns
    assert runtime.size_factor > 0
    assert "cpu" in runtime.devices
    assert runtime.needs_pickle(served.folder / "model", served.files) == served.case.unpickles


def test_answers_as_the_framework_does(served: Served) -> None:
    with np.load(served.folder / "answers.npz", allow_pickle=True) as saved:
        expected = dict(saved)
    for answer in (served.report["answer"], served.report["binary"], served.report["again"]):
        found = arrays(answer)
        for name, array in expected.items():
            assert name in found
            assert found[name].shape == array.shape
            assert same(found[name], array, served.case.rtol), name


def test_says_what_it_is(served: Served) -> None:
    report = served.report
    assert report["platform"] == served.case.platform
    assert set(arrays(report["answer"])) <= {*report["outputs"]}
    with np.load(served.folder / "question.npz", allow_pickle=True) as saved:
        assert report["inputs"] == list(saved)
    assert report["bytes"] > 0


def test_refuses_what_is_wrong_and_names_it(served: Served) -> None:
    assert served.case.wrong
    for wrong, answer in zip(served.case.wrong, served.report["wrong"], strict=True):
        assert answer.get("kind") == "invalid_input", (wrong, answer)
        assert wrong.says in answer["error"], (wrong, answer)
    assert served.report["no_output"]["kind"] == "invalid_input"
    assert "no-such-output" in served.report["no_output"]["error"]


def test_memory_comes_back(served: Served) -> None:
    assert "unloaded" in served.report["after_unload"]["error"]
    assert served.report["grown"] < served.case.growth_bytes


def test_without_the_framework_the_error_names_the_extra(served: Served) -> None:
    if not served.case.without:
        pytest.skip("needs no framework")
    error = served.report["without"]
    assert error["kind"] == "load_failed"
    assert f"pip install 'hotset[{served.case.extra}]'" in error["error"]


def test_a_model_is_freed_without_the_collector(served: Served) -> None:
    """As far as it is ours: a module and its functions hold each other, so the modules of a model's own code do wait for it."""
    assert set(served.report["in_circles"]) <= {"hotset.runtimes.own_code"}
