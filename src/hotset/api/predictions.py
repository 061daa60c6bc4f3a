"""The prediction routes as one bare ASGI callable: the path that every request of every client takes.

``app.py`` sends a request here by the first and last part of its path. A ``Door`` says what differs between
protocols. Nothing here depends on how many models or routes there are, and nothing parses a body.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

from hotset.api.address import model_ref
from hotset.api.body import BodyReader, ClientGoneError
from hotset.api.dataplane import Answer, DataPlane
from hotset.api.errors import HttpError, HttpKind, cut_off_reply, error_reply, resolved_headers
from hotset.api.headers import RequestHeaders, all_headers, read_headers
from hotset.api.reply import Receive, Reply, Scope, Send, send_reply
from hotset.errors import ErrorKind, HotsetError
from hotset.keys import ModelRef
from hotset.shared.arena import Payload

Explain: TypeAlias = Callable[[HotsetError, ModelRef], str | None]
"""Puts an error into the words that a protocol's clients match on; None leaves it in its own."""


def own_words(_error: HotsetError, _ref: ModelRef) -> str | None:
    """Leave every error in its own words."""
    return None


@dataclass(frozen=True, slots=True)
class Door:
    """One protocol's prediction route: ``<prefix><model>[/versions/<version>]<suffix>``, POST only."""

    protocol: str
    codec: str
    prefix: bytes
    suffix: bytes
    explain: Explain = own_words

    def opens(self, path: bytes) -> bool:
        return (
            path.startswith(self.prefix)
            and path.endswith(self.suffix)
            and len(path) >= len(self.prefix) + len(self.suffix)
        )


class Predictions:
    """Owned by the event loop. Any number of ``serve`` at once."""

    def __init__(self, dataplane: DataPlane, *, bodies: BodyReader) -> None:
        self._dataplane: Final = dataplane
        self._bodies: Final = bodies

    async def serve(self, door: Door, path: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens to it."""
        ref: ModelRef | None = None
        try:
            if scope["method"] != "POST":
                raise _wrong_method(scope, path)
            ref, headers, body = await self._request(door, path, scope, receive)
            answer = await self._dataplane.infer(
                ref,
                protocol=door.protocol,
                codec=door.codec,
                body=body,
                content_type=headers.content_type,
                query_string=scope["query_string"].decode("latin-1"),
                headers=partial(all_headers, scope["headers"]),
                codec_headers=headers.codec,
                timeout_s=headers.timeout_s,
            )
            reply = _good(answer)
        except ClientGoneError:
            return
        except asyncio.CancelledError:
            if not self._dataplane.draining:
                raise
            reply = cut_off_reply()
        except HotsetError as error:
            reply = error_reply(error, message=None if ref is None else door.explain(error, ref))
        except Exception as error:  # noqa: BLE001 - the last border: it is logged and answered
            reply = error_reply(error)
        await send_reply(reply, send)

    async def _request(
        self, door: Door, path: bytes, scope: Scope, receive: Receive
    ) -> tuple[ModelRef, RequestHeaders, Payload]:
        try:
            ref = model_ref(path, prefix=door.prefix, suffix=door.suffix)
            headers = read_headers(scope["headers"])
            self._dataplane.check_open()
            return ref, headers, await self._bodies.read_payload(receive, declared=headers.length)
        except HotsetError as error:
            self._refused(door, error.kind)
            raise
        except HttpError:
            self._refused(door, ErrorKind.INVALID_INPUT)
            raise

    def _refused(self, door: Door, kind: ErrorKind) -> None:
        """Count a request that never reached the data plane, which counts all others."""
        self._dataplane.observer(door.protocol).failed(kind, 0.0)


def _wrong_method(scope: Scope, path: bytes) -> HttpError:
    return HttpError(
        f"expected POST on {path[:200].decode('latin-1')}, found: {scope['method']}",
        kind=HttpKind.METHOD_NOT_ALLOWED,
        headers=[(b"allow", b"POST")],
    )


def _good(answer: Answer) -> Reply:
    encoded = answer.encoded
    headers = resolved_headers(*answer.key)
    if answer.tier != "memory":
        timing = f"fetch;dur={answer.fetch_s * 1e3:.1f}, load;dur={answer.load_s * 1e3:.1f}"
        headers.append((b"server-timing", timing.encode("ascii")))
    for name, value in encoded.headers:
        headers.append((name.lower().encode("ascii"), value.encode("latin-1")))
    return Reply(200, encoded.body, encoded.content_type.encode("latin-1"), headers)
