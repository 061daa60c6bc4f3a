"""What says that memory ran out, and what does not."""

from __future__ import annotations

import pytest

from hotset.errors import ErrorKind, PredictFailedError
from hotset.runtimes.exhaustion import is_out_of_memory, is_out_of_memory_in_code
from hotset.runtimes.reason import load_failure


def of(module: str, name: str, text: str = "", base: type[Exception] = RuntimeError) -> Exception:
    return type(name, (base,), {"__module__": module})(text)


ORT = (
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running ReduceSum node. "
    "onnxruntime::BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 939524096"
)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        of("torch", "OutOfMemoryError", "CUDA out of memory. Tried to allocate 138.00 MiB."),
        of("torch.cuda", "OutOfMemoryError"),
        of("cupy.cuda.memory", "OutOfMemoryError", base=MemoryError),
        of("tensorflow.python.framework.errors_impl", "ResourceExhaustedError", base=Exception),
        of("onnxruntime.capi.onnxruntime_pybind11_state", "RuntimeException", ORT),
        of(
            "xgboost.core",
            "XGBoostError",
            "Memory allocation error: std::bad_alloc: cudaErrorMemoryAllocation: out of memory",
        ),
        of(
            "jaxlib.xla_extension",
            "XlaRuntimeError",
            "RESOURCE_EXHAUSTED: Out of memory while trying to allocate",
        ),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_memory_that_ran_out_is_recognised(error: Exception):
    assert is_out_of_memory(error)
    assert is_out_of_memory_in_code(error)
    assert load_failure("cannot load:", error).kind is ErrorKind.OUT_OF_MEMORY


@pytest.mark.parametrize(
    "error",
    [
        ValueError("shapes do not fit"),
        RuntimeError("CUDA error: device-side assert triggered"),
        of("torch", "Other"),
    ],
)
def test_other_failures_are_not(error: Exception):
    assert not is_out_of_memory(error)
    assert not is_out_of_memory_in_code(error)
    assert load_failure("cannot load:", error).kind is not ErrorKind.OUT_OF_MEMORY


def test_the_users_own_words_are_not_believed():
    assert not is_out_of_memory_in_code(ValueError("the shop is out of memory cards"))
    assert not is_out_of_memory(PredictFailedError("out of memory"))


def test_pytorchs_own_type_is_recognised():
    torch = pytest.importorskip("torch")
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
