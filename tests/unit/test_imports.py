"""What a server imports at its start is the same whatever runtimes are installed."""

from __future__ import annotations

import json
import subprocess
import sys

FRAMEWORKS = (
    "catboost", "keras", "lightgbm", "mlflow", "onnxruntime", "pandas", "pyarrow", "sklearn", "skops", "tensorflow",
    "torch", "xgboost",
)  # fmt: skip

START = """
import json, sys
hidden = set(json.loads(sys.argv[1]))
class Hiding:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hiding())
import hotset, hotset.cli, hotset.server, hotset.replica, hotset.workers.child
print(json.dumps(sorted(sys.modules)))
"""


def imported(*hidden: str) -> list[str]:
    """Return the modules of a process that has imported all that a server and its children start with."""
    command = [sys.executable, "-c", START, json.dumps(hidden)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    modules: list[str] = json.loads(ran.stdout)
    return modules


def test_a_server_imports_no_framework_and_the_same_without_them() -> None:
    found = imported()
    assert not {module.partition(".")[0] for module in found} & set(FRAMEWORKS)
    assert imported(*FRAMEWORKS) == found
