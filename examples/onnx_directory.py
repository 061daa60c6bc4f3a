"""A directory of ONNX models, one for each city, that hotset serves as it is: no code of yours, no configuration.

python examples/onnx_directory.py ./onnx-models
hotset serve ./onnx-models

curl -s http://127.0.0.1:8500/v2/models/rome/infer -d '{"inputs": [
    {"name": "X", "shape": [1, 2], "datatype": "FP32", "data": [4.2, 15]}]}'
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from skl2onnx import to_onnx
from sklearn.linear_model import LinearRegression

RATES = {"rome": (1.6, 0.3), "oslo": (2.4, 0.5), "lima": (0.8, 0.1)}


def train(per_km: float, per_minute: float) -> bytes:
    """Return a model of (km, minutes) → fare, as ONNX."""
    rides = np.random.default_rng(1).uniform(1, 30, size=(50, 2)).astype(np.float32)
    model = LinearRegression().fit(rides, 2.5 + rides @ np.array([per_km, per_minute], dtype=np.float32))
    return to_onnx(model, rides[:1], target_opset=17).SerializeToString()


def main(directory: Path) -> None:
    for city, rates in RATES.items():
        version = directory / city / "1"
        version.mkdir(parents=True, exist_ok=True)
        (version / "model.onnx").write_bytes(train(*rates))
        (version / "_SUCCESS").touch()  # last: the version is whole, and need not settle first
    print(f"{len(RATES)} models in {directory}; now: hotset serve {directory}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
