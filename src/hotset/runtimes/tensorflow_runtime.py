"""TensorFlow SavedModel on the CPU: ``saved_model.pb`` and what lies beside it, asked through one of its signatures.

Names, types and shapes are those of the signature: ``serving_default``, unless ``model.yaml`` names another
(``options: {signature: …}``), or a request does. A SavedModel is a program: loading one is as safe as running it, though it unpickles nothing.
TensorFlow's threads are the process's, one for the work within an operation and one for that beside it, as many models
share a process.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

import msgspec
import numpy as np

from hotset.errors import LoadFailedError
from hotset.payload import Array, Signature, TensorSpec
from hotset.runtimes.graphs import GraphServable, shape_of
from hotset.runtimes.modelfile import listing
from hotset.runtimes.options import NO_OPTIONS, RuntimeOptions
from hotset.runtimes.reason import load_failure, not_installed

FILES: Final = ("saved_model.pb", "saved_model.pbtxt")
DEFAULT_SIGNATURE: Final = "serving_default"

DATATYPES: Final[Mapping[str, str]] = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "string": "BYTES",
}
"""TensorFlow's names of the types that hotset can give and take."""


class SavedModelOptions(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The options of this runtime. Without a signature it is ``serving_default``, or the only one that there is."""

    signature: str | None = None


class TensorFlowRuntime:
    """The adapter. Stateless and thread-safe; imports the framework in ``load``."""

    name = "tensorflow"
    extra = "tensorflow"
    patterns = FILES
    size_factor = 2.0
    devices = ("cpu",)
    keeps_memory_on = ("cuda",)

    def detect(self, files: Sequence[str]) -> bool:
        return bool(directories(files))

    def needs_pickle(self, path: Path, files: Sequence[str]) -> bool:
        del path, files
        return False

    def load(self, path: Path, files: Sequence[str], options: RuntimeOptions = NO_OPTIONS) -> GraphServable:
        wanted = options.read(SavedModelOptions).signature
        directory = _only_directory(files)
        try:
            tensorflow = framework()
        except ImportError as error:
            raise not_installed("TensorFlow", self.extra) from error
        try:
            root = tensorflow.saved_model.load(str(path / directory))
        except Exception as error:
            raise load_failure("cannot load the SavedModel:", error) from error
        name = _chosen(root, wanted)
        others: list[GraphServable] = []
        for other in root.signatures:
            with contextlib.suppress(LoadFailedError):  # of a type that cannot be carried: nobody asks for it
                if other != name:
                    others.append(self._servable(tensorflow, root, other))
        return self._servable(tensorflow, root, name, others=others)

    def _servable(
        self, tensorflow: Any, root: Any, name: str, *, others: Sequence[GraphServable] = ()
    ) -> GraphServable:
        function = root.signatures[name]
        return servable(
            tensorflow,
            replace(_declared(function, self.name), name=name),
            lambda tensors: function(**tensors),
            model=root,
            unranked=[name for name, spec in _inputs(function).items() if spec.shape.rank is None],
            others=others,
        )


def framework() -> Any:
    """Import TensorFlow and return it, with one thread of each kind and no GPU.

    Raises:
        ImportError: it is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # what is wrong is raised too
    # oneDNN's allocator, TensorFlow's default, keeps for good what models once needed, and doubles it when it grows.
    os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "1")
    tensorflow = importlib.import_module("tensorflow")
    # Somebody's own code in this process may have used TensorFlow before: then it stays as they set it.
    with contextlib.suppress(RuntimeError):
        tensorflow.config.threading.set_intra_op_parallelism_threads(1)
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)
        tensorflow.config.set_visible_devices([], "GPU")
    return tensorflow


def servable(
    tensorflow: Any,
    signature: Signature,
    call: Any,
    *,
    model: object,
    unranked: Collection[str] = (),
    others: Sequence[GraphServable] = (),
) -> GraphServable:
    """Return what serves ``call``, a function from tensors by name to tensors by name. Used for Keras too."""
    types = {spec.name: _dtype(tensorflow, spec) for spec in signature.inputs}
    names = [spec.name for spec in signature.outputs]  # a SavedModel's own order is another in every process

    def answer(inputs: dict[str, Array]) -> dict[str, Array]:
        tensors = {name: tensorflow.constant(array, types[name]) for name, array in inputs.items()}
        found = call(tensors)
        return {name: np.asarray(found[name].numpy()) for name in names}

    errors = tensorflow.errors
    return GraphServable(
        signature,
        answer,
        model=model,
        unranked=unranked,
        refusals=(errors.InvalidArgumentError,),
        no_memory=(errors.ResourceExhaustedError,),
        others=others,
    )


def _dtype(tensorflow: Any, spec: TensorSpec) -> Any:
    names = {datatype: name for name, datatype in DATATYPES.items()}
    return tensorflow.as_dtype(names[spec.datatype]) if spec.datatype else None


def directories(files: Sequence[str]) -> list[str]:
    """Return the directories among ``files`` that hold a SavedModel; ``.`` is the version's own."""
    paths = (PurePosixPath(file) for file in files)
    return sorted({str(path.parent) for path in paths if path.name in FILES})


def _only_directory(files: Sequence[str]) -> str:
    found = directories(files)
    if len(found) == 1:
        return found[0]
    if found:
        raise LoadFailedError(f"several SavedModels; keep one of them: {listing(found)}")
    raise LoadFailedError(f"no SavedModel; expected {' or '.join(FILES)}, found: {listing(files)}")


def _chosen(root: Any, wanted: str | None) -> str:
    """Return the name of the signature that is asked where a request names none."""
    signatures = list(root.signatures)
    if wanted is None and DEFAULT_SIGNATURE not in signatures and len(signatures) == 1:
        return str(signatures[0])
    if (wanted or DEFAULT_SIGNATURE) not in signatures:
        raise LoadFailedError(
            f"the SavedModel has no signature {wanted or DEFAULT_SIGNATURE!r}; "
            f"save it with one (tf.saved_model.save(…, signatures=…)), or name one in model.yaml's options; "
            f"found: {', '.join(signatures) or 'none'}"
        )
    return wanted or DEFAULT_SIGNATURE


def _declared(function: Any, platform: str) -> Signature:
    return Signature(
        platform,
        tuple(_spec(name, spec) for name, spec in sorted(_inputs(function).items())),
        tuple(_spec(name, spec) for name, spec in sorted(function.structured_outputs.items())),
    )


def _inputs(function: Any) -> Mapping[str, Any]:
    """Return what a signature takes: all of it by name, and nothing by position."""
    by_name: Mapping[str, Any] = function.structured_input_signature[1]
    return by_name


def _spec(name: str, declared: Any) -> TensorSpec:
    return TensorSpec(name, datatype(name, declared.dtype.name), shape_of(_sizes(declared.shape)))


def _sizes(shape: Any) -> Sequence[int | None] | None:
    return None if shape.rank is None else shape.as_list()


def datatype(name: str, dtype: str) -> str:
    """Return the Open Inference type of an input or output.

    Raises:
        LoadFailedError: there is none, as for bfloat16, complex numbers and resources.
    """
    found = DATATYPES.get(dtype)
    if found is None:
        raise LoadFailedError(
            f"{name!r} is of a type that hotset cannot carry: {dtype}; cast it in the signature that is saved"
        )
    return found
