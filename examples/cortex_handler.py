"""A handler as it was written for Cortex: it asks for the models itself, several of them in one request.

curl -X POST 'http://127.0.0.1:8500/?model=paris,rome' -H 'Content-Type: application/json' -d '{"km": 4.2, "minutes": 15}'
"""

import json
from pathlib import Path


class Handler:
    def __init__(self, config, model_client):
        self.client = model_client
        self.currency = config["currency"]

    def load_model(self, model_path):
        return json.loads((Path(model_path) / "tariff.json").read_text())

    def handle_post(self, payload, query_params):
        version = query_params.get("version", "latest")
        models = {name: self.client.get_model(name, version) for name in query_params["model"].split(",")}
        fares = {name: self._fare(model, payload) for name, model in models.items()}
        return {"fares": fares, "currency": self.currency}

    def _fare(self, model, payload):
        return round(
            model["base"] + model["per_km"] * payload["km"] + model["per_minute"] * payload["minutes"], 2
        )
