"""A tensor of every datatype, with the values that are hard to carry."""

from __future__ import annotations

import numpy as np

LIMITS = {
    f"{sign}INT{bits}": np.array([[np.iinfo(kind).min, 0, np.iinfo(kind).max]], dtype=kind)
    for sign, family in (("", "int"), ("U", "uint"))
    for bits in (8, 16, 32, 64)
    for kind in (f"{family}{bits}",)
}

TENSORS = {
    "BOOL": np.array([[True, False, True]]),
    **LIMITS,
    "FP16": np.array([[1.5, -0.0, np.inf]], dtype=np.float16),
    "FP32": np.array([[1.5, -np.inf, np.nan]], dtype=np.float32),
    "FP64": np.array([[1e300, -0.0, np.nan]]),
    "BYTES": np.array([[b"", b"\x00\xff", "Zürich".encode()]], dtype=np.object_),
}


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two tensors are the same bit by bit."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return one.tolist() == other.tolist() if one.dtype == object else one.tobytes() == other.tobytes()
