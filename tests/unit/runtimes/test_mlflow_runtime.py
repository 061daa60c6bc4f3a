"""MLflow: signatures of every kind, parameters, results of every kind, and code that stays the model's own."""

from __future__ import annotations

import gc
import json
import sys
import warnings
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from hotset.errors import InvalidInputError, LoadFailedError, PredictFailedError
from hotset.payload import InferRequest, Signature
from hotset.runtimes.mlflow_runtime import MlflowRuntime, MlflowServable

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*type hint:UserWarning"),  # MLflow's own import says so
    pytest.mark.xdist_group("mlflow"),
]

NUMBERS = [{"name": "area", "type": "double"}, {"name": "rooms", "type": "long"}]
TENSOR = [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 2]}}]
AREA, ROOMS = np.array([1.5, 2.5]), np.array([1, 2])


def write(
    directory: Path,
    body: str,
    *,
    inputs: Sequence[Any] | None = None,
    outputs: Sequence[Any] | None = None,
    params: Sequence[Any] | None = None,
    own: dict[str, str] | None = None,
) -> list[str]:
    """Write a model that is saved as code; return its files. ``body`` is its predict, given ``data`` and ``params``."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = "\n".join(f"        {line}" for line in body.splitlines())
    top = "\n".join(f"import {name}" for name in (own or {}) if f"import {name}" not in body)
    (directory / "city.py").write_text(
        f"import mlflow\nimport numpy as np\nimport pandas as pd\n{top}\n\nclass City(mlflow.pyfunc.PythonModel):\n"
        f"    def predict(self, context, model_input, params=None):\n        data = model_input\n{lines}\n\nmlflow.models.set_model(City())\n"
    )
    flavor = {"loader_module": "mlflow.pyfunc.loaders.code_model", "model_code_path": "city.py"}
    if own:
        (directory / "code").mkdir(exist_ok=True)
        for name, source in own.items():
            (directory / "code" / f"{name}.py").write_text(source)
        flavor["code"] = "code"
    content: dict[str, Any] = {"flavors": {"python_function": flavor}}
    if inputs is not None or outputs is not None or params is not None:
        told = {"inputs": inputs, "outputs": outputs, "params": params}
        content["signature"] = {name: json.dumps(it) for name, it in told.items() if it is not None}
    (directory / "MLmodel").write_text(yaml.safe_dump(content))
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def load(directory: Path, body: str, **options: Any) -> MlflowServable:
    files = write(directory, body, **options)
    with warnings.catch_warnings(
        record=True
    ):  # MLflow's advice about type hints, given whatever the filters say
        return MlflowRuntime().load(directory, files)


def ask(servable: MlflowServable, inputs: dict[str, Any], **options: Any) -> dict[str, np.ndarray]:
    return servable.infer(InferRequest(inputs, **options)).outputs


def said(signature: Signature) -> tuple[list[Any], list[Any]]:
    inputs, outputs = (
        [(it.name, it.datatype, it.shape) for it in specs] for specs in (signature.inputs, signature.outputs)
    )
    return inputs, outputs


def test_columns_become_a_frame_in_the_schemas_order(tmp_path: Path) -> None:
    servable = load(tmp_path, "return [','.join(data) + f' {row.area} {row.rooms}' for row in data.itertuples()]",
                    inputs=NUMBERS, outputs=[{"type": "string"}])  # fmt: skip
    found = ask(servable, {"rooms": ROOMS, "area": AREA.reshape(2, 1)})
    assert found["output-1"].tolist() == ["area,rooms 1.5 1", "area,rooms 2.5 2"]
    assert said(servable.signature) == (
        [("area", "FP64", (-1,)), ("rooms", "INT64", (-1,))],
        [("output-1", "BYTES", (-1,))],
    )


def test_numbers_in_columns_may_come_as_rows(tmp_path: Path) -> None:
    numbers = [{"name": "area", "type": "double"}, {"name": "age", "type": "double"}]
    servable = load(tmp_path, "return data.area.to_numpy() * 10 + data.age.to_numpy()", inputs=numbers)
    assert ask(servable, {"x": np.array([[1.0, 2.0], [3.0, 4.0]])})["output-1"].tolist() == [12.0, 34.0]


def test_rows_of_one_type_are_taken_for_columns_of_several_where_no_value_changes(tmp_path: Path) -> None:
    servable = load(tmp_path, "return data.area * 10 + data.rooms", inputs=NUMBERS)
    assert ask(servable, {"x": np.array([[1.5, 2.0], [3.0, 4.0]])})["output-1"].tolist() == [17.0, 34.0]
    for wrong in (0.5, np.nan, 1e300):
        with pytest.raises(InvalidInputError, match=r"column rooms"):
            ask(servable, {"x": np.array([[1.5, wrong]])})


def test_a_column_that_is_not_required_may_be_left_out(tmp_path: Path) -> None:
    optional = [NUMBERS[0], NUMBERS[1] | {"required": False}]
    servable = load(tmp_path, "return [len(data.columns)] * len(data)", inputs=optional)
    assert ask(servable, {"area": AREA})["output-1"].tolist() == [1, 1]
    assert ask(servable, {"area": AREA, "rooms": ROOMS})["output-1"].tolist() == [2, 2]


def test_every_type_of_column(tmp_path: Path) -> None:
    types = {
        "integer": ("INT32", np.array([1], "i4"), "int32"), "float": ("FP32", np.array([1], "f4"), "float32"),
        "boolean": ("BOOL", np.array([True]), "bool"), "string": ("BYTES", np.array([b"gr\xc3\xbcn"], object), "str"),
        "binary": ("BYTES", np.array([b"\xff"], object), "bytes"),
        "datetime": ("BYTES", np.array([b"2026-11-22T10:00:00"], object), "Timestamp"),
    }  # fmt: skip
    servable = load(
        tmp_path, "return {name: [type(data[name].iloc[0]).__name__.rstrip('_')] for name in data.columns}",
        inputs=[{"name": kind, "type": kind} for kind in types],
    )  # fmt: skip
    assert said(servable.signature)[0] == [(kind, named, (-1,)) for kind, (named, _, _) in types.items()]
    found = ask(servable, {kind: value for kind, (_, value, _) in types.items()})
    assert {name: it.tolist()[0] for name, it in found.items()} == {kind: it[2] for kind, it in types.items()}


def test_nested_columns_are_json_or_rows_of_numbers(tmp_path: Path) -> None:
    nested = [{"name": "path", "type": "array", "items": {"type": "double"}, "required": True}]
    servable = load(tmp_path, "return [sum(path) for path in data.path]", inputs=nested)
    assert ask(servable, {"path": np.array([[1.0, 2.0], [3.0, 4.0]])})["output-1"].tolist() == [3.0, 7.0]
    assert ask(servable, {"path": np.array([b"[1.5, 2.5]", "[4.0]"], object)})["output-1"].tolist() == [
        4.0,
        4.0,
    ]
    with pytest.raises(InvalidInputError, match="input 'path': expected JSON in each element"):
        ask(servable, {"path": np.array([b"[1.5"], object)})


@pytest.mark.parametrize("name", ["input-0", "x"])
def test_a_tensor_without_a_name_may_have_any(tmp_path: Path, name: str) -> None:
    servable = load(tmp_path, "return data.sum(axis=1)", inputs=TENSOR, outputs=TENSOR)
    assert ask(servable, {name: np.ones((3, 2))})["output-1"].tolist() == [2.0, 2.0, 2.0]
    assert said(servable.signature)[0] == [("input-0", "FP64", (-1, 2))]


def test_tensors_with_names(tmp_path: Path) -> None:
    inputs = [
        TENSOR[0] | {"name": "a"},
        {"name": "b", "type": "tensor", "tensor-spec": {"dtype": "str", "shape": [-1]}},
    ]
    servable = load(tmp_path, "return {'rows': data['a'] * 2, 'text': data['b']}", inputs=inputs)
    found = ask(servable, {"a": np.ones((1, 2)), "b": np.array([b"x"], object)})
    assert found["rows"].tolist() == [[2.0, 2.0]]
    assert found["text"].tolist() == ["x"]


def test_without_a_signature_anything_goes(tmp_path: Path) -> None:
    servable = load(tmp_path, "return [type(data).__name__]")
    assert ask(servable, {"x": np.ones((3, 2))})["output-1"].tolist() == ["ndarray"]
    assert ask(servable, {"area": AREA, "rooms": ROOMS})["output-1"].tolist() == ["DataFrame"]
    with pytest.raises(InvalidInputError, match="found none"):
        ask(servable, {})


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "missing: area, rooms"),
        ({"area": AREA, "room": ROOMS}, "missing: rooms; unknown: room"),
        ({"area": AREA, "rooms": ROOMS[:1]}, "differ in length: {'area': 2, 'rooms': 1}"),
        ({"area": AREA.astype(str), "rooms": ROOMS}, "input 'area': expected FP64, found: BYTES"),
        ({"area": AREA, "rooms": ROOMS + 0.5}, "column rooms. Can not safely convert float64 to int64"),
        ({"area": np.ones((2, 3)), "rooms": ROOMS}, r"input 'area': expected a column of shape"),
        ({"area": np.ones((2, 2))}, "missing: rooms"),
        ({"x": np.ones((2, 3))}, r"input 'x': expected the shape \[-1, 2\], found: \[2, 3\]"),
    ],
)
def test_says_which_column_is_wrong(tmp_path: Path, inputs: dict[str, Any], words: str) -> None:
    servable = load(tmp_path, "return data.area", inputs=NUMBERS)
    with pytest.raises(InvalidInputError, match=words) as caught:
        ask(servable, inputs)
    assert "Failed to enforce" not in str(caught.value)
    assert ask(servable, {"area": AREA, "rooms": ROOMS})["output-1"].tolist() == [1.5, 2.5]


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"x": np.ones((1, 3))}, r"input 'input-0': expected the shape \[-1, 2\], found: \[1, 3\]"),
        ({"x": np.ones((1, 2), "f4")}, "input 'input-0': expected FP64, found: FP32"),
        ({"x": np.ones((1, 2)), "y": np.ones((1, 2))}, "input 'input-0' is missing; found: x, y"),
    ],
)
def test_says_what_is_wrong_with_a_tensor(tmp_path: Path, inputs: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        ask(load(tmp_path, "return data", inputs=TENSOR), inputs)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ("np.arange(2)", {"output-1": [0, 1]}),
        ("[1.5, 2.5]", {"output-1": [1.5, 2.5]}),
        ("'one'", {"output-1": ["one"]}),
        ("pd.Series([1, 2])", {"output-1": [1, 2]}),
        ("pd.DataFrame({'a': [1, 2], 'b': ['x', 'y']})", {"a": [1, 2], "b": ["x", "y"]}),
        ("{'a': np.ones(2), 'b': [True, False]}", {"a": [1.0, 1.0], "b": [True, False]}),
        ("[{'city': 'oslo', 'n': 1}]", {"output-1": ['{"city": "oslo", "n": 1}']}),
        ("[[1], [2, 3]]", {"output-1": ["[1]", "[2, 3]"]}),
        ("pd.Series([pd.Timestamp('2026-11-22')])", {"output-1": ["2026-11-22T00:00:00.000000"]}),
        ("pd.Series([1, 2], dtype=object)", {"output-1": [1, 2]}),
        ("[np.arange(2), 'x']", {"output-1": ["[0, 1]", "x"]}),
    ],
)
def test_results_of_every_kind(tmp_path: Path, result: str, expected: dict[str, list[Any]]) -> None:
    found = ask(load(tmp_path, f"return {result}"), {"x": AREA})
    assert {name: array.tolist() for name, array in found.items()} == expected


def test_outputs_by_name(tmp_path: Path) -> None:
    outputs = [{"name": "low", "type": "double"}, {"name": "high", "type": "double"}]
    servable = load(tmp_path, "return np.array([[1.0, 2.0]])", inputs=NUMBERS, outputs=outputs)
    inputs = {"area": AREA[:1], "rooms": ROOMS[:1]}
    assert {name: it.tolist() for name, it in ask(servable, inputs).items()} == {"low": [1.0], "high": [2.0]}
    assert [*ask(servable, inputs, outputs=("high",))] == ["high"]
    with pytest.raises(InvalidInputError, match="no output 'middle'; this model has: low, high"):
        ask(servable, inputs, outputs=("middle",))


def test_parameters_of_the_signature_are_given(tmp_path: Path) -> None:
    params = [{"name": "times", "type": "double", "default": 1.0, "shape": None}]
    servable = load(tmp_path, "return data.area * params['times']", inputs=NUMBERS, params=params)
    inputs = {"area": AREA, "rooms": ROOMS}
    assert ask(servable, inputs)["output-1"].tolist() == [1.5, 2.5]
    found = ask(servable, inputs, parameters={"times": 2.0, "binary_data_output": True})
    assert found["output-1"].tolist() == [3.0, 5.0]
    with pytest.raises(InvalidInputError, match="times"):
        ask(servable, inputs, parameters={"times": "twice"})


def test_what_a_model_raises(tmp_path: Path) -> None:
    with pytest.raises(PredictFailedError, match="KeyError: 'ouch'"):
        ask(load(tmp_path / "a", "raise KeyError('ouch')"), {"x": AREA})
    with pytest.raises(MemoryError):
        ask(load(tmp_path / "b", "raise MemoryError('full')"), {"x": AREA})
    with pytest.raises(LoadFailedError, match=r"cannot load MLmodel: .*ouch"):
        load(tmp_path / "c", "return data", own={"helper": "raise RuntimeError('ouch')"})


def test_what_is_not_installed_is_named(tmp_path: Path) -> None:
    files = write(tmp_path, "return data")
    content = {"flavors": {"python_function": {"loader_module": "no_such_framework"}}}
    (tmp_path / "MLmodel").write_text(yaml.safe_dump(content))
    (tmp_path / "requirements.txt").write_text("no-such-framework==1\n")
    with pytest.raises(LoadFailedError, match=r"install what its requirements\.txt lists.*no_such_framework"):
        MlflowRuntime().load(tmp_path, files)


def own_models(tmp_path: Path, body: str) -> list[MlflowServable]:
    """Two models with modules of the same names."""
    return [
        load(
            tmp_path / name,
            body,
            own={"helper": "import deeper\nNAME = deeper.NAME", "deeper": f"NAME = {name!r}"},
        )
        for name in ("paris", "rome")
    ]


@pytest.mark.parametrize(
    "body",
    ["return [helper.NAME]", "import helper\nreturn [helper.NAME]", "from deeper import NAME\nreturn [NAME]"],
)
def test_two_models_do_not_see_each_others_modules(tmp_path: Path, body: str) -> None:
    path, modules = list(sys.path), set(sys.modules)
    paris, rome = own_models(tmp_path, body)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda it: ask(it, {"x": AREA})["output-1"].tolist(), [paris, rome] * 20))
    assert answers == [["paris"], ["rome"]] * 20
    paris.close()
    assert ask(rome, {"x": AREA})["output-1"].tolist() == ["rome"]
    rome.close()
    assert sys.path == path
    assert {name for name in set(sys.modules) - modules if not name.startswith(("mlflow", "pandas"))} == set()


def test_what_is_pickled_finds_the_models_own_classes(tmp_path: Path) -> None:
    servables = []
    for name in ("paris", "rome"):
        (tmp_path / name / "code").mkdir(parents=True)
        (tmp_path / name / "code" / "helper.py").write_text(
            "import mlflow\n\nclass City(mlflow.pyfunc.PythonModel):\n"
            f"    def predict(self, context, model_input):\n        return [{name!r}]\n"
        )
        (tmp_path / name / "python_model.pkl").write_bytes(b"chelper\nCity\n(tR.")
        flavor = {"loader_module": "mlflow.pyfunc.model", "python_model": "python_model.pkl", "code": "code"}
        (tmp_path / name / "MLmodel").write_text(yaml.safe_dump({"flavors": {"python_function": flavor}}))
        with warnings.catch_warnings(record=True):
            servables.append(
                MlflowRuntime().load(tmp_path / name, ["MLmodel", "code/helper.py", "python_model.pkl"])
            )
    assert [ask(it, {"x": AREA})["output-1"].tolist() for it in servables] == [["paris"], ["rome"]]


def test_a_model_of_another_version_of_its_code_is_asked_as_before(tmp_path: Path) -> None:
    """One that imports late what is not among its own modules says so, each time."""
    servable = load(tmp_path, "import no_such_module\nreturn data", own={"helper": ""})
    for _ in range(2):
        with pytest.raises(PredictFailedError, match="No module named 'no_such_module'"):
            ask(servable, {"x": AREA})


def test_models_of_code_are_not_mixed_up_when_they_load_at_once(tmp_path: Path) -> None:
    files = {number: write(tmp_path / str(number), f"return [{number}]") for number in range(8)}

    def loaded(number: int) -> MlflowServable:
        return MlflowRuntime().load(tmp_path / str(number), files[number])

    with warnings.catch_warnings(record=True), ThreadPoolExecutor(4) as pool:
        servables = list(pool.map(loaded, files))
    assert [ask(it, {"x": AREA})["output-1"].tolist() for it in servables] == [[number] for number in files]


def test_close_lets_everything_go(tmp_path: Path) -> None:
    before = set(sys.modules)
    servable = load(tmp_path, "return [helper.NAME]", own={"helper": "NAME = 'x'"})
    held = [weakref.ref(servable._model), weakref.ref(servable._model.unwrap_python_model())]
    ask(servable, {"x": AREA})
    servable.close()
    gc.collect()
    assert [it() for it in held] == [None, None]
    assert not [it for it in {*sys.modules} - before if it.startswith(("code_model_", "hotset_model_"))]


def test_what_the_code_itself_refers_to_goes_too(tmp_path: Path) -> None:
    """MLflow keeps the classes that it has looked at, and a class refers to its module's names."""
    files = write(tmp_path, "return data")
    path = tmp_path / "city.py"
    path.write_text(path.read_text() + "\nclass Weights: pass\nWEIGHTS = Weights()\n")
    with warnings.catch_warnings(record=True):
        servable = MlflowRuntime().load(tmp_path, files)
    held = weakref.ref(type(servable._model.unwrap_python_model()).predict.__wrapped__.__globals__["WEIGHTS"])
    servable.close()
    gc.collect()
    assert held() is None


def test_a_model_below_the_versions_directory(tmp_path: Path) -> None:
    write(tmp_path / "model", "return [1]")
    files = ["model/MLmodel", "model/city.py", "notes.md"]
    assert MlflowRuntime().detect(files)
    assert MlflowRuntime().needs_pickle(tmp_path, files)
    with warnings.catch_warnings(record=True):
        servable = MlflowRuntime().load(tmp_path, files)
    assert ask(servable, {"x": AREA})["output-1"].tolist() == [1]
