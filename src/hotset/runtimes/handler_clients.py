"""The clients that handlers written for Cortex are given: they borrow models from hotset, and run them.

Made by ``handler`` and called by the user's code, in the middle of requests. What they cannot do raises an error of
the tree, so that a handler that lets it pass gives the client the right answer.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np

from hotset.errors import InvalidInputError, UnsupportedError
from hotset.payload import DTYPES, Array, InferRequest, InferResponse, TensorSpec
from hotset.runtimes.base import Servable
from hotset.runtimes.handler_model import HandlerModel
from hotset.runtimes.lending import Lender

_log = logging.getLogger(__name__)


class ModelClient:
    """``model_client`` and ``python_client``: gives what ``load_model`` returned. Thread-safe."""

    def __init__(self, lender: Lender, *, only: str | None, names: Collection[str] = ()) -> None:
        """``only``: the one model there is, whatever is asked for; ``names``: all there are, where that is known."""
        self._lender = lender
        self._only = only
        self._names = names

    def get_model(self, model_name: str | None = None, model_version: str | int = "latest") -> Any:
        """Return a loaded model, which stays loaded until the handler has answered this request.

        Raises:
            NotFoundError, InvalidInputError, LoadFailedError, UnavailableError …: as a client that asks for it is told
        """
        servable = self.borrow(model_name, model_version)
        return servable.model if isinstance(servable, HandlerModel) else servable

    def borrow(self, model_name: str | None, model_version: str | int) -> Servable:
        """Return what runs the model."""
        name = self._only or model_name
        if name is None:
            names = f": {', '.join(self._names)}" if self._names else ""
            raise InvalidInputError(f"expected the name of a model, found none; there are several{names}")
        return self._lender.lend(str(name), str(model_version))


class _RunningClient:
    """What the two that run models have in common."""

    def __init__(
        self, models: ModelClient, *, signatures: Mapping[str, str], default_signature: str | None
    ) -> None:
        self._models = models
        self._signatures = signatures
        self._default_signature = default_signature

    def _run(
        self, model_input: Any, model_name: str | None, model_version: str | int
    ) -> tuple[InferResponse, tuple[TensorSpec, ...]]:
        servable: Any = self._models.borrow(model_name, model_version)
        if not hasattr(servable, "infer"):
            raise UnsupportedError("this model has no tensors to predict with; ask for it with get_model")
        wanted = self._signatures.get(model_name or "", self._default_signature)
        signature = servable.signature
        parameters: dict[str, Any] = {}
        if wanted is not None and wanted != signature.name:
            parameters["signature_name"] = wanted
            signature = next((it for it in signature.others if it.name == wanted), signature)
        inputs = _arrays(model_input, signature.inputs)
        return servable.infer(InferRequest(inputs, parameters=parameters)), signature.outputs


class TensorFlowClient(_RunningClient):
    """``tensorflow_client``: runs models of TensorFlow in this process, in the place of TensorFlow Serving's."""

    def predict(
        self, model_input: Any, model_name: str | None = None, model_version: str | int = "latest"
    ) -> dict[str, list[Any]]:
        """Return every output as a flat list of its values, as Cortex did, by name."""
        response, _ = self._run(model_input, model_name, model_version)
        return {name: [_plain(item) for item in _flat(array)] for name, array in response.outputs.items()}


class OnnxClient(_RunningClient):
    """``onnx_client``: runs models in ONNX Runtime."""

    def predict(
        self, model_input: Any, model_name: str | None = None, model_version: str | int = "latest"
    ) -> list[Array]:
        """Return every output as an array, in the model's order."""
        response, _ = self._run(model_input, model_name, model_version)
        return list(response.outputs.values())

    def get_model(self, model_name: str | None = None, model_version: str | int = "latest") -> Any:
        """Return what runs the model."""
        return self._models.get_model(model_name, model_version)


class MetricsClient:
    """``metrics_client``: takes what handlers count, and writes it to the log at ``debug``. Thread-safe."""

    def gauge(self, metric: str, value: float, tags: Mapping[str, str] | None = None) -> None:
        self._note(metric, value, tags)

    def increment(self, metric: str, value: float = 1, tags: Mapping[str, str] | None = None) -> None:
        self._note(metric, value, tags)

    def histogram(self, metric: str, value: float, tags: Mapping[str, str] | None = None) -> None:
        self._note(metric, value, tags)

    def _note(self, metric: str, value: float, tags: Mapping[str, str] | None) -> None:
        _log.debug("the handler's metric %s: %s %s", metric, value, dict(tags or {}))


def _arrays(model_input: Any, specs: Sequence[TensorSpec]) -> dict[str, Array]:
    """Return the input by name: a mapping as it is, anything else for the only input."""
    if isinstance(model_input, Mapping):
        by_name = {spec.name: spec for spec in specs}
        return {str(name): _array(value, by_name.get(str(name))) for name, value in model_input.items()}
    if len(specs) != 1:
        names = ", ".join(spec.name for spec in specs) or "none that are declared"
        raise InvalidInputError(
            f"expected a dictionary with the model's inputs ({names}), found: {type(model_input).__name__}"
        )
    return {specs[0].name: _array(model_input, specs[0])}


def _array(value: Any, spec: TensorSpec | None) -> Array:
    dtype: Final = DTYPES[spec.datatype] if spec is not None and spec.datatype is not None else None
    where = "the model's input" if spec is None else f"the model's input {spec.name!r}"
    try:
        array = np.asarray(value, dtype=dtype)
        if spec is None or array.ndim == len(spec.shape):
            return array
        # Cortex let the dimensions that are not declared be 1, so that one example needs no batch around it.
        return array.reshape([size if size >= 0 else 1 for size in spec.shape])
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInputError(f"{where} does not fit: {error}") from error


def _flat(array: Array) -> list[Any]:
    flat: list[Any] = array.ravel().tolist()
    return flat


def _plain(item: Any) -> Any:
    return item.decode("utf-8", "replace") if isinstance(item, bytes) else item
