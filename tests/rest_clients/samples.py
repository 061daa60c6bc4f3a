"""A tensor of every datatype, with values that are hard to carry, and what both of Triton's clients make of an answer."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

TENSORS = {
    "BOOL": np.array([[True, False, True]]),
    **{
        f"{sign}INT{bits}": np.array(
            [[np.iinfo(f"{family}{bits}").min, 1, np.iinfo(f"{family}{bits}").max]], f"{family}{bits}"
        )
        for sign, family in (("", "int"), ("U", "uint"))
        for bits in (8, 16, 32, 64)
    },
    "FP16": np.array([[1.5, -0.0, np.inf]], np.float16),
    "FP32": np.array([[1.5, -np.inf, np.nan]], np.float32),
    "FP64": np.array([[1e300, -0.0, np.nan]]),
    "BYTES": np.array([["", "a\0b", "Zürich"]], np.object_),
}
FINITE = {
    name: np.array([[1.5, -2.0, 0.25]], array.dtype) if array.dtype.kind == "f" else array
    for name, array in TENSORS.items()
}
"""Without what JSON has no word for."""

LARGE = np.arange(400_000, dtype=np.float64).reshape(-1, 4)


def same(one: Any, other: np.ndarray) -> bool:
    """Whether two tensors are the same, bit by bit; text is text, whether it came as bytes or not."""
    if one is None or one.shape != other.shape:
        return False
    if other.dtype == object:
        return [_text(item) for item in one.ravel()] == [_text(item) for item in other.ravel()]
    return bool(one.dtype == other.dtype and one.tobytes() == other.tobytes())


def _text(item: Any) -> str:
    return item.decode() if isinstance(item, bytes) else str(item)


def run_all(names: Mapping[str, Any]) -> None:
    """Call every ``check_…`` of a script with the server's address; the first failure ends the process with 1."""
    for name, check in list(names.items()):
        if name.startswith("check_"):
            outcome = check(sys.argv[1])
            if inspect.isawaitable(outcome):
                asyncio.run(_awaited(outcome))
            print("passed", name, flush=True)


async def _awaited(outcome: Any) -> None:
    await outcome
