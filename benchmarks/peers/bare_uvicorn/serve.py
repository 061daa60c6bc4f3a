"""A bare ASGI app over many scikit-learn models, behind uvicorn with uvloop and httptools: no management at all.

Started as ``python serve.py PORT WORKERS``, with ``MODELS`` and ``ROOM`` in the environment. Models are kept by
``functools.lru_cache``; whatever is asked for is loaded where it is missing, on the event loop.
``POST /models/NAME/load`` loads and predicts nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import joblib
import msgspec
import numpy as np
import uvicorn

Message = MutableMapping[str, Any]

decode = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode


class BareApp:
    """An ASGI 3 callable. Owned by the event loop, which loads and predicts too."""

    def __init__(self, models: str, room: int) -> None:
        self._load = lru_cache(maxsize=room)(lambda name: joblib.load(f"{models}/{name}/model.joblib"))

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        _, _, name, verb = scope["path"].split("/")
        answer = self._answer(name, verb, body)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    def _answer(self, name: str, verb: str, body: bytes) -> bytes:
        model = self._load(name)
        if verb == "load":
            return b"{}"
        rows = np.array(decode(body)["instances"], dtype=np.float64)
        return encode({"predictions": model.predict(rows).tolist()})


def app() -> BareApp:
    """Make the app that the environment asks for; each worker process makes its own."""
    return BareApp(os.environ["MODELS"], int(os.environ["ROOM"]))


if __name__ == "__main__":
    port, workers = map(int, sys.argv[1:])
    uvicorn.run(
        "serve:app",
        factory=True,
        app_dir=str(Path(__file__).parent),
        workers=workers,
        port=port,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        ws="none",
        proxy_headers=False,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=75,
        backlog=2048,
    )
