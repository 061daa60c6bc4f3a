"""``oip-grpc-stream``: as ``oip-grpc``, and an answer in parts is one ``ModelInferResponse`` for each of them.

The messages of ``ModelStreamInfer``, of models that are decoupled in Triton's words. Imported on the first request.
"""

from __future__ import annotations

from typing import Any, Final

from hotset.codecs.base import PartWriter
from hotset.codecs.oip_grpc import CONTENT_TYPE, OipGrpcCodec, written
from hotset.codecs.results import as_response
from hotset.messages.joined import packed
from hotset.payload import Encoded, InferRequest
from hotset.runtimes.base import CallMeta


class Responses:
    """Writes each part as a message of its own, with its length in front: what a worker sends is cut where it is long."""

    content_type: Final = CONTENT_TYPE

    def __init__(self, asked: InferRequest, meta: CallMeta) -> None:
        self._asked: Final = asked
        self._meta: Final = meta

    def write(self, part: Any) -> bytes:
        response = as_response(part, self._asked)
        return packed(written(response, self._asked, self._meta).body)


class OipGrpcStreamCodec(OipGrpcCodec):
    """Stateless and thread-safe."""

    name = "oip-grpc-stream"

    def part_writer(
        self, first: Any, content_type: str | None, meta: CallMeta, asked: InferRequest | None
    ) -> PartWriter:
        """Tensors have no type of their own, so that of the stream is not told."""
        del first, content_type
        return Responses(asked or InferRequest({}), meta)

    def empty(self, content_type: str | None, meta: CallMeta) -> Encoded:
        """No whole answer has no bytes: each names its model."""
        del content_type, meta
        return Encoded(b"", CONTENT_TYPE)
