"""Ray Serve with ``@serve.multiplexed``: many scikit-learn models in one replica. Imported by Ray's processes.

The folder of the models and how many fit come from ``MODELS`` and ``ROOM`` in the environment. A model is named by
the header ``serve_multiplexed_model_id``. A body without rows loads its model and predicts nothing.
"""

from __future__ import annotations

import os
from typing import Any

import joblib
import msgspec
import numpy as np
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

BATCHED = os.environ["BATCHED"] == "1"


@serve.deployment(
    num_replicas=int(os.environ["REPLICAS"]), max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0.5}
)
class Models:
    """One replica. Owned by its event loop. Ray pickles the class, so what cannot be pickled is made in ``__init__``."""

    def __init__(self) -> None:
        self._decode = msgspec.json.Decoder().decode
        self._encode = msgspec.json.Encoder().encode

    @serve.multiplexed(max_num_models_per_replica=int(os.environ["ROOM"]))
    async def model(self, name: str) -> Any:
        """Load a model; Ray calls it where the model is not in memory."""
        return joblib.load(f"{os.environ['MODELS']}/{name}/model.joblib")

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.0)
    async def predict_batch(self, calls: list[list[list[float]]]) -> list[list[float]]:
        """Predict the rows of all calls at hand; Ray never joins those of different models."""
        model = await self.model(serve.get_multiplexed_model_id())
        rows = [row for call in calls for row in call]
        if not rows:
            return [[] for _ in calls]
        found = model.predict(np.array(rows, dtype=np.float64))
        ends = np.cumsum([len(call) for call in calls])[:-1]
        return [part.tolist() for part in np.split(found, ends)]

    async def __call__(self, request: Request) -> Response:
        instances = self._decode(await request.body())["instances"]
        found = await (self.predict_batch(instances) if BATCHED else self._predict(instances))
        return Response(self._encode({"predictions": found}), media_type="application/json")

    async def _predict(self, instances: list[list[float]]) -> list[float]:
        model = await self.model(serve.get_multiplexed_model_id())
        return model.predict(np.array(instances, dtype=np.float64)).tolist() if instances else []
