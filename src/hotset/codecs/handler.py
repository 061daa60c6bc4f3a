"""Bodies for handlers written for Cortex: by the content type as Cortex read them, and answers as it wrote them.

A form is a form here, also where it could be read as JSON, and text is a ``str``; whatever has no type is ``bytes``.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

from hotset.codecs.content import JSON, media_type, read_payload
from hotset.codecs.multipart import FORM_DATA
from hotset.codecs.native import NativeCodec
from hotset.errors import UnsupportedError
from hotset.payload import Encoded, InferRequest, InferResponse, Signature
from hotset.runtimes.base import CallMeta
from hotset.runtimes.lending import STATUS_HEADER

_FORM: Final = "application/x-www-form-urlencoded"
_READ: Final = frozenset({"text/plain", FORM_DATA, JSON})


class Form(dict[str, Any]):
    """The fields of a form, with the methods that handlers know from Starlette's; the last of several values counts."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self._pairs = pairs

    def multi_items(self) -> list[tuple[str, Any]]:
        return list(self._pairs)

    def getlist(self, name: str) -> list[Any]:
        return [value for key, value in self._pairs if key == name]


@dataclass(frozen=True, slots=True)
class HandlerPayload:
    """A body that was not read yet, and what came beside it; called, it gives the payload."""

    body: bytes | memoryview
    meta: CallMeta

    def __call__(self) -> Any:
        return read_handler_payload(self.body, self.meta.content_type)


class HandlerCodec(NativeCodec):
    """Stateless and thread-safe. For handlers alone: it reads no tensors."""

    name = "handler"

    def decode_tensors(self, body: bytes | memoryview, meta: CallMeta, signature: Signature) -> InferRequest:
        del body, meta, signature
        raise UnsupportedError("a handler takes no tensors")

    def encode_tensors(self, response: InferResponse, request: InferRequest, meta: CallMeta) -> Encoded:
        del response, request, meta
        raise UnsupportedError("a handler gives no tensors")

    def decode_payload(self, body: bytes | memoryview, meta: CallMeta) -> tuple[Any, InferRequest | None]:
        """Return how to read it: a handler's method may not take a payload, and then its body may be anything."""
        return HandlerPayload(body, meta), None

    def encode_result(self, result: Any, request: InferRequest | None, meta: CallMeta) -> Encoded:
        if hasattr(result, "status_code"):
            return _response(result)
        return super().encode_result(result, request, meta)


def read_handler_payload(body: bytes | memoryview, content_type: str) -> Any:
    """Return the payload in ``body``.

    Raises:
        InvalidInputError: the body is not what its type says.
    """
    kind = media_type(content_type)
    if kind == _FORM:
        return Form(parse_qsl(str(body, "utf-8", "replace"), keep_blank_values=True))
    if kind not in _READ:
        return bytes(body)
    payload = read_payload(body, content_type)
    return _form(payload) if kind == FORM_DATA else payload


def _form(fields: dict[str, Any]) -> Form:
    pairs: list[tuple[str, Any]] = []
    for name, value in fields.items():
        pairs += [(name, item) for item in (value if isinstance(value, list) else [value])]
    return Form(pairs)


def _response(result: Any) -> Encoded:
    """Return what a ``Response`` or an ``HTTPException`` of Starlette's says."""
    status = (STATUS_HEADER, str(int(result.status_code)))
    if hasattr(result, "detail"):
        return Encoded(str(result.detail).encode(), "text/plain; charset=utf-8", (status,))
    body = getattr(result, "body", None)
    if not isinstance(body, bytes | memoryview):
        raise UnsupportedError(
            f"a response that has no body yet: {type(result).__name__}; return its content"
        )
    headers: list[tuple[str, str]] = [status]
    content_type = "application/octet-stream"
    with suppress(AttributeError):
        for name, value in result.headers.items():
            if name.lower() == "content-type":
                content_type = value
            elif name.lower() != "content-length":
                headers.append((name, value))
    return Encoded(bytes(body), content_type, tuple(headers))
