"""The file of a handler written for Cortex, checked without running it: its syntax, its class and what that can answer.

Called by the server before it starts, which must never run the user's code itself.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from hotset.errors import ConfigError
from hotset.runtimes.predictor_source import parsed

VERBS: Final = ("post", "get", "put", "patch", "delete")
CLASS_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "python": ("Handler", "PythonPredictor"),
    "tensorflow": ("Handler", "TensorFlowPredictor"),
    "onnx": ("Handler", "ONNXPredictor"),
}
ANSWERING: Final = (*(f"handle_{verb}" for verb in VERBS), "predict")


def check_handler(path: Path, options: Mapping[str, Any]) -> None:
    """Return if nothing is wrong with the file as far as its text tells.

    Raises:
        ConfigError: it cannot be read or parsed, has no such class, or one that answers nothing.
    """
    tree = parsed(path)
    names = CLASS_NAMES[options.get("type", "python")]
    classes = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    found = next((classes[name] for name in names if name in classes), None)
    if found is None:
        if any(
            isinstance(node, ast.Import | ast.ImportFrom | ast.Assign) and _binds(node, names)
            for node in tree.body
        ):
            return  # it comes from elsewhere: the worker asks the same of the class
        there = ", ".join(classes) or "no class"
        raise ConfigError(f"{path}:1: expected a class named {' or '.join(names)}, found: {there}")
    methods = {node.name for node in found.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    if not found.bases and not methods.intersection(ANSWERING):
        raise ConfigError(
            f"{path}:{found.lineno}: class {found.name} has none of {', '.join(ANSWERING)}; expected one"
        )


def _binds(node: ast.Import | ast.ImportFrom | ast.Assign, names: tuple[str, ...]) -> bool:
    if isinstance(node, ast.Assign):
        return any(isinstance(target, ast.Name) and target.id in names for target in node.targets)
    return any((alias.asname or alias.name) in {*names, "*"} for alias in node.names)
