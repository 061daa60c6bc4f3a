"""The seam between a protocol's body and a servable. A codec is stateless and thread-safe.

The gateway sends a codec's name with the raw bytes; the worker that holds the model decodes, predicts and encodes.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from hotset.payload import Encoded, InferRequest, InferResponse, Signature
from hotset.runtimes.base import CallMeta


class Codec(Protocol):
    """Every decode raises ``InvalidInputError`` naming the field, whatever the bytes are, and nothing else, but
    ``UnsupportedError`` where reading them needs a package that is not installed.

    A large body is a read-only view: what is decoded should refer to it, or copy what it needs, but not all of it. An
    answer's body may be a view too, of memory that the model may write to again after the answer was sent.
    """

    @property
    def name(self) -> str: ...

    def decode_tensors(self, body: bytes | memoryview, meta: CallMeta, signature: Signature) -> InferRequest:
        """Read the request of a ``TensorServable``."""
        ...

    def encode_tensors(self, response: InferResponse, request: InferRequest, meta: CallMeta) -> Encoded: ...

    def decode_payload(self, body: bytes | memoryview, meta: CallMeta) -> tuple[Any, InferRequest | None]:
        """Read the payload for a ``PayloadServable``, and the tensor request that it came from, if it was one."""
        ...

    def encode_result(self, result: Any, request: InferRequest | None, meta: CallMeta) -> Encoded:
        """Write what ``predict`` returned.

        Raises:
            PredictFailedError: the result is of a type that this protocol cannot carry.
        """
        ...


class PartWriter(Protocol):
    """Writes the parts of one answer. Owned by whoever sends it."""

    @property
    def content_type(self) -> str: ...

    def write(self, part: Any) -> bytes:
        """Return a part as bytes.

        Raises:
            PredictFailedError: the answer cannot carry it.
        """
        ...


@runtime_checkable
class StreamingCodec(Protocol):
    """A codec whose protocol has answers in parts."""

    def part_writer(
        self, first: Any, content_type: str | None, meta: CallMeta, asked: InferRequest | None
    ) -> PartWriter:
        """Return what writes a stream, by its first part, its type if ``predict`` told one, and what the client asked.

        ``asked`` is the tensor request that the payload came from, if it was one.
        """
        ...

    def empty(self, content_type: str | None, meta: CallMeta) -> Encoded:
        """Return the answer for a stream that has no parts."""
        ...
