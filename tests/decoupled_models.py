"""Models that answer in parts, each with a predictor of its own: what tests of ``ModelStreamInfer`` serve."""

from __future__ import annotations

from pathlib import Path

PREDICTORS = {
    "repeat": '''
"""As many parts as are asked for, each a number; the one of ``fails`` is a failure."""
import numpy as np


class Predictor:
    def load_model(self, disk_path):
        return {}

    def predict(self, payload):
        fails = payload["fails"][0] if "fails" in payload else -1
        for number in range(int(payload["count"][0])):
            if number == fails:
                raise ValueError(f"no part {number}")
            yield {"number": np.array([number], dtype=np.int32), "text": [f"part {number}"]}
''',
    "later": '''
"""The same, made by an asynchronous generator."""
import asyncio
from collections.abc import AsyncIterator


class Predictor:
    def load_model(self, disk_path):
        return {}

    async def predict(self, payload):
        return self._parts(int(payload["count"][0]))

    async def _parts(self, count) -> AsyncIterator:
        for number in range(count):
            await asyncio.sleep(0)
            yield {"number": [number]}
''',
    "endless": '''
"""Large parts without end. In the directory that it is told there is a byte for each that it made, and that it was closed."""
import pathlib

import numpy as np

PART = np.zeros(1 << 18, dtype=np.float32)


class Predictor:
    def load_model(self, disk_path):
        return {}

    def predict(self, payload):
        directory = pathlib.Path(payload["directory"][0].decode())
        name = payload["name"][0].decode()
        try:
            with (directory / f"{name}.made").open("ab", buffering=0) as made:
                while True:
                    made.write(b".")
                    yield {"part": PART}
        finally:
            (directory / f"{name}.closed").touch()
''',
    "whole": """
class Predictor:
    def load_model(self, disk_path):
        return {}

    def predict(self, payload):
        return payload
""",
}


def write_models(root: Path) -> None:
    for name, predictor in PREDICTORS.items():
        (root / name / "1").mkdir(parents=True)
        (root / name / "1" / "predictor.py").write_text(predictor)
