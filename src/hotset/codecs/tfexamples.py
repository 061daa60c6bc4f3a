"""TensorFlow Serving's ``:classify`` and ``:regress``: examples of named features in, labels with scores or values out.

A feature is a value or a list of them. Each becomes an input of its name with a row for each example. A TensorFlow
model whose one input is text parses examples itself, and gets them as ``tf.Example`` messages, as from that server.

What is a class and what a score shows in the outputs' names and types; see ``classification``. The user's code gets
the JSON object as it was sent, and what it returns is put below ``results``, unless it is an object that has that key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from hotset.codecs.arrays import as_text, is_base64
from hotset.codecs.jsontext import write_json_numbers
from hotset.codecs.rows import read_rows
from hotset.codecs.tfexample import serialized
from hotset.codecs.tfserving import choose, read_object, write_result
from hotset.errors import InvalidInputError
from hotset.payload import Array, Encoded, InferRequest, InferResponse, Signature, TensorSpec
from hotset.runtimes.base import CallMeta

_RESULTS: Final = "results"
_CLASSES: Final = "classes"
_SCORES: Final = ("scores", "predict_proba", "probabilities", "output_probability")
_VALUES: Final = ("outputs", "predict")


class _ExamplesCodec:
    def decode_payload(self, body: bytes | memoryview, meta: CallMeta) -> tuple[Any, InferRequest | None]:
        del meta
        asked = read_object(body)
        _examples(asked)
        return asked, None

    def encode_result(self, result: Any, request: InferRequest | None, meta: CallMeta) -> Encoded:
        del request, meta
        return write_result(result, _RESULTS)


class ClassifyCodec(_ExamplesCodec):
    """Stateless and thread-safe."""

    name = "tfserving.classify"

    def decode_tensors(self, body: bytes | memoryview, meta: CallMeta, signature: Signature) -> InferRequest:
        del meta
        return _request(read_object(body), signature, (_CLASSES, *_SCORES))

    def encode_tensors(self, response: InferResponse, request: InferRequest, meta: CallMeta) -> Encoded:
        del request, meta
        return Encoded(write_json_numbers({_RESULTS: classification(response.outputs)}))


class RegressCodec(_ExamplesCodec):
    """Stateless and thread-safe."""

    name = "tfserving.regress"

    def decode_tensors(self, body: bytes | memoryview, meta: CallMeta, signature: Signature) -> InferRequest:
        del meta
        return _request(read_object(body), signature, _VALUES)

    def encode_tensors(self, response: InferResponse, request: InferRequest, meta: CallMeta) -> Encoded:
        del request, meta
        return Encoded(write_json_numbers({_RESULTS: regression(response.outputs)}))


def classification(outputs: Mapping[str, Array]) -> list[Any]:
    """Return for each example a list of ``[label, score]``.

    Labels are the output ``classes``, else the only one of text or whole numbers; scores those of the usual names, else
    the only one of floats. Without labels they are empty, and without scores 0, as in TensorFlow Serving.

    Raises:
        InvalidInputError: the outputs are no classification.
    """
    classes = outputs.get(_CLASSES)
    scores = next((outputs[name] for name in _SCORES if name in outputs), None)
    if scores is None:
        scores = _only([array for array in outputs.values() if array.dtype.kind == "f" and array.ndim == 2])
    if classes is None:
        classes = _only([it for it in outputs.values() if it.dtype.kind in "SUOiu" and it.ndim in {1, 2}])
    if classes is not None:
        classes = _table(classes)
    if scores is not None:
        scores = _table(scores)
    if classes is not None and scores is not None and classes.shape != scores.shape:
        classes = None if classes.shape[1] == 1 else classes
    if (scores is None and classes is None) or (scores is not None and scores.dtype.kind not in "fiub"):
        raise InvalidInputError(f"the model does not classify; {_found(outputs)}")
    if scores is not None and classes is not None and classes.shape != scores.shape:
        raise InvalidInputError(f"expected as many classes as scores; {_found(outputs)}")
    return _paired(classes, scores)


def regression(outputs: Mapping[str, Array]) -> list[Any]:
    """Return a number for each example.

    Raises:
        InvalidInputError: the outputs are not that.
    """
    found = next((outputs[name] for name in _VALUES if name in outputs), None)
    values = found if found is not None else _only(list(outputs.values()))
    if values is None or values.dtype.kind not in "fiu" or values.size != _rows(values):
        raise InvalidInputError(f"the model gives not one number for each example; {_found(outputs)}")
    return values.astype(np.float64).ravel().tolist()


def _only(arrays: Sequence[Array]) -> Array | None:
    return arrays[0] if len(arrays) == 1 else None


def _rows(array: Array) -> int:
    return array.shape[0] if array.ndim else -1


def _table(array: Array) -> Array | None:
    """Return it with a row for each example; None if it cannot be read so."""
    if array.ndim == 1:
        return array.reshape(-1, 1)
    return array if array.ndim == 2 else None


def _found(outputs: Mapping[str, Array]) -> str:
    shapes = (f"{name} {array.dtype}{list(array.shape)}" for name, array in outputs.items())
    return f"its outputs are: {', '.join(shapes) or 'none'}"


def _paired(classes: Array | None, scores: Array | None) -> list[Any]:
    if classes is None:
        assert scores is not None
        return [[["", score] for score in row] for row in scores.astype(np.float64).tolist()]
    labels = [[_label(item) for item in row] for row in classes.tolist()]
    if scores is None:
        return [[[label, 0.0] for label in row] for row in labels]
    rows = zip(labels, scores.astype(np.float64).tolist(), strict=True)
    return [[[*pair] for pair in zip(*row, strict=True)] for row in rows]


def _label(item: Any) -> str:
    return as_text(item, _CLASSES) if isinstance(item, str | bytes) else str(item)


def _request(asked: Mapping[str, Any], signature: Signature, names: Sequence[str]) -> InferRequest:
    """Return the request for the signature that is named; its outputs are those of ``names`` that it has, or all."""
    signature, outputs, chosen = choose(asked, signature)
    declared = {spec.name for spec in signature.outputs}
    wanted = outputs or tuple(name for name in names if name in declared)
    return InferRequest(_inputs(asked, signature), wanted, parameters=chosen)


def _examples(asked: Mapping[str, Any]) -> list[dict[str, list[Any]]]:
    """Return the examples, each with the features of the context that it has not itself.

    Raises:
        InvalidInputError: there are none, or something else than examples.
    """
    examples = asked.get("examples", msgspec.UNSET)
    if examples is msgspec.UNSET:
        raise InvalidInputError("key 'examples' is expected and was not found")
    if not isinstance(examples, list):
        raise InvalidInputError("Expecting 'examples' value to be an list/array")
    if not examples:
        raise InvalidInputError("'examples' value is an empty array")
    context = _features(asked.get("context", {}), "context")
    return [{**context, **_features(it, f"examples[{index}]")} for index, it in enumerate(examples)]


def _features(example: Any, where: str) -> dict[str, list[Any]]:
    if not isinstance(example, dict):
        raise InvalidInputError(f"{where}: Example must be JSON object but got JSON {type(example).__name__}")
    features = {name: value if type(value) is list else [value] for name, value in example.items()}
    for name, values in features.items():
        if any(item is None or (type(item) in {list, dict} and not is_base64(item)) for item in values):
            raise InvalidInputError(f"{where}: Feature: {name} has element with unexpected JSON type")
    return features


def _inputs(asked: Mapping[str, Any], signature: Signature) -> dict[str, Array]:
    examples = _examples(asked)
    inputs = signature.inputs
    if signature.platform.startswith("tensorflow") and len(inputs) == 1 and inputs[0].datatype == "BYTES":
        messages = np.empty(len(examples), dtype=object)
        messages[:] = [serialized(it, f"examples[{index}]") for index, it in enumerate(examples)]
        return {inputs[0].name: messages}
    specs = {spec.name: spec for spec in inputs}
    arrays = read_rows(examples, signature, where="examples")
    return {name: _shaped(array, specs.get(name)) for name, array in arrays.items()}


def _shaped(array: Array, spec: TensorSpec | None) -> Array:
    """One value of each example is a row of one, or bare where the model declares it so."""
    if spec is not None and len(spec.shape) == 1 and array.ndim == 2 and array.shape[1] == 1:
        return array.reshape(-1)
    return array
