"""The user's file, judged by its text alone."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from hotset.errors import ConfigError
from hotset.runtimes.predictor_source import check_predictor


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "predictor.py"
        path.write_text(textwrap.dedent(text).lstrip("\n"))
        return path

    return write


GOOD = """
class Predictor:
    def load_model(self, disk_path): ...
    def predict(self, model, payload, query_params, headers, model_name, model_version): ...
"""


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "class Predictor:\n  def load_model(self, disk_path): ...\n  def predict(self): ...\n",
        "class Predictor:\n  def load_model(this, **kw): ...\n  def predict(this, payload, **kw): ...\n",
        "class Predictor:\n  def load_model(self, disk_path): ...\n  def predict_batch(self, model, payloads): ...\n",
        "class Predictor:\n  @staticmethod\n  def load_model(disk_path): ...\n  def predict(self, *, payload): ...\n",
        "class Predictor:\n  def load_model(self, disk_path): ...\n  predict = print\n",
        "class City:\n  def load_model(self, disk_path): ...\n  def predict(self, payload): ...\n",
        "class A:\n  def load_model(self, disk_path): ...\nclass Predictor(A):\n  def predict(self, payload): ...\n",
        "from elsewhere import Base\nclass Predictor(Base): ...\n",
        "from elsewhere import Predictor\n",
        "from elsewhere import *\n",
        "class A: ...\nPredictor = A\n",
        "try:\n  import x\nexcept ImportError:\n  x = None\nif x:\n  class Predictor(x.Base): ...\n",
    ],
)
def test_accepts(write, text: str) -> None:
    check_predictor(write(text))


def test_finds_the_class(write) -> None:
    assert check_predictor(write(GOOD)).class_name == "Predictor"
    assert check_predictor(write(GOOD.replace("Predictor", "City"))).class_name == "City"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (
            "class Predictor:\n  def load_model(self, disk_path): ...\n",
            1,
            ["no predict(self, model, payload"],
        ),
        (
            "class Predictor:\n  def predict(self, payload): ...\n",
            1,
            ["no load_model(self, disk_path)", "predict"],
        ),
        (
            "class Predictor:\n  def load_model(self, disk_path): ...\n  def predict(self, paylod): ...\n",
            3,
            ["'paylod'", "payload", "query_params"],
        ),
        (
            "class Predictor:\n  def load_model(self, path): ...\n  def predict(self): ...\n",
            2,
            ["'path'", "disk_path"],
        ),
        (
            "class Predictor:\n  def load_model(self): ...\n  def predict(self): ...\n",
            2,
            ["does not take 'disk_path'"],
        ),
        (
            (
                "class Predictor:\n  def __init__(self, settings): ...\n  def load_model(self, disk_path): ...\n"
                "  def predict(self): ...\n"
            ),
            2,
            ["'settings'", "__init__(self, config)"],
        ),
        (
            (
                "class Predictor:\n  def load_model(self, disk_path): ...\n  def predict(self): ...\n"
                "  def predict_batch(self, model, payload): ...\n"
            ),
            4,
            ["'payload'", "payloads"],
        ),
        (
            (
                "class Predictor:\n  def load_model(self, disk_path): ...\n  def predict(self): ...\n"
                "  def unload_model(self, m): ...\n"
            ),
            4,
            ["'m'", "unload_model(self, model)"],
        ),
        (
            "class Predictor:\n  async def load_model(self, disk_path): ...\n  def predict(self): ...\n",
            2,
            ["load_model is async", "only predict may be"],
        ),
        (
            "class Predictor:\n  def load_model(self, disk_path): ...\n  async def predict_batch(self): ...\n",
            3,
            ["predict_batch is async"],
        ),
        (
            "class Predictor:\n  load_model = f\n  async def predict(self): ...\n  predict_batch = f\n",
            1,
            ["predict is async beside predict_batch"],
        ),
        (
            "class Predictor:\n  def load_model(self, disk_path): ...\n  def predict(payload): ...\n",
            3,
            ["'self'"],
        ),
        (
            "class Predictor:\n  def load_model(self, disk_path): ...\n  def predict(self, *rest): ...\n",
            3,
            ["'rest'"],
        ),
        (
            "class Predictor:\n  def load_model(self, disk_path): ...\n  def predict(self, payload, /): ...\n",
            3,
            ["'payload'", "by name"],
        ),
        ("class Other: ...\n", 1, ["named Predictor", "Other"]),
        ("", 1, ["named Predictor", "no class"]),
        (
            "class A:\n  def load_model(self, disk_path): ...\nclass B:\n  def load_model(self, disk_path): ...\n",
            3,
            ["A (line 1)", "B (line 3)"],
        ),
        ("class Predictor: ...\nclass Predictor: ...\n", 2, ["line 1", "line 2"]),
    ],
)
def test_refuses_with_file_and_line(write, text: str, line: int, words: list[str]) -> None:
    path = write(text)
    with pytest.raises(ConfigError) as caught:
        check_predictor(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    for word in words:
        assert word in str(caught.value)


def test_a_syntax_error_has_line_column_and_text(write) -> None:
    path = write("class Predictor:\n    def predict(self:\n        pass\n")
    with pytest.raises(ConfigError) as caught:
        check_predictor(path)
    assert str(caught.value).startswith(f"{path}:2:16: SyntaxError: ")
    assert "def predict(self:" in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"\0\0", b"\xff\xfe class", b"# coding: nonsense\n", b"x = " + b"(" * 5000]
)
def test_what_is_not_python_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "predictor.py"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"predictor\.py:"):
        check_predictor(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the predictor file .*nowhere\.py"):
        check_predictor(tmp_path / "nowhere.py")


def test_runs_nothing(write, tmp_path: Path) -> None:
    witness = tmp_path / "ran"
    check_predictor(write(f"open({str(witness)!r}, 'w').close()\n{GOOD}"))
    assert not witness.exists()
