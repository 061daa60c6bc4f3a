"""skops: what is trusted, and what is refused with its name."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from hotset.errors import LoadFailedError
from hotset.payload import InferRequest
from hotset.runtimes.options import RuntimeOptions
from hotset.runtimes.skops_runtime import SkopsRuntime

ROWS = np.random.default_rng(3).normal(size=(32, 3))
TREE = "sklearn.tree._tree.Tree"


def load(tmp_path: Path, model: object, *trusted: str):
    skops.io.dump(model, tmp_path / "model.skops")
    options = RuntimeOptions(values={"trusted": list(trusted)} if trusted else {})
    return SkopsRuntime().load(tmp_path, ["model.skops"], options)


def test_what_skops_takes_for_safe_is_loaded_and_may_be_batched(tmp_path: Path) -> None:
    model = make_pipeline(StandardScaler(), LinearRegression()).fit(ROWS, ROWS.sum(axis=1))
    servable = load(tmp_path, model)
    assert servable.rows_are_independent
    answer = servable.infer(InferRequest({"rows": ROWS})).outputs["predict"]
    np.testing.assert_allclose(answer, model.predict(ROWS))


def test_other_types_are_refused_by_name_unless_model_yaml_names_them(tmp_path: Path) -> None:
    model = RandomForestRegressor(2, random_state=0).fit(ROWS, ROWS.sum(axis=1))
    with pytest.raises(LoadFailedError, match=rf"types that are not trusted: {TREE}; .* options\.trusted"):
        load(tmp_path, model)
    answer = load(tmp_path, model, TREE).infer(InferRequest({"rows": ROWS})).outputs["predict"]
    np.testing.assert_allclose(answer, model.predict(ROWS))


def test_a_function_is_refused_and_trust_in_something_else_does_not_help(tmp_path: Path) -> None:
    model = make_pipeline(FunctionTransformer(zipfile.is_zipfile), LinearRegression())
    with pytest.raises(LoadFailedError, match=r"not trusted: zipfile\.is_zipfile"):
        load(tmp_path, model, TREE)


def test_trusted_is_a_list_of_names(tmp_path: Path) -> None:
    options = RuntimeOptions(values={"trusted": "all"})
    with pytest.raises(LoadFailedError, match=r"model\.yaml: options\.trusted: found 'all', expected a list"):
        SkopsRuntime().load(tmp_path, ["model.skops"], options)


@pytest.mark.parametrize("content", [b"", b"no zip"])
def test_what_is_no_skops_file_is_a_failed_load(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.skops").write_bytes(content)
    with pytest.raises(LoadFailedError, match=r"cannot load model\.skops: BadZipFile"):
        SkopsRuntime().load(tmp_path, ["model.skops"])
