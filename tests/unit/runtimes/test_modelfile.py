"""Which of the files is the model."""

from __future__ import annotations

import pytest

from hotset.errors import LoadFailedError
from hotset.runtimes.modelfile import choose

SUFFIXES = (".pkl", ".joblib")


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (["city.pkl"], "city.pkl"),
        (["a.pkl", "model.pkl"], "model.pkl"),
        (["sub/model.joblib", "sub/scaler.pkl", "notes.txt"], "sub/model.joblib"),
    ],
)
def test_chooses(files: list[str], chosen: str) -> None:
    assert choose(files, SUFFIXES) == chosen


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            ["a.pkl", "b.pkl"],
            "several model files, and not one named model.pkl or model.joblib: a.pkl, b.pkl",
        ),
        (["model.pkl", "model.joblib"], "several model files"),
        (["a.txt"], "no model file; expected model.pkl or model.joblib, found: a.txt"),
    ],
)
def test_refuses(files: list[str], words: str) -> None:
    with pytest.raises(LoadFailedError, match=words):
        choose(files, SUFFIXES)
