"""The gateway's end of a channel: whose calls leave first while the child does not read."""

from __future__ import annotations

import socket

from hotset.workers import framing, wire
from hotset.workers.channel import Channel


class Transport:
    """Takes one frame and then has enough, until it is read from."""

    def __init__(self, channel: Channel[wire.DataReply]) -> None:
        self.sent: list[bytes] = []
        self._channel = channel

    def writelines(self, pieces: list[framing.Piece]) -> None:
        self.sent.append(b"".join(bytes(piece) for piece in pieces))
        self._channel.pause_writing()

    def abort(self) -> None:
        self._channel.connection_lost(None)


def call(number: int, handle: int) -> wire.Predict:
    return wire.Predict(number, handle, "native", "", "", (), 0.0, None)


async def test_while_the_child_does_not_read_models_take_turns() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel: Channel[wire.DataReply] = Channel(
            ours, decode=wire.decode_data_reply, on_message=lambda _message, _body: None
        )
        transport = Transport(channel)
        channel.connection_made(transport)  # type: ignore[arg-type]
        channel.pause_writing()
        for number in range(5):
            channel.send(call(number, 7), b"flooded %d" % number)
        channel.send(call(5, 8), b"quiet")
        channel.send(wire.Freed(3))
        assert transport.sent == []
        for _ in range(7):
            channel.resume_writing()
        order = [frame.split(b"native")[-1][-9:] for frame in transport.sent]
        assert [b"quiet" in frame for frame in transport.sent] == [
            False,
            True,
            False,
            False,
            False,
            False,
            False,
        ]
        assert [frame for frame in order if frame.startswith(b"flooded")] == [
            b"flooded %d" % number for number in range(5)
        ]
        channel.resume_writing()
        assert len(transport.sent) == 7, "nothing is sent twice"
        channel.pause_writing()
        channel.send(call(9, 7), b"late")
        channel.close()
        channel.resume_writing()
        assert len(transport.sent) == 7
