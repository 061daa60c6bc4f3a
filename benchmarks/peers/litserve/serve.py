"""LitServe over many scikit-learn models, all loaded by ``setup`` in each worker. ``MODELS`` in the environment.

Started as ``python serve.py PORT WORKERS SERVERS BATCH FAST_QUEUE``. No annotations are postponed here: LitServe reads
those of ``decode_request``.
"""

import os
import sys
from pathlib import Path
from typing import Any

import joblib
import litserve
import numpy as np


class Models(litserve.LitAPI):
    """One worker's models. Owned by its process; LitServe calls ``setup`` first."""

    def setup(self, device: str) -> None:
        del device
        files = sorted(Path(os.environ["MODELS"]).glob("*/model.joblib"))
        self._models = {file.parent.name: joblib.load(file) for file in files}

    def decode_request(self, request: dict) -> tuple[str, Any]:
        return request["model"], np.array(request["instances"], dtype=np.float64)

    def predict(self, x: tuple[str, Any]) -> Any:
        name, rows = x
        return self._models[name].predict(rows)

    def encode_response(self, output: Any) -> dict:
        return {"predictions": output.tolist()}


class BatchedModels(Models):
    """Calls that LitServe collected are predicted model by model."""

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def unbatch(self, output: list[Any]) -> list[Any]:
        return output

    def predict(self, x: list[tuple[str, Any]]) -> list[Any]:
        by_model: dict[str, list[int]] = {}
        for number, (name, _) in enumerate(x):
            by_model.setdefault(name, []).append(number)
        answers: list[Any] = [None] * len(x)
        for name, numbers in by_model.items():
            rows = [x[number][1] for number in numbers]
            found = self._models[name].predict(np.concatenate(rows))
            ends = np.cumsum([len(it) for it in rows])[:-1]
            for number, part in zip(numbers, np.split(found, ends), strict=True):
                answers[number] = part
        return answers


if __name__ == "__main__":
    port, workers, servers, batch, fast = map(int, sys.argv[1:])
    api = (
        BatchedModels(max_batch_size=batch, batch_timeout=float(os.environ.get("BT", "0")))
        if batch > 1
        else Models()
    )
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=workers, fast_queue=bool(fast))
    server.run(
        host="127.0.0.1",
        port=port,
        num_api_servers=servers,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
