"""What Triton's clients are given: inputs made of tensors; and how long their checks wait for what the server is to do."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from tritonclient.grpc import InferInput
from tritonclient.utils import np_to_triton_dtype

LIMIT_S = 30


def given(name: str, tensor: np.ndarray, datatype: str | None = None) -> InferInput:
    """``datatype`` None: the tensor's own."""
    found = InferInput(name, list(tensor.shape), datatype or np_to_triton_dtype(tensor.dtype))
    found.set_data_from_numpy(tensor)
    return found


def text(value: object) -> np.ndarray:
    return np.array([str(value)], dtype=np.object_)


def wait_for(path: Path) -> None:
    """Return once a model has made that file."""
    end_s = time.monotonic() + LIMIT_S
    while not path.exists():
        assert time.monotonic() < end_s, f"{path} did not come"
        time.sleep(0.005)
