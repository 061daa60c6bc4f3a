"""The messages between the gateway and a child."""

from __future__ import annotations

from hotset.payload import Signature, TensorSpec
from hotset.workers import framing, wire
from hotset.workers.base import LoadReply, LoadSpec
from hotset.workers.failure import Failure


def test_every_control_message_survives() -> None:
    signature = Signature("sklearn", (TensorSpec("x", "FP64", (-1, 3)),), (TensorSpec("y", None, (-1,)),))
    orders: list[wire.ControlOrder] = [
        wire.Configure("a:b", None, {"a": [1, {"b": None}]}, 2, 3, 64, 1 << 20, 200, 1 << 26, "info", "json"),
        wire.Load(1, LoadSpec(5, "paris", 7, "/x", None)),
        wire.Unload(2, 5),
        wire.Ping(3),
        wire.Close(1.5),
    ]
    replies: list[wire.ControlReply] = [
        wire.Ready(),
        wire.Refused(Failure("ConfigError", "invalid_config", "no", None)),
        wire.Loaded(1, 5, LoadReply("sklearn", 4096, signature, frozenset({"payload", "headers"}))),
        wire.Unloaded(2),
        wire.Pong(3),
        wire.Failed(4, Failure("StoreError", "store_unavailable", "no", 1.0)),
    ]
    order_stream = b"".join(map(framing.frame_head, orders))
    reply_stream = b"".join(map(framing.frame_head, replies))
    got_orders = framing.FrameReader(wire.decode_control_order).feed(order_stream)
    got_replies = framing.FrameReader(wire.decode_control_reply).feed(reply_stream)
    assert [message for message, _ in got_orders] == orders
    assert [message for message, _ in got_replies] == replies
