"""What is done ahead of need for scikit-learn: a first load finds all looked up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from model_files import regressor

COUNT_CALLS = """
import importlib, json, sys
from pathlib import Path
from hotset.runtimes import registry

for module in sys.argv[2:]:
    importlib.import_module(module)
import joblib, sklearn.linear_model
directory = Path(sys.argv[1])

def load():
    calls = 0
    def count(frame, event, argument):
        nonlocal calls
        calls += event == "call"
    sys.setprofile(count)
    registry.detect(["model.pkl"]).load(directory, ["model.pkl"])
    sys.setprofile(None)
    return calls

print(json.dumps([load(), load()]))
"""


def calls_of_two_loads(directory: Path, *imported: str) -> tuple[int, int]:
    """Return how many functions of Python a first load and a second one call, in a new interpreter."""
    (directory / "model.pkl").write_bytes(regressor(3.0))
    command = [sys.executable, "-c", COUNT_CALLS, str(directory), *imported]
    said = subprocess.run(command, capture_output=True, check=True, timeout=60)
    first, second = json.loads(said.stdout)
    return first, second


def test_a_first_load_does_little_more_than_a_second(tmp_path: Path) -> None:
    """Else each forked child writes to pages that it could share, for what was looked up once for all."""
    first, second = calls_of_two_loads(tmp_path, "hotset.runtimes.sklearn_ahead")

    assert first < 3 * second


def test_without_it_a_first_load_does_much_more(tmp_path: Path) -> None:
    first, second = calls_of_two_loads(tmp_path)

    assert first > 10 * second
