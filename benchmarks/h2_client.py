"""A gRPC client of a few bytes: one request at a time on one HTTP/2 connection, its headers encoded once.

grpcio's own client costs more than the servers that are compared, so that one would measure the client. This one writes and
reads frames on a socket, as the HTTP/1.1 client beside it does with lines. It knows what those servers send and no more.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, GO_AWAY, WINDOW = 0, 1, 3, 4, 6, 7, 8
ACK, END_STREAM, END_HEADERS = 1, 1, 4
HEAD: Final = 9


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return one frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header_block(path: str, authority: str) -> bytes:
    """Return the headers of a call, each as a literal or by its place in HPACK's static table."""
    return b"".join(
        (
            b"\x83\x86",  # :method: POST, :scheme: http
            b"\x04" + _text(path),
            b"\x01" + _text(authority),
            b"\x0f\x10" + _text("application/grpc"),  # content-type
            b"\x00" + _text("te") + _text("trailers"),
        )
    )


def _text(text: str) -> bytes:
    return bytes((len(text),)) + text.encode("ascii")


class Call:
    """A connection that makes the same call again and again. ``send``, then ``receive`` until it says True; or ``ask``."""

    def __init__(self, port: int, path: str, message: bytes) -> None:
        self.socket: Final = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._block: Final = header_block(path, f"127.0.0.1:{port}")
        self._data: Final = b"\x00" + struct.pack(">I", len(message)) + message
        self._stream = 1
        self._received = bytearray()
        most_window = frame(WINDOW, 0, 0, struct.pack(">I", 2**31 - 1 - 65535))
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0) + most_window)

    def close(self) -> None:
        self.socket.close()

    def ask(self) -> None:
        self.send()
        while not self.receive():
            pass

    def send(self) -> None:
        stream = self._stream
        self.socket.sendall(
            frame(HEADERS, END_HEADERS, stream, self._block) + frame(DATA, END_STREAM, stream, self._data)
        )

    def receive(self) -> bool:
        """Read once; whether the call was answered, and well."""
        part = self.socket.recv(65536)
        if not part:
            raise ConnectionError("the server closed the connection")
        received = self._received
        received += part
        answered = False
        while len(received) >= HEAD:
            length = int.from_bytes(received[:3], "big")
            if len(received) < HEAD + length:
                break
            kind, flags, stream = struct.unpack(">BBI", received[3:HEAD])
            payload = bytes(received[HEAD : HEAD + length])
            del received[: HEAD + length]
            answered |= self._handle(kind, flags, stream, payload)
        return answered

    def _handle(self, kind: int, flags: int, stream: int, payload: bytes) -> bool:
        if kind in {SETTINGS, PING} and not flags & ACK:
            self.socket.sendall(frame(kind, ACK, 0, payload if kind == PING else b""))
        elif kind in {RESET, GO_AWAY}:
            raise ConnectionError(f"the server ended the call: {payload!r}")
        elif kind == HEADERS and flags & END_STREAM and stream == self._stream:
            self._stream += 2
            return True
        return False
