"""A loaded model that answers rows of a table with one row each: what XGBoost, LightGBM and CatBoost have in common.

Made by their runtimes. Outputs are named as MLServer names them: ``predict``, which is given if none is asked for, and
``predict_proba`` for classifiers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, TypeAlias

import msgspec
import numpy as np

from hotset.errors import HotsetError, InvalidInputError, PredictFailedError
from hotset.payload import Array, InferRequest, InferResponse, Signature, TensorSpec, datatype_of
from hotset.runtimes.exhaustion import is_out_of_memory
from hotset.runtimes.reason import reason_of

PREDICT: Final = "predict"
PREDICT_PROBA: Final = "predict_proba"

Read: TypeAlias = Callable[[Mapping[str, Array]], Any]
"""Turns the inputs into what the methods take; raises ``InvalidInputError``."""

Method: TypeAlias = Callable[[Any], Any]


class TableOptions(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The options of these runtimes. One thread: children are how hotset uses several cores."""

    threads: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 1


class TableServable:
    """One model and its methods. Thread-safe as far as the methods are, which the runtimes see to.

    Legal order: any calls of ``infer``, then ``close`` once.
    """

    rows_are_independent = True
    """Every row falls through the trees for itself; the sums are made in the same order, however many rows there are."""

    def __init__(
        self,
        signature: Signature,
        read: Read,
        methods: Mapping[str, Method],
        *,
        refusals: tuple[type[Exception], ...] = (),
    ) -> None:
        """``refusals`` are what the framework raises for values that it does not take."""
        self._signature = signature
        self._read = read
        self._methods = dict(methods)
        self._refusals = refusals

    @property
    def signature(self) -> Signature:
        return self._signature

    def infer(self, request: InferRequest) -> InferResponse:
        data = self._read(request.inputs)
        outputs: dict[str, Array] = {}
        for name in request.outputs or (PREDICT,):
            method = self._methods.get(name)
            if method is None:
                raise InvalidInputError(f"no output {name!r}; this model has: {', '.join(self._methods)}")
            outputs[name] = self._call(name, method, data)
        return InferResponse(outputs)

    def close(self) -> None:
        self._methods.clear()

    def _call(self, name: str, method: Method, data: Any) -> Array:
        try:
            return np.asarray(method(data))
        except (HotsetError, MemoryError):
            raise
        except self._refusals as error:
            if is_out_of_memory(error):
                raise MemoryError(reason_of(error)) from error
            raise InvalidInputError(f"the model's {name} refused the input: {reason_of(error)}") from error
        except Exception as error:
            if is_out_of_memory(error):
                raise MemoryError(reason_of(error)) from error
            raise PredictFailedError(reason_of(error)) from error


def told_by(methods: Mapping[str, Method], row: Any) -> tuple[TensorSpec, ...]:
    """Return the specs of the outputs, as the methods answer one row: no file says their types and shapes.

    Raises:
        Exception: whatever the framework raises, as for a model that cannot predict.
    """
    specs = []
    for name, method in methods.items():
        answer = np.asarray(method(row))
        specs.append(TensorSpec(name, datatype_of(answer), (-1, *answer.shape[1:])))
    return tuple(specs)
