"""Versions that bring their own code: each sees its own modules and no other's, and leaves none behind."""

from __future__ import annotations

import gc
import pickle
import statistics
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hotset.errors import LoadFailedError, PredictFailedError
from hotset.runtimes.base import CallMeta
from hotset.runtimes.options import RuntimeOptions
from hotset.runtimes.own_code import PACKAGE, shared_modules
from hotset.runtimes.own_predictor import OwnPredictorRuntime
from hotset.runtimes.predictor import PredictorServable

META = CallMeta("paris", 1)
RUNTIME = OwnPredictorRuntime()

PREDICTOR = """
from features import NAME

class Predictor:
    def load_model(self, disk_path):
        import late
        return [NAME, late.NAME]

    def predict(self, model, payload):
        import at_predict
        from features import NAME as again
        return [*model, at_predict.NAME, again]
"""


@pytest.fixture(autouse=True)
def leaves_no_module() -> Iterator[None]:
    path, count, own = list(sys.path), len(sys.meta_path), own_modules()
    yield
    assert sys.path == path
    assert len(sys.meta_path) <= count + 2  # the two finders, made once
    assert own_modules() == own


def own_modules() -> set[str]:
    return {name for name in sys.modules if name.startswith(PACKAGE)}


def write(directory: Path, predictor: str = PREDICTOR, /, **files: str) -> Path:
    """Write a version; a name's ``__`` is a ``/``, and its suffix is ``.py``."""
    directory.mkdir()
    (directory / "predictor.py").write_text(predictor)
    for name, text in files.items():
        file = directory / f"{name.replace('__', '/')}.py"
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_text(text)
    return directory


def modules_of(name: str) -> dict[str, str]:
    return dict.fromkeys(("features", "late", "at_predict"), f"NAME = {name!r}")


def load(directory: Path, **config: Any) -> PredictorServable:
    files = [path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()]
    return RUNTIME.load(directory, files, RuntimeOptions(values=config))


def answer(predictor: str, directory: Path, /, **files: str) -> Any:
    servable = load(write(directory, predictor, **files))
    try:
        return servable.predict(None, META)
    finally:
        servable.close()


def returning(expression: str, imports: str = "") -> str:
    return f"""
{imports}
class Predictor:
    def load_model(self, disk_path): ...
    def predict(self, payload):
        return {expression}
"""


def test_modules_of_the_same_name_do_not_see_each_other(tmp_path: Path) -> None:
    rome = load(write(tmp_path / "rome", **modules_of("rome")))
    oslo = load(write(tmp_path / "oslo", **modules_of("oslo")))
    for _ in range(2):
        assert rome.predict(None, META) == ["rome"] * 4
        assert oslo.predict(None, META) == ["oslo"] * 4
    assert not {"features", "late", "at_predict", "predictor"} & sys.modules.keys()
    rome.close()
    assert oslo.predict(None, META) == ["oslo"] * 4
    oslo.close()


@pytest.mark.parametrize(
    ("statement", "expression"),
    [
        ("import pack.inner.leaf", "pack.inner.leaf.NAME"),
        ("import pack.inner.leaf as leaf", "leaf.NAME"),
        ("from pack.inner import leaf", "leaf.NAME"),
        ("from pack.inner.leaf import NAME", "NAME"),
        ("from pack.inner.leaf import *", "NAME"),
        ("from pack import through", "through.NAME"),
        ("from pack.absolute import NAME", "NAME"),
        ("from . import side", "side.NAME"),
        ("from .side import NAME", "NAME"),
        ("import side, pack.inner.leaf", "side.NAME and pack.inner.leaf.NAME"),
        ("import spaces.one.deep as deep", "deep.NAME"),
    ],
)
def test_every_form_of_import(tmp_path: Path, statement: str, expression: str) -> None:
    files = {
        "pack____init__": "",
        "pack__inner____init__": "",
        "pack__inner__leaf": "NAME = 'here'",
        "pack__through": "from .inner.leaf import NAME",
        "pack__absolute": "from pack.inner.leaf import NAME",
        "side": "NAME = 'here'",
        "spaces__one__deep": "NAME = 'here'",
    }
    assert answer(returning(expression, statement), tmp_path / "at_top", **files) == "here"
    if "*" not in statement:
        late = returning("late()", f"def late():\n    {statement}\n    return {expression}")
        assert answer(late, tmp_path / "late", **files) == "here"


def test_modules_may_import_each_other_in_a_circle(tmp_path: Path) -> None:
    files = {"one": "import other\nNAME = 'one'", "other": "import one\ndef name(): return one.NAME"}
    assert answer(returning("one.other.name()", "import one"), tmp_path / "paris", **files) == "one"


def test_a_module_may_have_the_name_of_one_of_pythons(tmp_path: Path) -> None:
    files = {"statistics": "NAME = 'own'"}
    assert answer(returning("statistics.NAME", "import statistics"), tmp_path / "paris", **files) == "own"
    assert sys.modules["statistics"] is statistics
    assert statistics.mean([1, 3]) == 2


def test_a_directory_of_data_hides_no_package(tmp_path: Path) -> None:
    directory = write(tmp_path / "paris", returning("numpy.add(1, 2).item()", "import numpy"))
    (directory / "numpy").mkdir()
    (directory / "numpy" / "weights.bin").write_bytes(b"")
    servable = load(directory)
    assert servable.predict(None, META) == 3
    servable.close()


SCALER = "class Scaler:\n    NAME = {name!r}\n    def __init__(self, factor): self.factor = factor"
UNPICKLING = """
import pathlib, pickle

class Predictor:
    def load_model(self, disk_path):
        return pickle.loads((pathlib.Path(disk_path) / "model.pkl").read_bytes())

    def predict(self, model):
        return [type(model).NAME, model.factor]
"""


def write_pickled(directory: Path, name: str, factor: int, module: str = "scaling") -> Path:
    """A version with a pickle that was made where its class was in ``scaling``, as at whoever trained it."""
    write(directory, UNPICKLING, **{module.replace(".", "__"): SCALER.format(name=name)})
    made = ModuleType(module)
    exec(SCALER.format(name="the trainer's"), made.__dict__)
    made.Scaler.__module__ = module
    sys.modules[module] = made
    try:
        (directory / "model.pkl").write_bytes(pickle.dumps(made.Scaler(factor)))
    finally:
        del sys.modules[module]
    return directory


@pytest.mark.parametrize("reader", ["in C", "in Python"])
def test_pickles_find_the_classes_of_their_own_version(tmp_path: Path, reader: str) -> None:
    directories = [
        write_pickled(tmp_path / name, name, number) for number, name in enumerate(("rome", "oslo"))
    ]
    if reader == "in Python":  # as joblib's
        for directory in directories:
            rewritten(directory, UNPICKLING.replace("pickle.loads(", "pickle._loads("))
    servables = [load(directory) for directory in directories]
    assert [it.predict(None, META) for it in servables] == [["rome", 0], ["oslo", 1]]
    assert "scaling" not in sys.modules
    for servable in servables:
        servable.close()


def test_to_unpickle_later_is_refused_with_the_reason(tmp_path: Path) -> None:
    later = UNPICKLING.replace("return pickle.loads(", "return (").replace(
        "[type(model)", "[pickle.loads(model)"
    )
    servable = load(rewritten(write_pickled(tmp_path / "paris", "paris", 1), later))
    with pytest.raises(PredictFailedError, match="only while the model is loaded: unpickle in load_model"):
        servable.predict(None, META)
    servable.close()


def test_pickles_do_not_find_what_has_the_name_of_something_installed(tmp_path: Path) -> None:
    with pytest.raises(
        LoadFailedError, match="AttributeError: Can't get attribute 'Scaler' on <module 'colorsys'"
    ):
        load(write_pickled(tmp_path / "paris", "paris", 1, "colorsys"))


@pytest.mark.parametrize("call", ["pickle.loads(", "pickle._loads("])
def test_what_code_puts_on_the_path_for_itself_is_taken_off(tmp_path: Path, call: str) -> None:
    on_path = "import os, sys\nsys.path.insert(0, os.path.dirname(__file__))\n"
    predictor = on_path + UNPICKLING.replace("pickle.loads(", call)
    directories = [write_pickled(tmp_path / name, name, 1) for name in ("rome", "oslo")]
    servables = [load(rewritten(directory, predictor)) for directory in directories]
    assert [it.predict(None, META) for it in servables] == [["rome", 1], ["oslo", 1]]
    assert "scaling" not in sys.modules
    for servable in servables:
        servable.close()


def test_the_builtin_import_is_called_by_name(tmp_path: Path) -> None:
    code = returning("__import__('side', globals=globals(), locals=None, fromlist=['NAME'], level=0).NAME")
    assert answer(code, tmp_path / "paris", side="NAME = 'here'") == "here"


def rewritten(directory: Path, predictor: str) -> Path:
    (directory / "predictor.py").write_text(predictor)
    return directory


def test_many_versions_load_at_the_same_time(tmp_path: Path) -> None:
    directories = [write_pickled(tmp_path / f"m{number}", f"m{number}", number) for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        servables = list(pool.map(load, directories * 3))
    answers = [servable.predict(None, META) for servable in servables]
    assert answers == [[f"m{number}", number] for number in range(8)] * 3
    for servable in servables:
        servable.close()


def test_what_is_lent_to_one_load_is_nobody_elses(tmp_path: Path) -> None:
    """While a version loads, its modules have their plain names; other code does not get them for its own."""
    predictor = """
import importlib

class Predictor:
    def __init__(self, config):
        self.steps = config["steps"]

    def load_model(self, disk_path):
        self.steps.append(importlib.import_module("secret").NAME)
        self.steps.wait()

    def predict(self): ...
"""
    asking = returning("asked()", "def asked():\n    import secret\n    return secret.NAME")
    other = load(write(tmp_path / "oslo", asking))

    class Steps(list[str]):
        inside, go_on = threading.Event(), threading.Event()

        def wait(self) -> None:
            self.inside.set()
            assert self.go_on.wait(20)

    steps = Steps()
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(load, write(tmp_path / "rome", predictor, secret="NAME = 'rome'"), steps=steps)
        assert steps.inside.wait(20)
        assert "secret" in sys.modules
        try:
            with pytest.raises(Exception, match="No module named 'secret'"):
                other.predict(None, META)
        finally:
            steps.go_on.set()
        servable = loading.result(20)
    assert steps == ["rome"]
    assert "secret" not in sys.modules
    servable.close()
    other.close()


def test_unload_drops_the_modules_and_what_they_hold(tmp_path: Path) -> None:
    before = own_modules()
    servable = load(write(tmp_path / "paris", **modules_of("paris")))
    servable.predict(None, META)
    names = own_modules() - before
    assert len(names) == 5
    modules = [weakref.ref(sys.modules[name]) for name in names]
    servable.close()
    del servable
    gc.collect()
    assert [module() for module in modules] == [None] * 5


def test_a_version_that_is_loaded_twice_has_two_of_everything(tmp_path: Path) -> None:
    directory = write(
        tmp_path / "paris",
        returning(
            "counted()", "from counts import seen\ndef counted():\n    seen.append(1)\n    return len(seen)"
        ),
        counts="seen = []",
    )
    one, other = load(directory), load(directory)
    assert [one.predict(None, META), one.predict(None, META), other.predict(None, META)] == [1, 2, 1]
    one.close()
    assert other.predict(None, META) == 2
    other.close()


def test_nothing_is_written_beside_the_files(tmp_path: Path) -> None:
    directory = write(tmp_path / "paris", **modules_of("paris"))
    before = sorted(directory.rglob("*"))
    load(directory).close()
    assert sorted(directory.rglob("*")) == before


def test_the_options_of_model_yaml_are_its_config(tmp_path: Path) -> None:
    predictor = """
class Predictor:
    def __init__(self, config): self.config = config
    def load_model(self, disk_path): ...
    def predict(self): return self.config
"""
    servable = load(write(tmp_path / "paris", predictor), currency="EUR")
    assert servable.predict(None, META) == {"currency": "EUR"}
    servable.close()


@pytest.mark.parametrize(
    ("predictor", "message"),
    [
        ("class Predictor:\n  def", "predictor.py:2:6: SyntaxError: "),
        ("import nowhere_at_all", "predictor.py:1: expected a class named Predictor"),
        (
            f"import nowhere_at_all\n{PREDICTOR}",
            "predictor.py:1: importing the predictor raised ModuleNotFoundError: No module named 'nowhere_at_all'",
        ),
        ("class Predictor:\n    def load_model(self, disk_path): ...", "has no predict"),
        (
            "class Predictor:\n    def load_model(self, disk_path): 1/0\n    def predict(self): ...",
            "load_model raised ZeroDivisionError",
        ),
    ],
)
def test_what_does_not_fit_is_a_failed_load_that_says_where(
    tmp_path: Path, predictor: str, message: str
) -> None:
    with pytest.raises(LoadFailedError) as caught:
        load(write(tmp_path / "paris", predictor))
    assert message in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_own_modules_are_told_from_what_all_share(tmp_path: Path) -> None:
    before = shared_modules()
    servable = load(write(tmp_path / "paris", **modules_of("paris")))
    servable.predict(None, META)
    assert shared_modules() == before
    servable.close()
    assert shared_modules() == before
    with pytest.raises(LoadFailedError):
        load(write(tmp_path / "rome", f"import features\n{PREDICTOR}1/0", **modules_of("rome")))
    assert shared_modules() == before
