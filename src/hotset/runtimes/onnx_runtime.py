"""ONNX Runtime, on the CPU unless told otherwise: ``*.onnx``, with the names, types and shapes that the model declares.

Inputs are checked here against the declaration, so that a client reads which one is wrong, and never cast: an FP64
tensor for an FP32 input is refused. Only tensor outputs are offered; maps and sequences (what skl2onnx's ZipMap
gives) are left out and logged. Sessions run on the caller's thread alone, because many models share one process.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np

from hotset.errors import InvalidInputError, LoadFailedError, PredictFailedError
from hotset.payload import DTYPES, Array, InferRequest, InferResponse, Signature, TensorSpec
from hotset.runtimes.exhaustion import is_out_of_memory
from hotset.runtimes.modelfile import candidates, choose
from hotset.runtimes.options import NO_OPTIONS, RuntimeOptions
from hotset.runtimes.reason import load_failure, not_installed, reason_of

SUFFIXES: Final = (".onnx",)
_FATAL_ONLY: Final = 4
_CPU: Final = "CPUExecutionProvider"
_CUDA: Final = "CUDAExecutionProvider"
_MODES: Final = {"sequential": "ORT_SEQUENTIAL", "parallel": "ORT_PARALLEL"}
_LEVELS: Final = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}

_log = logging.getLogger(__name__)

_DATATYPES: Final[Mapping[str, str]] = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}


class OnnxOptions(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The options of this runtime, named as ONNX Runtime's own. One thread: children are how hotset uses several cores.

    An arena keeps what its model once needed; with thousands of models that memory should go back.
    """

    intra_op_num_threads: Annotated[int, msgspec.Meta(ge=0)] = 1
    inter_op_num_threads: Annotated[int, msgspec.Meta(ge=0)] = 1
    execution_mode: Literal["sequential", "parallel"] = "sequential"
    graph_optimization_level: Literal["none", "basic", "extended", "all"] = "all"
    enable_cpu_mem_arena: bool = False
    session_config: dict[str, str] = {}


class OnnxRuntime:
    """The adapter. Stateless and thread-safe; imports the framework in ``load``."""

    name = "onnxruntime"
    extra = "onnx"
    patterns = tuple(f"*{suffix}" for suffix in SUFFIXES)
    size_factor = 2.0
    devices = ("cpu", "cuda")

    def detect(self, files: Sequence[str]) -> bool:
        return bool(candidates(files, SUFFIXES))

    def needs_pickle(self, path: Path, files: Sequence[str]) -> bool:
        del path, files
        return False

    def load(self, path: Path, files: Sequence[str], options: RuntimeOptions = NO_OPTIONS) -> OnnxServable:
        wanted = options.read(OnnxOptions)
        file = choose(files, SUFFIXES)
        try:
            onnxruntime = framework()
        except ImportError as error:
            raise not_installed("ONNX Runtime", self.extra) from error
        providers = _providers(onnxruntime, options)
        try:
            session = onnxruntime.InferenceSession(
                str(path / file), _session_options(onnxruntime, wanted), providers=providers
            )
        except Exception as error:
            raise load_failure(f"cannot load {file}:", error) from error
        if options.device.kind == "cuda" and _CUDA not in session.get_providers():
            raise options.no_device("ONNX Runtime could not use it and would have fallen back to the CPU")
        refusal = onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument
        return OnnxServable(session, _declared(session, file), refusal)


def framework() -> Any:
    """Import ONNX Runtime and return it, with its telemetry off: it would keep a database in the user's cache.

    Raises:
        ImportError: it is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read by the import itself
    onnxruntime = importlib.import_module("onnxruntime")
    onnxruntime.disable_telemetry_events()
    return onnxruntime


def _providers(onnxruntime: Any, options: RuntimeOptions) -> list[Any]:
    if options.device.kind == "cpu":
        return [_CPU]
    if _CUDA not in onnxruntime.get_available_providers():
        raise options.no_device(
            "this ONNX Runtime is built without CUDA (the package onnxruntime-gpu has it)"
        )
    # By itself its arena doubles with each extension, and what a model once took so is its own until it is unloaded.
    arena = {"device_id": str(options.device.index or 0), "arena_extend_strategy": "kSameAsRequested"}
    return [(_CUDA, arena), _CPU]


def _session_options(onnxruntime: Any, wanted: OnnxOptions) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = wanted.intra_op_num_threads
    options.inter_op_num_threads = wanted.inter_op_num_threads
    options.execution_mode = getattr(onnxruntime.ExecutionMode, _MODES[wanted.execution_mode])
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = getattr(levels, _LEVELS[wanted.graph_optimization_level])
    options.enable_cpu_mem_arena = wanted.enable_cpu_mem_arena
    for name, value in wanted.session_config.items():
        options.add_session_config_entry(name, value)
    # What it would print is raised too, and reaches the client and our own log.
    options.log_severity_level = _FATAL_ONLY
    return options


def _declared(session: Any, file: str) -> Signature:
    inputs, refused = _specs(session.get_inputs())
    if refused:
        raise LoadFailedError(f"{file} has inputs of types that hotset cannot give: {', '.join(refused)}")
    outputs, left_out = _specs(session.get_outputs())
    if not outputs:
        raise LoadFailedError(f"{file} has no tensor output, only: {', '.join(left_out) or 'none'}")
    if left_out:
        _log.warning("%s: outputs that are not tensors are left out: %s", file, ", ".join(left_out))
    return Signature("onnxruntime", inputs, outputs)


def _specs(declared: Sequence[Any]) -> tuple[tuple[TensorSpec, ...], list[str]]:
    """Return the tensors among what a session declares, and ``name (type)`` of the others."""
    specs = tuple(
        TensorSpec(item.name, _DATATYPES[item.type], tuple(_dimension(size) for size in item.shape or ()))
        for item in declared
        if item.type in _DATATYPES
    )
    return specs, [f"{item.name} ({item.type})" for item in declared if item.type not in _DATATYPES]


def _dimension(size: object) -> int:
    """Sizes that are names or unknown are any size: -1."""
    return size if isinstance(size, int) and size >= 0 else -1


class OnnxServable:
    """One session. Thread-safe: a session runs from several threads at once.

    Legal order: any calls of ``infer``, then ``close`` once.
    """

    def __init__(self, session: Any, signature: Signature, refusal: type[Exception]) -> None:
        self._session = session
        self._signature = signature
        self._refusal = refusal
        self._outputs = tuple(spec.name for spec in signature.outputs)

    @property
    def signature(self) -> Signature:
        return self._signature

    def infer(self, request: InferRequest) -> InferResponse:
        feeds = {spec.name: _checked(spec, request.inputs) for spec in self._signature.inputs}
        if len(feeds) != len(request.inputs):
            unknown = [name for name in request.inputs if name not in feeds]
            raise InvalidInputError(
                f"unknown input: {', '.join(unknown)}; this model has: {', '.join(feeds) or 'none'}"
            )
        names = self._wanted(request.outputs)
        try:
            values = self._session.run(names, feeds)
        except self._refusal as error:
            raise InvalidInputError(f"the model refused the inputs: {reason_of(error)}") from error
        except Exception as error:
            if is_out_of_memory(error):
                raise MemoryError(reason_of(error)) from error
            raise PredictFailedError(reason_of(error)) from error
        return InferResponse(dict(zip(names, values, strict=True)))

    def close(self) -> None:
        self._session = None

    def _wanted(self, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in self._outputs:
                raise InvalidInputError(f"no output {name!r}; this model has: {', '.join(self._outputs)}")
        return names or self._outputs


def _checked(spec: TensorSpec, inputs: Mapping[str, Array]) -> Array:
    array = inputs.get(spec.name)
    if array is None:
        raise InvalidInputError(f"input {spec.name!r} is missing; found: {', '.join(inputs) or 'no inputs'}")
    datatype = _datatype(array)
    if datatype != spec.datatype:
        raise InvalidInputError(f"input {spec.name!r}: expected {spec.datatype}, found: {datatype}")
    # ONNX Runtime says [] for a scalar and for an unknown rank alike, so there is nothing to check there.
    if spec.shape and not _fits(array.shape, spec.shape):
        raise InvalidInputError(
            f"input {spec.name!r}: expected the shape {list(spec.shape)}, found: {list(array.shape)}"
        )
    return _text(array) if datatype == "BYTES" else array


_NAMES: Final[Mapping[np.dtype[Any], str]] = {dtype: name for name, dtype in DTYPES.items()}


def _datatype(array: Array) -> str:
    if array.dtype.kind in "SU":
        return "BYTES"
    return _NAMES.get(array.dtype) or str(array.dtype)


def _fits(shape: tuple[int, ...], declared: tuple[int, ...]) -> bool:
    if len(shape) != len(declared):
        return False
    return all(size in (-1, found) for size, found in zip(declared, shape, strict=True))


def _text(array: Array) -> Array:
    """ONNX Runtime takes strings as an array of ``str`` objects."""
    flat = [item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item) for item in array.flat]
    text = np.empty(len(flat), dtype=object)
    text[:] = flat
    return text.reshape(array.shape)
