"""Nothing is unpickled that came over a wire of ours: only a model's own files are, by the runtimes, where that is allowed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import hotset

ROOT = Path(hotset.__file__).parent
RUN_CODE = {
    "pickle",
    "_pickle",
    "cPickle",
    "cloudpickle",
    "copyreg",
    "dill",
    "jsonpickle",
    "marshal",
    "shelve",
    "multiprocessing",
    "xmlrpc",
}
"""What makes objects, and so runs code, out of bytes; ``multiprocessing`` pickles whatever it sends."""

MODELS_FILES = {"runtimes/inlined.py", "runtimes/remedies.py", "runtimes/unpickling.py"}
"""What reads a model's files, and never a message."""

CALLS = {"eval", "exec", "__import__", "compile"}


def sources() -> list[str]:
    return sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))


def imported(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "find_spec")):
            found |= {
                it.value for it in node.args if isinstance(it, ast.Constant) and isinstance(it.value, str)
            }
    return {name.partition(".")[0] for name in found}


def test_there_is_something_to_look_at() -> None:
    assert len(sources()) > 250
    assert set(sources()) >= MODELS_FILES


@pytest.mark.parametrize("source", sources())
def test_nothing_that_makes_objects_of_bytes_is_imported(source: str) -> None:
    tree = ast.parse((ROOT / source).read_text(encoding="utf-8"))
    allowed = {"pickle"} if source in MODELS_FILES else set()
    assert imported(tree) & RUN_CODE <= allowed


@pytest.mark.parametrize("source", [it for it in sources() if not it.startswith(("runtimes/", "demo/"))])
def test_nothing_but_a_runtime_makes_code_of_text(source: str) -> None:
    tree = ast.parse((ROOT / source).read_text(encoding="utf-8"))
    called = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & CALLS


@pytest.mark.parametrize("source", sources())
def test_yaml_and_arrays_are_read_without_objects(source: str) -> None:
    tree = ast.parse((ROOT / source).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if name in {"yaml.load", "yaml.load_all"}:
            assert options.get("Loader") == "_UniqueKeyLoader" or "Safe" in options.get("Loader", ""), source
        assert name not in {"yaml.unsafe_load", "yaml.full_load"}, source
        assert options.get("allow_pickle", "False") in {"False", "allow_pickle"}, source
