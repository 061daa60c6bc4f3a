"""Models of trees of three frameworks, saved in a directory: what the tests of their runtimes load."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import catboost
import lightgbm
import numpy as np
import xgboost

SOURCE = np.random.default_rng(11)
ROWS: Final = SOURCE.normal(size=(300, 4)).astype(np.float32)
ROWS[7, 2] = np.nan
SUMS: Final = np.nan_to_num(ROWS).sum(axis=1)
HALVES: Final = (SUMS > 0).astype(int)
THIRDS: Final = np.digitize(SUMS, [-1, 1])


def xgboost_files(directory: Path, model: Any, name: str = "model.ubj") -> list[str]:
    model.save_model(directory / name)
    return [name]


def lightgbm_files(directory: Path, model: Any, name: str = "model.txt") -> list[str]:
    getattr(model, "booster_", model).save_model(directory / name)
    return [name]


def catboost_files(directory: Path, model: Any, name: str = "model.cbm") -> list[str]:
    model.save_model(str(directory / name))
    return [name]


def xgb(kind: str = "Regressor", **options: Any) -> Any:
    return getattr(xgboost, f"XGB{kind}")(**{"n_estimators": 20, "max_depth": 4, "n_jobs": 1} | options)


def lgbm(kind: str = "Regressor", **options: Any) -> Any:
    defaults = {"n_estimators": 20, "n_jobs": 1, "verbose": -1, "min_child_samples": 5}
    return getattr(lightgbm, f"LGBM{kind}")(**defaults | options)


def cat(kind: str = "Regressor", **options: Any) -> Any:
    defaults = {"iterations": 20, "thread_count": 1, "verbose": 0, "allow_writing_files": False}
    return getattr(catboost, f"CatBoost{kind}")(**defaults | options)
