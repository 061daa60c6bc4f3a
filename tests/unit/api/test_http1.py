"""Answers as the bytes of HTTP/1.1: what is kept ready says the same as what is made anew."""

from __future__ import annotations

import pytest

from hotset.api.http1 import Heads, Wire, whole, with_json_length
from hotset.api.oip_routes import DOOR
from hotset.api.ports import Answer
from hotset.api.predictions import Target
from hotset.keys import ModelKey, ModelRef
from hotset.payload import Encoded
from unit.api.scripted import Bench

KEY = ModelKey("Zürich", 3)
LENGTH = "Inference-Header-Content-Length"


def parts(wire: Wire) -> tuple[bytes, set[bytes], bytes]:
    """Return status line, headers and body of an answer."""
    text = wire if isinstance(wire, bytes) else b"".join(wire)
    head, _, body = text.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    assert len(lines) == len(set(lines))
    return first, set(lines), body


@pytest.mark.parametrize("size", [0, 9, 1 << 15])
def test_an_answer_with_binary_tensors(size: int) -> None:
    bench = Bench()
    encoded = Encoded(b"x" * size, "application/octet-stream", ((LENGTH, "7"),))
    target = Target(DOOR, ModelRef("Zürich"), "")
    answers = [
        bench.app.predictions.rendered(target, Answer(encoded, KEY, tier, 0.0, 0.0), keep_alive=keep_alive)
        for tier, keep_alive in (("memory", True), ("memory", False), ("disk", True))
    ]
    ready, closing, cold = map(parts, answers)
    assert b"inference-header-content-length: 7" in ready[1]
    assert b"content-length: %d" % size in ready[1]
    assert closing == (ready[0], ready[1] | {b"connection: close"}, ready[2])
    assert {line for line in cold[1] if not line.startswith(b"server-timing")} == ready[1]


@pytest.mark.parametrize(
    ("name", "value"), [("x-other", "7"), (LENGTH, ""), (LENGTH, "7\r\nx: y"), (LENGTH, "٣"), (LENGTH, "-1")]
)
def test_any_other_header_takes_the_longer_way(name: str, value: str) -> None:
    head = Heads().of(KEY, "application/json")
    assert head is not None
    assert with_json_length(head, name, value) is None


def test_a_head_that_is_kept_is_that_of_an_answer_made_anew() -> None:
    heads = Heads()
    for _ in range(2):
        head = heads.of(KEY, "text/x")
        assert head is not None
        kept = parts(whole(head, b"abc"))
    assert kept[1] == {
        b"content-type: text/x",
        b"content-length: 3",
        b"x-model-name: Z%C3%BCrich",
        b"x-model-version: 3",
    }
    assert kept[0] == b"HTTP/1.1 200 OK"
