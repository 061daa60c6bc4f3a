"""Which file is the model, where the suffix says too little."""

from __future__ import annotations

import pytest

from hotset.errors import LoadFailedError
from hotset.runtimes.patterns import choose_matching, matching

JSON = ("*.ubj", "model.json", "*.xgb.json")


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (["config.json", "package.json", "notes.txt"], []),
        (["model.json"], ["model.json"]),
        (["sub/Model.JSON", "sub/.model.json"], ["sub/Model.JSON"]),
        (["paris.xgb.json", "b.UBJ", "mymodel.json"], ["b.UBJ", "paris.xgb.json"]),
    ],
)
def test_matches_whole_names(files: list[str], found: list[str]) -> None:
    assert matching(files, JSON) == found


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (["model.json", "config.json"], "model.json"),
        (["city.ubj", "model.ubj"], "model.ubj"),
        (["booster.json", "README.md"], "booster.json"),
        (["booster.bst", ".hidden"], "booster.bst"),
        (["deep/er/trees.json", "a.bin", "b.bin"], "deep/er/trees.json"),
    ],
)
def test_chooses_what_can_be_meant(files: list[str], chosen: str) -> None:
    assert choose_matching(files, JSON) == chosen


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["a.ubj", "b.ubj"], "several model files, and not exactly one named model: a.ubj, b.ubj"),
        (["model.json", "model.ubj"], "several model files"),
        (["a.json", "b.json"], "no model file; expected .*model.json.*, found: a.json, b.json"),
        ([], "found: no files"),
    ],
)
def test_refuses_to_guess(files: list[str], words: str) -> None:
    with pytest.raises(LoadFailedError, match=words):
        choose_matching(files, JSON)
