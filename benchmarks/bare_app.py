"""The yardstick: a bare ASGI callable behind uvicorn with uvloop and httptools. Started by ``subjects.py``:

    python bare_app.py PORT model FILE               one model, as in a hand-written one-model service
    python bare_app.py PORT cache FOLDER SIZE        functools.lru_cache(SIZE) around joblib.load; 0: unbounded
    python bare_app.py PORT predictor FILE WORKERS   a predictor's own predict, in so many processes
    python bare_app.py PORT raw FILE                 the same, with the body and the answer as bytes

It does for a request what such a service does and nothing more: no routes, no errors, no limits, no metrics. It
predicts and loads on its event loop, as services of this kind do.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import joblib
import msgspec
import numpy as np
import uvicorn

Message = MutableMapping[str, Any]

PREDICTOR: Final = "HOTSET_BENCH_PREDICTOR"

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class BareApp:
    """An ASGI 3 callable. Owned by the event loop, which predicts too."""

    def __init__(self, answer: Callable[[str, Any], Any]) -> None:
        """``answer`` gives the answer to a path and a body, decoded."""
        self._answer = answer

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
        answer = _encode(self._answer(scope["path"], _decode(body)))
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


class RawApp:
    """An ASGI 3 callable for bodies of bytes, however large: the parts are joined once."""

    def __init__(self, answer: Callable[[bytes], Any]) -> None:
        self._answer = answer

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http":
            return
        parts = []
        while True:
            message = await receive()
            parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                break
        answer = self._answer(b"".join(parts))
        body = answer.encode() if isinstance(answer, str) else answer
        headers = [
            (b"content-type", b"application/octet-stream"),
            (b"content-length", b"%d" % len(body)),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def one_model(file: str) -> BareApp:
    """Hold the model of a file."""
    model = joblib.load(file)
    return BareApp(lambda _path, body: _predicted(model, body))


def cache(folder: str, size: int) -> BareApp:
    """Load the models of a folder when they are asked for, and keep ``size`` of them."""
    load = lru_cache(maxsize=size or None)(joblib.load)
    return BareApp(lambda path, body: _predicted(load(f"{folder}/{path.split('/')[2]}/model.joblib"), body))


def predictor() -> BareApp:
    """Call the predictor that the environment names; each worker process makes its own."""
    file = os.environ[PREDICTOR]
    made = runpy.run_path(file)["Predictor"]()
    model = made.load_model(Path(file).parent)
    return BareApp(lambda _path, body: made.predict(model, body))


def raw(file: str) -> RawApp:
    """Call a predictor with what came."""
    made = runpy.run_path(file)["Predictor"]()
    model = made.load_model(Path(file).parent)
    return RawApp(lambda body: made.predict(model, body))


def _predicted(model: Any, body: Any) -> Any:
    rows = np.array(body["instances"], dtype=np.float64)
    return {"predictions": model.predict(rows).tolist()}


def main(arguments: list[str]) -> None:
    """Serve until SIGTERM, with the options that hotset gives to uvicorn."""
    port, kind, *rest = arguments
    app: BareApp | RawApp | str
    workers = None
    match kind, rest:
        case "model", [file]:
            app = one_model(file)
        case "cache", [folder, size]:
            app = cache(folder, int(size))
        case "raw", [file]:
            app = raw(file)
        case "predictor", [file, count]:
            os.environ[PREDICTOR] = file
            app, workers = "bare_app:predictor", int(count)
        case _:
            raise SystemExit(__doc__)
    uvicorn.run(
        app,
        factory=isinstance(app, str),
        workers=workers,
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
