"""Keras 3: ``*.keras``, compiled into one TensorFlow function, with the names, types and shapes of the model's inputs.

Loaded in Keras's safe mode, which refuses what would run code from the file (``Lambda`` layers), and without what belongs
to training. With the backend that Keras has by default, TensorFlow; ``KERAS_BACKEND`` must not name another.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Final

from hotset.errors import LoadFailedError
from hotset.payload import Signature, TensorSpec
from hotset.runtimes import tensorflow_runtime
from hotset.runtimes.graphs import GraphServable, shape_of
from hotset.runtimes.modelfile import candidates, choose
from hotset.runtimes.options import NO_OPTIONS, NoneOfItsOwn, RuntimeOptions
from hotset.runtimes.reason import load_failure, not_installed

SUFFIXES: Final = (".keras",)

_loading: Final = Lock()
"""Keras numbers what it makes in state that all threads share, so one model is made at a time."""


class KerasRuntime:
    """The adapter. Thread-safe; imports the framework in ``load``."""

    name = "keras"
    extra = "tensorflow"
    patterns = tuple(f"*{suffix}" for suffix in SUFFIXES)
    size_factor = 2.0
    devices = ("cpu",)
    keeps_memory_on = ("cuda",)

    def detect(self, files: Sequence[str]) -> bool:
        return bool(candidates(files, SUFFIXES))

    def needs_pickle(self, path: Path, files: Sequence[str]) -> bool:
        del path, files
        return False

    def load(self, path: Path, files: Sequence[str], options: RuntimeOptions = NO_OPTIONS) -> GraphServable:
        options.read(NoneOfItsOwn)
        file = choose(files, SUFFIXES)
        try:
            keras = framework()
        except ImportError as error:
            raise not_installed("Keras with TensorFlow", self.extra) from error
        with _loading:
            try:
                model = keras.models.load_model(str(path / file), compile=False, safe_mode=True)
            except Exception as error:
                raise load_failure(f"cannot load {file}:", error) from error
            signature = _declared(keras, model, file)
            try:
                return _servable(keras, model, signature)
            except Exception as error:
                raise load_failure(f"cannot compile {file}:", error) from error


def framework() -> Any:
    """Import Keras on TensorFlow and return it.

    Raises:
        ImportError: one of them is not installed.
        LoadFailedError: Keras is set to another backend.
    """
    tensorflow_runtime.framework()
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    keras = importlib.import_module("keras")
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise LoadFailedError(
            f"expected Keras on TensorFlow; set KERAS_BACKEND to tensorflow, found: {backend}"
        )
    return keras


def _servable(keras: Any, model: Any, signature: Signature) -> GraphServable:
    """Trace the model once, for all sizes that it declares: later calls run the graph and no Python of Keras."""
    tensorflow = tensorflow_runtime.framework()
    structure = _structure(model)
    names = [spec.name for spec in signature.outputs]

    def ask(*flat: Any) -> list[Any]:
        packed = keras.tree.pack_sequence_as(structure, flat)
        return list(keras.tree.flatten(model(packed, training=False)))

    specs = [tensorflow.TensorSpec(tensor.shape, tensor.dtype) for tensor in model.inputs]
    function = tensorflow.function(ask, autograph=False).get_concrete_function(*specs)
    return tensorflow_runtime.servable(
        tensorflow,
        signature,
        lambda tensors: dict(zip(names, function(*tensors.values()), strict=True)),
        model=model,
    )


def _declared(keras: Any, model: Any, file: str) -> Signature:
    """Return the signature of a model that knows its inputs: not of one that was never built."""
    try:
        inputs, outputs = model.inputs, model.outputs
    except (AttributeError, ValueError) as error:
        raise _not_built(file) from error
    if not inputs or not outputs:
        raise _not_built(file)
    names = _output_names(keras, model)
    return Signature(
        KerasRuntime.name,
        tuple(_spec(tensor.name, tensor) for tensor in inputs),
        tuple(_spec(name, tensor) for name, tensor in zip(names, outputs, strict=True)),
    )


def _not_built(file: str) -> LoadFailedError:
    return LoadFailedError(
        f"{file} does not say what its inputs are; begin the model with keras.Input, "
        "or write it as a SavedModel with model.export(…)"
    )


def _spec(name: str, tensor: Any) -> TensorSpec:
    return TensorSpec(name, tensorflow_runtime.datatype(name, tensor.dtype), shape_of(tensor.shape))


def _structure(model: Any) -> Any:
    """Return the inputs, nested as the model takes them; a ``Sequential`` has one, and no such attribute once loaded."""
    structure = getattr(model, "input", None)
    return model.inputs[0] if structure is None else structure


def _output_names(keras: Any, model: Any) -> list[str]:
    """Return the keys of a dictionary of outputs, or the names of the layers that they come from."""
    paths = keras.tree.flatten_with_path(getattr(model, "output", None))
    keys = ["_".join(map(str, path)) for path, _ in paths if path and isinstance(path[0], str)]
    if len(keys) == len(model.outputs):
        return keys
    names = getattr(model, "output_names", None) or [model.layers[-1].name]
    if len(set(names)) == len(model.outputs):
        return list(names)
    return [f"output_{index}" for index in range(len(model.outputs))]
