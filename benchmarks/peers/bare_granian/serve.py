"""A bare RSGI app over many scikit-learn models, behind granian: no management at all.

Started by granian as ``serve:app``, with ``MODELS`` and ``ROOM`` in the environment. Models are kept by
``functools.lru_cache``; whatever is asked for is loaded where it is missing, on the event loop.
``POST /models/NAME/load`` loads and predicts nothing.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

import joblib
import msgspec
import numpy as np

MODELS = os.environ["MODELS"]
HEADERS = [("content-type", "application/json")]

decode = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode


@lru_cache(maxsize=int(os.environ["ROOM"]))
def load(name: str) -> Any:
    """Return a model, from memory or from its file."""
    return joblib.load(f"{MODELS}/{name}/model.joblib")


async def app(scope: Any, protocol: Any) -> None:
    """Answer one request."""
    body = await protocol()
    _, _, name, verb = scope.path.split("/")
    model = load(name)
    if verb == "load":
        protocol.response_bytes(200, HEADERS, b"{}")
        return
    rows = np.array(decode(body)["instances"], dtype=np.float64)
    protocol.response_bytes(200, HEADERS, encode({"predictions": model.predict(rows).tolist()}))
