"""LiteRT, which was TensorFlow Lite: ``*.tflite``, through its signature, or its tensors where it was written without one.

The weights are mapped from the file, so that the page cache holds them once for all children. An interpreter answers one
request at a time and each model has one: a second would cost its memory again.
"""

from __future__ import annotations

import importlib
import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, Final

import msgspec
import numpy as np

from hotset.errors import LoadFailedError
from hotset.payload import DTYPES, Array, Signature, TensorSpec
from hotset.runtimes.graphs import GraphServable, shape_of
from hotset.runtimes.mapped import note_mapped
from hotset.runtimes.modelfile import candidates, choose
from hotset.runtimes.options import NO_OPTIONS, RuntimeOptions
from hotset.runtimes.reason import load_failure, not_installed

SUFFIXES: Final = (".tflite",)
DEFAULT_SIGNATURE: Final = "serving_default"


class LiteRtOptions(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The options of this runtime. One thread: children are how hotset uses several cores."""

    signature: str | None = None
    threads: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 1


class LiteRtRuntime:
    """The adapter. Stateless and thread-safe; imports the framework in ``load``."""

    name = "litert"
    extra = "litert"
    patterns = tuple(f"*{suffix}" for suffix in SUFFIXES)
    size_factor = 2.0
    devices = ("cpu",)

    def detect(self, files: Sequence[str]) -> bool:
        return bool(candidates(files, SUFFIXES))

    def needs_pickle(self, path: Path, files: Sequence[str]) -> bool:
        del path, files
        return False

    def load(self, path: Path, files: Sequence[str], options: RuntimeOptions = NO_OPTIONS) -> GraphServable:
        own = options.read(LiteRtOptions)
        file = choose(files, SUFFIXES)
        try:
            make = framework().Interpreter
        except ImportError as error:
            raise not_installed("LiteRT", self.extra) from error
        try:
            interpreter = make(model_path=str(path / file), num_threads=own.threads)
            interpreter.allocate_tensors()
        except Exception as error:
            raise load_failure(f"cannot load {file}:", error) from error
        graph = _Graph(interpreter, _chosen(interpreter, own.signature, file))
        signature = graph.declared(file)
        return GraphServable(
            signature,
            graph.answer,
            model=(interpreter, _counted(path / file)),
            unranked=[
                spec.name for spec in signature.inputs if not spec.shape
            ],  # or a scalar: it says the same of both
        )


def framework() -> Any:
    """Import LiteRT's interpreter and return its module.

    Raises:
        ImportError: it is not installed.
    """
    return importlib.import_module("ai_edge_litert.interpreter")


def _counted(path: Path) -> mmap.mmap:
    """Return a mapping that is never read, for as long as the interpreter has one of its own: so that it is counted."""
    with path.open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    note_mapped(mapping, len(mapping))
    return mapping


def _chosen(interpreter: Any, wanted: str | None, file: str) -> str | None:
    """Return the signature to ask, or None for a file that was written without any."""
    known = list(interpreter.get_signature_list())
    if wanted is None and len(known) <= 1:
        return known[0] if known else None
    name = wanted or DEFAULT_SIGNATURE
    if name not in known:
        raise LoadFailedError(
            f"{file} has no signature {name!r}; name one in model.yaml's options; "
            f"found: {', '.join(known) or 'none'}"
        )
    return name


class _Graph:
    """One way to ask an interpreter: a signature, or the tensors of a file without one. Thread-safe.

    Every call sets the sizes of the inputs, as the batch may be of another size than the last.
    """

    def __init__(self, interpreter: Any, signature: str | None) -> None:
        self._interpreter = interpreter
        self._one_at_a_time = Lock()
        self._runner = interpreter.get_signature_runner(signature) if signature is not None else None
        source = self._runner or interpreter
        self._inputs = _by_name(source.get_input_details())
        self._outputs = _by_name(source.get_output_details())
        self._sizes: tuple[tuple[int, ...], ...] | None = None

    def declared(self, file: str) -> Signature:
        """Return names, types and shapes.

        Raises:
            LoadFailedError: one is of a type that hotset cannot carry.
        """
        return Signature(
            LiteRtRuntime.name,
            tuple(_spec(name, detail, file) for name, detail in self._inputs.items()),
            tuple(_spec(name, detail, file) for name, detail in self._outputs.items()),
        )

    def answer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        with self._one_at_a_time:
            if self._runner is not None:
                found: dict[str, Array] = self._runner(**inputs)
                return found
            return self._from_tensors(inputs)

    def _from_tensors(self, inputs: dict[str, Array]) -> dict[str, Array]:
        interpreter = self._interpreter
        sizes = tuple(array.shape for array in inputs.values())
        if sizes != self._sizes:
            self._sizes = (
                None  # until all are set: one that is refused leaves the graph as no request wants it
            )
            for name, array in inputs.items():
                interpreter.resize_tensor_input(self._inputs[name]["index"], array.shape)
            interpreter.allocate_tensors()
            self._sizes = sizes
        for name, array in inputs.items():
            interpreter.set_tensor(self._inputs[name]["index"], array)
        interpreter.invoke()
        return {name: interpreter.get_tensor(detail["index"]) for name, detail in self._outputs.items()}


def _by_name(details: Any) -> Mapping[str, Any]:
    return details if isinstance(details, dict) else {detail["name"]: detail for detail in details}


_NAMES: Final = {dtype: name for name, dtype in DTYPES.items()} | {np.dtype(np.bytes_): "BYTES"}


def _spec(name: str, detail: Mapping[str, Any], file: str) -> TensorSpec:
    datatype = _NAMES.get(np.dtype(detail["dtype"]))
    if datatype is None:
        raise LoadFailedError(
            f"{file}: {name!r} is of a type that hotset cannot carry: {np.dtype(detail['dtype'])}"
        )
    return TensorSpec(name, datatype, shape_of([int(size) for size in detail["shape_signature"]]))
