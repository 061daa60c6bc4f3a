"""The Open Inference Protocol v2, ``oip``: the bodies of KServe's and Triton's ``infer`` over REST.

JSON, and the binary tensor data extension both ways: ``oip_request`` reads, ``oip_answer`` writes.
"""

from __future__ import annotations

from typing import Any

from hotset.codecs.oip_answer import write_answer
from hotset.codecs.oip_request import read_request
from hotset.codecs.results import as_response
from hotset.payload import Encoded, InferRequest, InferResponse, Signature
from hotset.runtimes.base import CallMeta


class OipCodec:
    """Stateless and thread-safe."""

    name = "oip"

    def decode_tensors(self, body: bytes | memoryview, meta: CallMeta, signature: Signature) -> InferRequest:
        return read_request(body, meta.headers, signature)

    def encode_tensors(self, response: InferResponse, request: InferRequest, meta: CallMeta) -> Encoded:
        return write_answer(response, request, meta)

    def decode_payload(self, body: bytes | memoryview, meta: CallMeta) -> tuple[Any, InferRequest | None]:
        request = read_request(body, meta.headers, None)
        return dict(request.inputs), request

    def encode_result(self, result: Any, request: InferRequest | None, meta: CallMeta) -> Encoded:
        request = request or InferRequest({})
        return write_answer(as_response(result, request), request, meta)
