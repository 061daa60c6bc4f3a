"""The table of what ``contract/test_runtimes_served.py`` serves: one case for each format, with a maker of a tiny real model.

A maker is Python source that runs in a process of its own, so that a framework is imported there and in the probe
(``runtime_probe.py``) and never in pytest. It finds

* ``MODEL``: the directory (``pathlib.Path``) to save the model's files in;
* ``LARGE``: whether to make a model of some megabytes, of which nothing is asked: to see its memory come back;
* ``numpy`` as ``np``;

and leaves behind ``question`` and ``answers``: two dicts of named arrays, what is sent and what the framework itself says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import graph_makers


@dataclass(frozen=True, slots=True)
class Wrong:
    """A wrong request: what takes the place of the inputs, by name (None: left out), and what the error must name."""

    says: str
    inputs: dict[str, Any] = field(default_factory=dict)
    """Name → ``{"shape": …, "datatype": …, "data": …}`` as the Open Inference Protocol has it."""


@dataclass(frozen=True, slots=True)
class Case:
    """One format. ``without`` are modules that cannot be imported where the framework is not installed."""

    runtime: str
    platform: str
    maker: str
    wrong: tuple[Wrong, ...]
    without: tuple[str, ...] = ()
    extra: str = ""
    outputs: tuple[str, ...] = ()
    """The outputs to ask for; none for the default ones."""
    unpickles: bool = False
    rtol: float = 1e-5
    growth_bytes: int = 12 << 20
    """How much the process may have grown after eight loads of the large model, each of which was unloaded."""
    slow: bool = False


SKLEARN_ROWS: Final = """
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression
rows = np.random.default_rng(5).normal(size=(400, 3))
target = rows.sum(axis=1)
model = RandomForestRegressor(60, random_state=0, n_jobs=1) if LARGE else LinearRegression()
model.fit(rows, target)
question = {"input-0": rows[:5]}
answers = {"predict": model.predict(rows[:5])}
"""

TREES_ROWS: Final = """
rows = np.random.default_rng(5).normal(size=(400, 3))
rows[9, 1] = np.nan
target = np.nan_to_num(rows).sum(axis=1)
classes = np.digitize(target, [-1, 1])
TREES = 1500 if LARGE else 20
question = {"input-0": rows[:5]}
"""

OWN_PREDICTOR: Final = f"""{SKLEARN_ROWS}
import pickle
(MODEL / "weights.pkl").write_bytes(pickle.dumps(model))
(MODEL / "scaling.py").write_text("FACTOR = 2.0")
(MODEL / "model.yaml").write_text(
    "inputs: [{{name: input-0, datatype: FP64, shape: [-1, 3]}}]\\n"
    "outputs: [{{name: output-0, datatype: FP64, shape: [-1]}}]\\n"
)
(MODEL / "predictor.py").write_text('''
import pickle
from pathlib import Path


class Predictor:
    def load_model(self, disk_path):
        return pickle.loads((Path(disk_path) / "weights.pkl").read_bytes())

    def predict(self, model, payload):
        from scaling import FACTOR

        return model.predict(payload["input-0"]) * FACTOR
''')
answers = {{"output-0": answers["predict"] * 2.0}}
"""

ROWS_WRONG: Final = (
    Wrong("input 'input-0'", {"input-0": {"shape": [3], "datatype": "FP64", "data": [1.0, 2.0, 3.0]}}),
    Wrong("input 'input-0'", {"input-0": {"shape": [1, 2], "datatype": "FP64", "data": [1.0, 2.0]}}),
    Wrong("other", {"other": {"shape": [1, 2], "datatype": "FP64", "data": [1.0, 2.0]}}),
    Wrong("one input", {"input-0": None}),
)

MLFLOW_COLUMNS: Final = """
import os
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
import pandas
table = pandas.DataFrame({"area": np.linspace(0, 1, 400), "rooms": np.arange(400) % 5})
target = table["area"] * 3 + table["rooms"]
question = {"area": table["area"][:5].to_numpy(), "rooms": table["rooms"][:5].to_numpy()}
"""

COLUMNS_WRONG: Final = (
    Wrong("area", {"area": None}),
    Wrong("input 'area'", {"area": {"shape": [1, 2], "datatype": "FP64", "data": [1.0, 2.0]}}),
    Wrong("input 'area'", {"area": {"shape": [5], "datatype": "BYTES", "data": ["a", "b", "c", "d", "e"]}}),
    Wrong("rooms", {"rooms": {"shape": [5], "datatype": "FP64", "data": [0.5, 1.0, 1.0, 1.0, 1.0]}}),
    Wrong("differ in length", {"area": {"shape": [1], "datatype": "FP64", "data": [1.0]}}),
    Wrong("other", {"other": {"shape": [1], "datatype": "FP64", "data": [1.0]}}),
)


def _three_floats(name: str, *, any_width: bool = False) -> tuple[Wrong, ...]:
    """What is wrong for an input of rows of three numbers each."""
    width = Wrong(f"input {name!r}", {name: {"shape": [5, 1], "datatype": "FP32", "data": [1.0] * 5}})
    return (
        Wrong(f"input {name!r}", {name: {"shape": [3], "datatype": "FP32", "data": [1.0, 2.0, 3.0]}}),
        *(() if any_width else (width,)),
        Wrong("FP64", {name: {"shape": [5, 3], "datatype": "FP64", "data": [1.0] * 15}}),
        Wrong("other", {"other": {"shape": [1], "datatype": "FP32", "data": [1.0]}}),
    )


CASES: Final[dict[str, Case]] = {
    "joblib": Case(
        runtime="sklearn",
        platform="sklearn",
        maker=f"{SKLEARN_ROWS}\nimport joblib\njoblib.dump(model, MODEL / 'model.joblib')",
        wrong=ROWS_WRONG,
        without=("sklearn", "joblib"),
        extra="sklearn",
        unpickles=True,
    ),
    "pickle": Case(
        runtime="sklearn",
        platform="sklearn",
        maker=f"{SKLEARN_ROWS}\nimport pickle\n(MODEL / 'model.pkl').write_bytes(pickle.dumps(model))",
        wrong=ROWS_WRONG,
        without=("sklearn", "joblib"),
        extra="sklearn",
        unpickles=True,
    ),
    "skops": Case(
        runtime="skops",
        platform="sklearn",
        maker=f"""{SKLEARN_ROWS}
import skops.io
skops.io.dump(model, MODEL / "model.skops")
if LARGE:
    (MODEL / "model.yaml").write_text("options: {{trusted: [sklearn.tree._tree.Tree]}}")
""",
        wrong=ROWS_WRONG,
        without=("skops",),
        extra="skops",
    ),
    "predictor.py": Case(
        runtime="predictor",
        platform="python",
        maker=OWN_PREDICTOR,
        wrong=(*ROWS_WRONG[:2], Wrong("input 'input-0' is missing", {"input-0": None})),
        unpickles=True,
    ),
    "onnx": Case(
        runtime="onnxruntime",
        platform="onnxruntime",
        maker=f"""{SKLEARN_ROWS}
import onnxruntime
from skl2onnx import to_onnx
rows = rows.astype("float32")
(MODEL / "model.onnx").write_bytes(to_onnx(model, rows[:1]).SerializeToString())
session = onnxruntime.InferenceSession(str(MODEL / "model.onnx"), providers=["CPUExecutionProvider"])
question = {{"X": rows[:5]}}
answers = {{"variable": session.run(["variable"], question)[0]}}
""",
        wrong=(
            Wrong("input 'X'", {"X": {"shape": [3], "datatype": "FP32", "data": [1.0, 2.0, 3.0]}}),
            Wrong("input 'X'", {"X": {"shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}}),
            Wrong("FP64", {"X": {"shape": [1, 3], "datatype": "FP64", "data": [1.0, 2.0, 3.0]}}),
            Wrong("input 'X' is missing", {"X": None}),
            Wrong("other", {"other": {"shape": [1], "datatype": "FP32", "data": [1.0]}}),
        ),
        without=("onnxruntime",),
        extra="onnx",
    ),
    "xgboost": Case(
        runtime="xgboost",
        platform="xgboost",
        maker=f"""{TREES_ROWS}
import xgboost
model = xgboost.XGBRegressor(n_estimators=TREES, max_depth=6, n_jobs=1).fit(rows, target)
model.save_model(MODEL / "model.ubj")
answers = {{"predict": model.predict(rows[:5])}}
""",
        wrong=ROWS_WRONG,
        without=("xgboost",),
        extra="xgboost",
    ),
    "xgboost classifier": Case(
        runtime="xgboost",
        platform="xgboost",
        maker=f"""{TREES_ROWS}
import xgboost
model = xgboost.XGBClassifier(n_estimators=TREES, max_depth=6, n_jobs=1).fit(rows, classes)
model.save_model(MODEL / "model.json")
answers = {{"predict": model.predict(rows[:5]), "predict_proba": model.predict_proba(rows[:5])}}
""",
        wrong=ROWS_WRONG,
        without=("xgboost",),
        extra="xgboost",
        outputs=("predict", "predict_proba"),
        slow=True,
    ),
    "lightgbm": Case(
        runtime="lightgbm",
        platform="lightgbm",
        maker=f"""{TREES_ROWS}
import lightgbm
model = lightgbm.LGBMClassifier(n_estimators=TREES, n_jobs=1, verbose=-1).fit(rows, classes)
model.booster_.save_model(MODEL / "model.txt")
answers = {{"predict": model.booster_.predict(rows[:5]), "predict_proba": model.predict_proba(rows[:5])}}
""",
        wrong=ROWS_WRONG,
        without=("lightgbm",),
        extra="lightgbm",
        outputs=("predict", "predict_proba"),
    ),
    "catboost": Case(
        runtime="catboost",
        platform="catboost",
        maker=f"""{TREES_ROWS}
import catboost
names = np.array(["small", "middle", "large"])
model = catboost.CatBoostClassifier(iterations=TREES, thread_count=1, verbose=0, allow_writing_files=False)
model.fit(rows, names[classes])
model.save_model(MODEL / "model.cbm")
answers = {{"predict": model.predict(rows[:5]), "predict_proba": model.predict_proba(rows[:5])}}
""",
        wrong=ROWS_WRONG,
        without=("catboost",),
        extra="catboost",
        outputs=("predict", "predict_proba"),
    ),
    "mlflow": Case(
        runtime="mlflow",
        platform="mlflow",
        maker=f"""{MLFLOW_COLUMNS}
import mlflow.xgboost
import xgboost
model = xgboost.XGBRegressor(n_estimators=1500 if LARGE else 20, n_jobs=1).fit(table, target)
signature = mlflow.models.infer_signature(table, model.predict(table))
mlflow.xgboost.save_model(model, MODEL, signature=signature, pip_requirements=[])
answers = {{"output-1": model.predict(table[:5])}}
""",
        wrong=COLUMNS_WRONG,
        without=("mlflow",),
        extra="mlflow",
        slow=True,
    ),
    "mlflow pickled": Case(
        runtime="mlflow",
        platform="mlflow",
        maker=f"""{MLFLOW_COLUMNS}
import mlflow.sklearn
from sklearn.ensemble import RandomForestRegressor
model = RandomForestRegressor(60 if LARGE else 5, random_state=0, n_jobs=1).fit(table, target)
signature = mlflow.models.infer_signature(table, model.predict(table))
mlflow.sklearn.save_model(
    model, MODEL, signature=signature, pip_requirements=[], serialization_format="cloudpickle"
)
answers = {{"output-1": model.predict(table[:5])}}
""",
        wrong=COLUMNS_WRONG,
        without=("mlflow",),
        extra="mlflow",
        unpickles=True,
        slow=True,
    ),
    "SavedModel": Case(
        runtime="tensorflow",
        platform="tensorflow",
        maker=graph_makers.SAVED_MODEL,
        wrong=(
            *_three_floats("rows"),
            Wrong(
                "input 'city': expected BYTES",
                {"city": {"shape": [5], "datatype": "FP32", "data": [1.0] * 5}},
            ),
            Wrong("input 'city' is missing", {"city": None}),
            Wrong("refused", {"city": {"shape": [2], "datatype": "BYTES", "data": ["oslo", "rome"]}}),
        ),
        without=("tensorflow",),
        extra="tensorflow",
        slow=True,
    ),
    "Keras": Case(
        runtime="keras",
        platform="keras",
        maker=graph_makers.KERAS,
        wrong=(
            *_three_floats("rows"),
            Wrong("INT64", {"extra": {"shape": [5, 1], "datatype": "INT64", "data": [1] * 5}}),
            Wrong("input 'extra' is missing", {"extra": None}),
        ),
        without=("tensorflow", "keras"),
        extra="tensorflow",
        slow=True,
    ),
    "LiteRT": Case(
        runtime="litert",
        platform="litert",
        maker=graph_makers.LITERT,
        wrong=(
            *_three_floats("rows"),
            Wrong("INT64", {"zone": {"shape": [5], "datatype": "INT64", "data": [1] * 5}}),
            Wrong("input 'zone' is missing", {"zone": None}),
        ),
        without=("ai_edge_litert",),
        extra="litert",
        slow=True,
    ),
    "torch.export": Case(
        runtime="torch_export",
        platform="torch_export",
        maker=graph_makers.TORCH_EXPORT,
        wrong=(
            *_three_floats("rows"),
            Wrong("refused", {"zone": {"shape": [2], "datatype": "INT64", "data": [1, 2]}}),
            Wrong("input 'zone' is missing", {"zone": None}),
        ),
        without=("torch",),
        extra="torch",
        unpickles=True,
        slow=True,
    ),
    "TorchScript": Case(
        runtime="torchscript",
        platform="torchscript",
        maker=graph_makers.TORCHSCRIPT,
        wrong=(
            *_three_floats("rows", any_width=True),
            Wrong("input 'zone' is missing", {"zone": None}),
        ),
        without=("torch",),
        extra="torch",
        slow=True,
    ),
}
"""A case's name → the case. A new format is one entry here."""
