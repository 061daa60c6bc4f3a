"""The user's predictor file, checked without running it: its syntax, its class, its methods and their arguments.

Called by the server before it starts, which must never run the user's code itself, and by the workers before they
import the file. What cannot be seen in the text (a class or a base that is imported) is left to the worker, which
asks the same questions of the imported class.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hotset.errors import ConfigError

CLASS_NAME: Final = "Predictor"

PREDICT_ARGUMENTS: Final = ("model", "payload", "query_params", "headers", "model_name", "model_version")

ARGUMENTS: Final[Mapping[str, tuple[str, ...]]] = {
    "__init__": ("config",),
    "load_model": ("disk_path",),
    "predict": PREDICT_ARGUMENTS,
    "predict_batch": ("model", "payloads"),
    "unload_model": ("model",),
}
"""Each method that hotset calls, and the arguments that it can give, by name."""

_NEEDED: Final[Mapping[str, str]] = {"load_model": "disk_path", "predict_batch": "payloads"}

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Method:
    """A method as written: its line, its arguments without ``self``, and whether it takes ``**kwargs``.

    ``star`` names an argument that cannot be given by name: ``*args``, or one before a ``/``.
    """

    name: str
    line: int
    arguments: tuple[str, ...]
    takes_any: bool = False
    star: str | None = None
    first: str | None = "self"
    is_async: bool = False

    @property
    def accepted(self) -> frozenset[str]:
        """The arguments to call it with."""
        return frozenset(ARGUMENTS[self.name] if self.takes_any else self.arguments)


@dataclass(frozen=True, slots=True)
class PredictorFile:
    """A file that passed. ``class_name`` is the class to take from it."""

    path: Path
    class_name: str


def problem_with(method: Method) -> str | None:
    """Return what is wrong with a method's arguments, or None."""
    allowed = ARGUMENTS[method.name]
    expected = f"expected {method.name}({', '.join(('self', *allowed))})"
    if method.is_async and method.name != "predict":
        return (
            f"{method.name} is async, and only predict may be; "
            f"hotset calls it in a thread: write 'def {method.name}'"
        )
    if method.first is None or method.first in allowed:
        return f"{method.name} has no 'self' as its first argument; {expected}"
    if method.star is not None:
        return f"{method.name} takes {method.star!r} by position, but arguments are given by name; {expected}"
    unknown = [name for name in method.arguments if name not in allowed]
    if unknown:
        some = ", any of them" if len(allowed) > 1 else ""
        return f"{method.name} takes {', '.join(map(repr, unknown))}; {expected}{some}"
    needed = _NEEDED.get(method.name)
    if needed is not None and needed not in method.accepted:
        return f"{method.name} does not take {needed!r}; {expected}"
    return None


def missing_from(methods: Sequence[str]) -> str | None:
    """Return the method that a predictor with these methods lacks, as a sentence, or None."""
    if "load_model" not in methods:
        return "has no load_model(self, disk_path)"
    if "predict" not in methods and "predict_batch" not in methods:
        return f"has no predict(self, {', '.join(PREDICT_ARGUMENTS)}); take any of these arguments"
    return None


def clash_in(methods: Mapping[str, Method | None]) -> str | None:
    """Return which methods cannot be together, as a sentence, or None."""
    predict = methods.get("predict")
    if predict is not None and predict.is_async and "predict_batch" in methods:
        return (
            "predict is async beside predict_batch; expected one of them: coroutines run side by side, and are "
            "never joined"
        )
    return None


def check_predictor(path: Path) -> PredictorFile:
    """Return the file's class if nothing is wrong with it as far as its text tells. Runs none of it.

    Raises:
        ConfigError: the file cannot be read or parsed, has no such class, or a method does not fit; the message
            starts with ``path:line``.
    """
    tree = parsed(path)
    classes = _classes(tree)
    chosen = _choose(path, tree, classes)
    if chosen is None:
        return PredictorFile(path, CLASS_NAME)
    methods, is_whole = _members(chosen, {node.name: node for node in classes}, seen=set())
    lacking = missing_from(list(methods)) if is_whole else None
    if lacking:
        raise ConfigError(f"{path}:{chosen.lineno}: class {chosen.name} {lacking}; {_found(methods)}")
    for method in methods.values():
        problem = problem_with(method) if method is not None else None
        if method is not None and problem:
            raise ConfigError(f"{path}:{method.line}: {chosen.name}.{problem}")
    clash = clash_in(methods)
    if clash:
        raise ConfigError(f"{path}:{chosen.lineno}: {chosen.name}.{clash}")
    return PredictorFile(path, chosen.name)


def parsed(path: Path) -> ast.Module:
    """Return the syntax of a Python file.

    Raises:
        ConfigError: it cannot be read or is not one.
    """
    try:
        return ast.parse(path.read_bytes(), filename=str(path))
    except OSError as error:
        raise ConfigError(f"cannot read the predictor file {path}: {error.strerror or error}") from error
    except SyntaxError as error:
        place = f"{path}:{error.lineno or 0}:{error.offset or 0}"
        text = f": {error.text.strip()}" if error.text else ""
        raise ConfigError(f"{place}: {type(error).__name__}: {error.msg}{text}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"{path}:1: not a Python file: {error or type(error).__name__}") from error


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a body, those within ``if``, ``try`` and ``with`` included."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With):
            for name in ("body", "orelse", "finalbody"):
                yield from _statements(getattr(node, name, ()))
            for handler in getattr(node, "handlers", ()):
                yield from _statements(handler.body)


def _classes(tree: ast.Module) -> list[ast.ClassDef]:
    return [node for node in _statements(tree.body) if isinstance(node, ast.ClassDef)]


def _choose(path: Path, tree: ast.Module, classes: Sequence[ast.ClassDef]) -> ast.ClassDef | None:
    """Return the predictor's class, or None when the file gets it from elsewhere."""
    named = [node for node in classes if node.name == CLASS_NAME]
    if not named and _may_bind(tree, CLASS_NAME):
        return None
    able = named or [node for node in classes if _defines(node, "load_model")]
    if len(able) == 1:
        return able[0]
    if able:
        where = ", ".join(f"{node.name} (line {node.lineno})" for node in able)
        raise ConfigError(f"{path}:{able[1].lineno}: expected one class named {CLASS_NAME}, found: {where}")
    found = ", ".join(node.name for node in classes) or "no class"
    raise ConfigError(f"{path}:1: expected a class named {CLASS_NAME}, found: {found}")


def _defines(node: ast.ClassDef, name: str) -> bool:
    return any(isinstance(item, _Function) and item.name == name for item in _statements(node.body))


def _may_bind(tree: ast.Module, name: str) -> bool:
    """Whether an import or an assignment gives the module this name."""
    for node in _statements(tree.body):
        if isinstance(node, ast.Import | ast.ImportFrom):
            if any((alias.asname or alias.name) in {name, "*"} for alias in node.names):
                return True
        elif name in _assigned(node):
            return True
    return False


def _assigned(node: ast.stmt) -> set[str]:
    targets = node.targets if isinstance(node, ast.Assign) else []
    if isinstance(node, ast.AnnAssign) and node.value is not None:
        targets = [node.target]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _members(
    node: ast.ClassDef, classes: Mapping[str, ast.ClassDef], *, seen: set[str]
) -> tuple[dict[str, Method | None], bool]:
    """Return a class's methods with those of its bases in the file (None: bound, but not by ``def``), and
    whether all its bases are in the file."""
    seen.add(node.name)
    members: dict[str, Method | None] = {}
    is_whole = not node.keywords
    for base in reversed(node.bases):
        if isinstance(base, ast.Name) and base.id in classes and base.id not in seen:
            inherited, whole = _members(classes[base.id], classes, seen=seen)
            members.update(inherited)
            is_whole = is_whole and whole
        elif not (isinstance(base, ast.Name) and base.id == "object"):
            is_whole = False
    for item in _statements(node.body):
        if isinstance(item, _Function) and item.name in ARGUMENTS:
            members[item.name] = _method(item)
        for name in _assigned(item) & ARGUMENTS.keys():
            members[name] = None
    return members, is_whole


def _method(node: _Function) -> Method:
    names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
    static = any(isinstance(item, ast.Name) and item.id == "staticmethod" for item in node.decorator_list)
    first = "self" if static else (names.pop(0) if names else None)
    positional = [argument.arg for argument in node.args.posonlyargs[0 if static else 1 :]]
    if node.args.vararg is not None:
        positional.append(node.args.vararg.arg)
    return Method(
        name=node.name,
        line=node.lineno,
        arguments=(*names, *(argument.arg for argument in node.args.kwonlyargs)),
        takes_any=node.args.kwarg is not None,
        star=positional[0] if positional else None,
        first=first,
        is_async=isinstance(node, ast.AsyncFunctionDef),
    )


def _found(methods: Mapping[str, Method | None]) -> str:
    return f"found: {', '.join(methods) or 'none of the methods that hotset calls'}"
