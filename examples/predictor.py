"""Your own code around each model. ``hotset serve --config examples/config.yaml`` uses it.

hotset copies a version's files from the bucket to disk and calls ``load_model`` with their directory; nothing here
knows of S3. Each version holds a tariff: ``{"base": 2.5, "per_km": 1.8, "per_minute": 0.3}`` in ``tariff.json``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Predictor:
    """Made once in each worker process; its methods are called from several threads if you set more than one."""

    def __init__(self, config: dict[str, Any]) -> None:
        """``config`` is the setting ``predictor_config``."""
        self.currency = config.get("currency", "EUR")

    def load_model(self, disk_path: str) -> dict[str, float]:
        """Return anything: it is what ``predict`` gets as ``model``. What it raises is answered as ``load_failed``."""
        return json.loads((Path(disk_path) / "tariff.json").read_text())

    def predict(self, model: dict[str, float], payload: dict[str, float], model_name: str) -> dict[str, Any]:
        """Answer ``{"km": 4.2, "minutes": 15}``."""
        fare = (
            model["base"] + model["per_km"] * payload["km"] + model["per_minute"] * payload.get("minutes", 0)
        )
        return {"city": model_name, "fare": round(fare, 2), "currency": self.currency}

    def unload_model(self, model: dict[str, float]) -> None:
        """Called once nobody uses the model any more; for what is not memory, such as a connection."""
        model.clear()
