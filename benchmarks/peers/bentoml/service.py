"""BentoML over many scikit-learn models, all loaded by the service's constructor. ``MODELS`` and ``WORKERS`` in the environment."""

from __future__ import annotations

import os
from pathlib import Path

import bentoml
import joblib
import numpy as np

Rows = list[list[float]]


@bentoml.service(
    workers=int(os.environ["WORKERS"]),
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class Models:
    """One worker's models."""

    def __init__(self) -> None:
        files = sorted(Path(os.environ["MODELS"]).glob("*/model.joblib"))
        self._models = {file.parent.name: joblib.load(file) for file in files}

    @bentoml.api
    def predict(self, model: str, instances: Rows) -> list[float]:
        """In a thread of the worker."""
        found: list[float] = self._models[model].predict(np.array(instances)).tolist()
        return found

    @bentoml.api
    async def predict_async(self, model: str, instances: Rows) -> list[float]:
        """On the worker's event loop."""
        return self.predict_one(model, instances)

    def predict_one(self, model: str, instances: Rows) -> list[float]:
        """Predict with one model."""
        found: list[float] = self._models[model].predict(np.array(instances)).tolist()
        return found

    @bentoml.api(batchable=True, batch_dim=0, max_batch_size=64, max_latency_ms=1000)
    def predict_batch(self, instances: Rows) -> list[float]:
        """The first model's; BentoML joins the rows of many calls, whatever else they say."""
        return self.predict_one(next(iter(self._models)), instances)
