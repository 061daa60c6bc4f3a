"""Requests that are joined, as the workers join them, are answered bit by bit as each of them alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hotset.payload import InferRequest
from hotset.runtimes.catboost_runtime import CatboostRuntime
from hotset.runtimes.lightgbm_runtime import LightgbmRuntime
from hotset.runtimes.xgboost_runtime import XgboostRuntime
from hotset.workers.batching import alike, can_batch, joined, parted
from tree_models import ROWS, SUMS, THIRDS, cat, catboost_files, lgbm, lightgbm_files, xgb, xgboost_files

TREES = 150
OUTPUTS = ("predict", "predict_proba")
CASES: dict[str, tuple[Any, Callable[[], Any], Any, Any, tuple[str, ...]]] = {
    "xgboost": (XgboostRuntime(), lambda: xgb(n_estimators=TREES), SUMS, xgboost_files, ()),
    "xgboost dart": (
        XgboostRuntime(), lambda: xgb(n_estimators=15, booster="dart", rate_drop=0.2), SUMS, xgboost_files, (),
    ),
    "xgboost linear": (XgboostRuntime(), lambda: xgb(booster="gblinear", max_depth=None), SUMS, xgboost_files, ()),
    "xgboost classes": (
        XgboostRuntime(), lambda: xgb("Classifier", n_estimators=TREES // 3), THIRDS, xgboost_files, OUTPUTS,
    ),
    "lightgbm": (LightgbmRuntime(), lambda: lgbm(n_estimators=TREES), SUMS, lightgbm_files, ()),
    "lightgbm linear": (LightgbmRuntime(), lambda: lgbm(linear_tree=True), SUMS, lightgbm_files, ()),
    "lightgbm classes": (
        LightgbmRuntime(), lambda: lgbm("Classifier", n_estimators=TREES // 3), THIRDS, lightgbm_files, OUTPUTS,
    ),
    "catboost": (CatboostRuntime(), lambda: cat(iterations=TREES), SUMS, catboost_files, ()),
    "catboost deep": (
        CatboostRuntime(), lambda: cat(grow_policy="Lossguide"), SUMS, catboost_files, (),
    ),
    "catboost classes": (CatboostRuntime(), lambda: cat("Classifier"), THIRDS, catboost_files, OUTPUTS),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_joined_as_alone(case: str, kind: type[np.floating[Any]], tmp_path: Path) -> None:
    runtime, make, target, save, outputs = CASES[case]
    # Linear trees and linear boosters multiply: there a sum might be made in another order.
    rows = np.nan_to_num(ROWS).astype(kind)
    servable = runtime.load(tmp_path, save(tmp_path, make().fit(rows, target)))
    assert servable.rows_are_independent
    assert can_batch(servable.signature)
    sizes = [1, 2, 1, 64, 3, 1, 128, 33, 1, 1]
    begins = np.cumsum([0, *sizes[:-1]])
    requests = [
        InferRequest({"input-0": rows[begin : begin + size]}, outputs)
        for begin, size in zip(begins, sizes, strict=True)
    ]
    assert alike(requests, most_rows=1000) == [list(range(len(requests)))]
    together = parted(servable.infer(joined(requests)), sizes)
    assert together is not None
    for request, answer in zip(requests, together, strict=True):
        alone = servable.infer(request)
        for name, array in alone.outputs.items():
            assert array.dtype == answer.outputs[name].dtype
            np.testing.assert_array_equal(answer.outputs[name], array)
    servable.close()
