"""scikit-learn, and whatever else is pickled and has its methods: ``*.joblib``, ``*.pkl``, ``*.pickle``.

Outputs are the estimator's methods, under the names that MLServer gives them: ``predict`` (the default),
``predict_proba`` and ``transform``; and ``classes``, the labels of the probabilities, a row for each row. The input is
one tensor, whatever its name; or one tensor for each column, for a model that was fitted with named columns. It never
changes the model, its ``n_jobs`` included.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from hotset.errors import HotsetError, InvalidInputError, LoadFailedError, PredictFailedError
from hotset.payload import Array, InferRequest, InferResponse, Signature, TensorSpec
from hotset.runtimes.columns import wrong_names
from hotset.runtimes.gcpause import collector_pause
from hotset.runtimes.inlined import Pickled
from hotset.runtimes.modelfile import candidates, choose
from hotset.runtimes.options import NO_OPTIONS, NoneOfItsOwn, RuntimeOptions
from hotset.runtimes.reason import load_failure, not_installed, reason_of
from hotset.runtimes.sklearn_linear import short_predict
from hotset.runtimes.unpickling import unpickle_to_keep

SUFFIXES: Final = (".joblib", ".pkl", ".pickle")
OUTPUTS: Final = ("predict", "predict_proba", "transform")
CLASSES: Final = "classes"
INPUT_NAME: Final = "input-0"

Method: TypeAlias = Callable[[Any], Any]


class SklearnRuntime:
    """The adapter. Stateless and thread-safe; imports the framework in ``load``."""

    name = "sklearn"
    extra = "sklearn"
    patterns = tuple(f"*{suffix}" for suffix in SUFFIXES)
    size_factor = 1.5
    devices = ("cpu",)

    def detect(self, files: Sequence[str]) -> bool:
        return bool(candidates(files, SUFFIXES))

    def needs_pickle(self, path: Path, files: Sequence[str]) -> bool:
        del path, files
        return True

    def load(self, path: Path, files: Sequence[str], options: RuntimeOptions = NO_OPTIONS) -> SklearnServable:
        options.read(NoneOfItsOwn)
        file = choose(files, SUFFIXES)
        try:
            importlib.import_module("joblib")
            importlib.import_module("sklearn")
        except ImportError as error:
            raise not_installed("scikit-learn", self.extra) from error
        model, pickled = _loaded(path / file, file)
        return servable_for(model, file, pickled=pickled)


class Traits(NamedTuple):
    """What all estimators have in common that were built from the same file."""

    names: tuple[str, ...]
    """Of the methods."""
    features: int | None
    columns: tuple[str, ...]
    signature: Signature
    rows_are_independent: bool


@dataclass(frozen=True, slots=True)
class SklearnRecipe:
    """Builds what a small file holds again, without the file. Thread-safe."""

    pickled: Pickled
    traits: Traits

    @property
    def bytes(self) -> int:
        return self.pickled.bytes

    def load(self) -> SklearnServable:
        with collector_pause:
            model = self.pickled.copy().build()
        return SklearnServable(_methods(model, self.traits.names), self.traits)


def servable_for(model: Any, file: str, *, pickled: Pickled | None = None) -> SklearnServable:
    """Return what serves an estimator that was read from ``file``, and may be built again of what it was ``pickled`` to.

    Raises:
        LoadFailedError: it is none.
    """
    names = tuple([name for name in OUTPUTS if callable(getattr(model, name, None))])
    if not names:
        raise LoadFailedError(
            f"expected an estimator with one of the methods {', '.join(OUTPUTS)} in {file}, "
            f"found: {type(model).__name__}"
        )
    methods = _methods(model, names)
    return SklearnServable(methods, _traits(model, tuple(methods)), pickled)


def _methods(model: Any, names: Iterable[str]) -> dict[str, Method]:
    methods: dict[str, Method] = {name: getattr(model, name) for name in names if name != CLASSES}
    if "predict" in methods:
        short = short_predict(model)
        if short is not None:
            methods["predict"] = short
    if "predict_proba" in methods:
        classes = _classes(model)
        if classes is not None:
            methods[CLASSES] = lambda data: np.broadcast_to(classes, (len(data), len(classes)))
    return methods


def _traits(model: Any, names: tuple[str, ...]) -> Traits:
    features = _feature_count(model)
    return Traits(
        names=names,
        features=features,
        columns=tuple(str(name) for name in _attribute(model, "feature_names_in_", ())),
        signature=_signature(model, features, names),
        rows_are_independent=treats_rows_alone(model),
    )


def _classes(model: Any) -> Array | None:
    """Return the labels of a classifier's probabilities, in order; None if there is not one such list."""
    classes = _attribute(model, "classes_", None)
    return classes if isinstance(classes, np.ndarray) and classes.ndim == 1 else None


def _loaded(path: Path, file: str) -> tuple[Any, Pickled | None]:
    try:
        with collector_pause:
            return unpickle_to_keep(path)
    except Exception as error:
        raise load_failure(f"cannot unpickle {file}:", error) from error


class SklearnServable:
    """One estimator and its methods. Thread-safe as far as scikit-learn's predictions are, which is: yes.

    Legal order: any calls of ``infer``, then ``close`` once.
    """

    def __init__(self, methods: dict[str, Method], traits: Traits, pickled: Pickled | None = None) -> None:
        """``methods`` are its own from now on."""
        self._methods = methods
        self._default = ("predict" if "predict" in methods else next(iter(methods)),)
        self._features = traits.features
        self._columns = traits.columns
        self.traits: Final = traits
        self.rows_are_independent = traits.rows_are_independent
        self._pickled = pickled

    @property
    def signature(self) -> Signature:
        return self.traits.signature

    def infer(self, request: InferRequest) -> InferResponse:
        data = self._input(request.inputs)
        outputs: dict[str, Array] = {}
        for name in request.outputs or self._default:
            method = self._methods.get(name)
            if method is None:
                raise InvalidInputError(
                    f"no output {name!r}; this model has: {', '.join(self._methods) or 'none'}"
                )
            outputs.update(_as_tensors(name, _call(name, method, data)))
        return InferResponse(outputs)

    def take_recipe(self) -> SklearnRecipe | None:
        """Return what builds it again, if there is such a thing, to whoever asks first."""
        pickled, self._pickled = self._pickled, None
        return None if pickled is None else SklearnRecipe(pickled, self.traits)

    def close(self) -> None:
        self._methods.clear()

    def _input(self, inputs: Mapping[str, Array]) -> Any:
        if self._columns and inputs.keys() == set(self._columns):
            return _frame({name: _column(name, inputs[name]) for name in self._columns})
        if len(inputs) != 1:
            raise InvalidInputError(wrong_names(inputs, self._columns))
        name, array = next(iter(inputs.items()))
        if self._features is None:
            return array
        if array.ndim != 2:
            raise InvalidInputError(
                f"input {name!r}: expected the shape [-1, {self._features}], found: {list(array.shape)}"
            )
        if array.shape[1] != self._features:
            raise InvalidInputError(
                f"input {name!r}: expected {self._features} features, found: {array.shape[1]}"
            )
        return array


def _call(name: str, method: Callable[[Any], Any], data: Any) -> Any:
    try:
        return method(data)
    except (HotsetError, MemoryError):
        raise
    except ValueError as error:
        # scikit-learn validates its input itself and says ValueError for what it holds: NaN, strings, one row too few.
        raise InvalidInputError(f"the model's {name} refused the input: {reason_of(error)}") from error
    except Exception as error:
        raise PredictFailedError(reason_of(error)) from error


def _as_tensors(name: str, result: Any) -> dict[str, Array]:
    """Several targets' probabilities are a list with an array for each; sparse results are made dense."""
    if isinstance(result, list) and result and isinstance(result[0], np.ndarray):
        return {f"{name}-{index}": np.asarray(part) for index, part in enumerate(result)}
    if hasattr(result, "toarray"):
        result = result.toarray()
    return {name: np.asarray(result)}


def _column(name: str, array: Array) -> Array:
    if array.ndim == 1:
        return array
    if array.ndim == 2 and array.shape[1] == 1:
        return array.reshape(-1)
    raise InvalidInputError(
        f"input {name!r}: expected a column of shape [-1] or [-1, 1], found: {list(array.shape)}"
    )


def _frame(columns: dict[str, Array]) -> Any:
    """Return a pandas frame where pandas is installed, because transformers may select by name; else an array."""
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise InvalidInputError(f"the columns differ in length: {lengths}")
    if _has_pandas():
        return importlib.import_module("pandas").DataFrame(columns)
    if any(column.dtype == object for column in columns.values()):
        return np.column_stack([column.astype(object) for column in columns.values()])
    return np.column_stack(list(columns.values()))


@cache
def _has_pandas() -> bool:
    return importlib.util.find_spec("pandas") is not None


def _attribute(model: Any, name: str, default: Any) -> Any:
    """Pipelines answer some attributes by asking a step, and raise what that step raises."""
    try:
        return getattr(model, name, default)
    except (AttributeError, IndexError, TypeError):
        return default


def _feature_count(model: Any) -> int | None:
    count = _attribute(model, "n_features_in_", None)
    return int(count) if count is not None else None


def _signature(model: Any, features: int | None, names: tuple[str, ...]) -> Signature:
    classes = _classes(model)
    width = -1 if classes is None else len(classes)
    shapes = {"predict": (-1,), "predict_proba": (-1, width), "transform": (-1, -1), CLASSES: (-1, width)}
    return Signature(
        platform="sklearn",
        inputs=(TensorSpec(INPUT_NAME, None, (-1, -1 if features is None else features)),),
        outputs=tuple(TensorSpec(name, None, shapes[name]) for name in names),
    )


def treats_rows_alone(model: Any) -> bool:
    """Whether each row's answer is known to depend on that row alone: scikit-learn's own estimators, all the way down.

    Not those that call functions of the user's, and not those that solve for all rows at once.
    """
    kind = type(model)
    if not kind.__module__.startswith("sklearn.") or not hasattr(model, "get_params"):
        return False
    if kind.__name__ in _SEES_OTHER_ROWS or kind.__module__.startswith("sklearn.decomposition."):
        return False
    try:
        return all(_is_plain(getattr(model, name)) for name in _parameters(model))
    except Exception:  # noqa: BLE001 - a model of another version of scikit-learn: not known
        return False


def _parameters(model: Any) -> tuple[str, ...]:
    """Return the names of an estimator's parameters. To find them out costs as much as a small model's load."""
    kind = type(model)
    names = _PARAMETERS.get(kind)
    if names is None:
        names = _PARAMETERS[kind] = tuple(model.get_params(deep=False))
    return names


def _is_plain(part: Any) -> bool:
    if isinstance(part, list | tuple):
        return all(_is_plain(item) for item in part)
    if isinstance(part, dict):
        return all(_is_plain(item) for item in part.values())
    if hasattr(part, "get_params") and not isinstance(part, type):
        return treats_rows_alone(part)
    return not callable(part) or isinstance(part, type)


_PARAMETERS: Final[dict[type, tuple[str, ...]]] = {}
_SEES_OTHER_ROWS: Final = frozenset({"FunctionTransformer"})
