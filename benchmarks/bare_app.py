"""The yardstick: a bare ASGI callable that holds one scikit-learn model, behind uvicorn with uvloop and httptools.

Started by ``subjects.py`` as ``python bare_app.py MODEL PORT``. It does what a hand-written one-model service does
for a request and nothing more: no routes, no errors, no limits, no metrics.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import joblib
import msgspec
import numpy as np
import uvicorn

Message = MutableMapping[str, Any]

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class BareApp:
    """An ASGI 3 callable. Owned by the event loop, which predicts too."""

    def __init__(self, model: Any) -> None:
        self._model = model

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        rows = np.array(_decode(body)["instances"], dtype=np.float64)
        answer = _encode({"predictions": self._model.predict(rows).tolist()})
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


def main(arguments: list[str]) -> None:
    """Serve ``MODEL`` on ``PORT`` until SIGTERM, with the options that hotset gives to uvicorn."""
    path, port = arguments
    uvicorn.run(
        BareApp(joblib.load(path)),
        port=int(port),
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


if __name__ == "__main__":
    main(sys.argv[1:])
