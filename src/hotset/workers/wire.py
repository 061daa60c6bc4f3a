"""What the gateway and a child say to each other: the messages of both channels, each the header of a frame (``framing.py``).

There are two stream sockets for each child, so that loads and pings never wait behind predictions: the *data* channel
carries ``Predict`` and its answers, and ``Swap``, which has to come before them; the *control* channel everything else.
Both ends are of one version of hotset, so nothing is negotiated. No pickle: a child that went wrong can fail its calls,
and not run code in the gateway.

A large payload is not in its frame: the message says at which ``place`` of shared memory it is, and its reader says
``Freed``, with the number of the call, once it needs it no more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import msgspec

from hotset.devices import Bound
from hotset.logs import LogFormat
from hotset.shared.arena import Place
from hotset.workers.base import LoadReply, LoadSpec
from hotset.workers.executions import Told
from hotset.workers.failure import Failure


class Predict(msgspec.Struct, array_like=True, frozen=True, gc=False, tag="predict"):
    """Data, to the child: one call; the payload is its body, or its body is at ``place``."""

    number: int
    handle: int
    codec: str
    content_type: str
    query_string: str
    headers: tuple[tuple[str, str], ...]
    deadline_s: float
    place: Place | None = None


class Swap(msgspec.Struct, array_like=True, frozen=True, tag="swap"):
    """Data, to the child: unload those that ``spec`` comes after and load it, before what comes behind this."""

    number: int
    spec: LoadSpec


class Swapped(msgspec.Struct, array_like=True, frozen=True, gc=False, tag="swapped"):
    """Data, to the gateway: what was done of a ``Swap``."""

    number: int
    is_loaded: bool
    are_gone: bool
    is_light: bool


class Answer(msgspec.Struct, array_like=True, frozen=True, gc=False, tag="answer"):
    """Data, to the gateway: the payload is the answer's body, or the body is at ``place``."""

    number: int
    content_type: str
    headers: tuple[tuple[str, str], ...]
    place: Place | None = None


class Begun(msgspec.Struct, array_like=True, frozen=True, gc=False, tag="begun"):
    """Data, to the gateway: the payload is the first part of the answer; any ``Part``, and ``End`` or ``Failed``, follow."""

    number: int
    content_type: str
    headers: tuple[tuple[str, str], ...]


class Part(msgspec.Struct, array_like=True, frozen=True, gc=False, tag="part"):
    """Data, to the gateway: the payload is the next part of an answer that has begun."""

    number: int


class End(msgspec.Struct, array_like=True, frozen=True, gc=False, tag="end"):
    """Data, to the gateway: that was all of an answer in parts."""

    number: int


class Freed(msgspec.Struct, array_like=True, frozen=True, gc=False, tag="freed"):
    """Data, both ways: what was at the place that came with this number is not used any more."""

    number: int


class Failed(msgspec.Struct, array_like=True, frozen=True, gc=False, tag="failed"):
    """Either channel, to the gateway: the call, load or unload of this number failed."""

    number: int
    failure: Failure


class Share(msgspec.Struct, array_like=True, frozen=True, tag="share"):
    """Control, to the child, before all else, with one file or three: its board, to write (``board.py``); the arena of
    bodies, to read, and that of its answers, to write. Where it does not come, nothing is shared.
    """

    bodies_bytes: int
    answers_bytes: int
    board_threads: int
    """Of so many predict threads its board tells."""


class Configure(msgspec.Struct, array_like=True, frozen=True, tag="configure"):
    """Control, to the child: all that it has to know. ``kit`` is ``module:function`` (see ``kit.py``)."""

    kit: str
    predictor: str | None
    config: dict[str, Any]
    threads: int
    parallel_loads: int
    max_batch: int
    max_body_bytes: int
    max_json_depth: int
    max_elements: int
    log_level: str
    log_format: LogFormat
    device: Bound | None = None


class Ready(msgspec.Struct, array_like=True, frozen=True, tag="ready"):
    """Control, to the gateway: configured; loads may come."""


class Refused(msgspec.Struct, array_like=True, frozen=True, tag="refused"):
    """Control, to the gateway: the configuration does not fit; the child ends."""

    failure: Failure


class Load(msgspec.Struct, array_like=True, frozen=True, tag="load"):
    number: int
    spec: LoadSpec


class Loaded(msgspec.Struct, array_like=True, frozen=True, tag="loaded"):
    number: int
    handle: int
    reply: LoadReply


class Unload(msgspec.Struct, array_like=True, frozen=True, tag="unload"):
    number: int
    handle: int


class Unloaded(msgspec.Struct, array_like=True, frozen=True, tag="unloaded"):
    number: int


class Count(msgspec.Struct, array_like=True, frozen=True, tag="count"):
    """Control, to the child: how often were the versions of this model executed, or with no name those of all?"""

    number: int
    name: str


class Counted(msgspec.Struct, array_like=True, frozen=True, tag="counted"):
    number: int
    rows: tuple[Told, ...]


class Ping(msgspec.Struct, array_like=True, frozen=True, tag="ping"):
    number: int


class Pong(msgspec.Struct, array_like=True, frozen=True, tag="pong"):
    number: int


class ImportAhead(msgspec.Struct, array_like=True, frozen=True, tag="import"):
    """Control, to the child: import these modules in the background, before a load needs them."""

    modules: tuple[str, ...]


class Trim(msgspec.Struct, array_like=True, frozen=True, tag="trim"):
    """Control, to the child: memory is short; give back what is free."""


class Taken(msgspec.Struct, array_like=True, frozen=True, gc=False, tag="taken"):
    """Control, to the child: so many parts more of this answer were taken. On this channel because it is always read."""

    number: int
    count: int


class Stop(msgspec.Struct, array_like=True, frozen=True, gc=False, tag="stop"):
    """Control, to the child: nobody wants any more of this answer, which has begun; nothing more of it need come."""

    number: int


class Want(msgspec.Struct, array_like=True, frozen=True, tag="want"):
    """Control, to the gateway: the handler that answers ``request`` asks for a model in the middle of it."""

    number: int
    request: int
    name: str
    version: str


class Given(msgspec.Struct, array_like=True, frozen=True, tag="given"):
    """Control, to the child: the model is under ``handle``, and stays there until that request is answered."""

    number: int
    handle: int


class Denied(msgspec.Struct, array_like=True, frozen=True, tag="denied"):
    """Control, to the child: there is no such model; or, with no failure, its request is to be begun again."""

    number: int
    failure: Failure | None = None


class Close(msgspec.Struct, array_like=True, frozen=True, tag="close"):
    """Control, to the child, last: unload what is idle within ``limit_s`` and end."""

    limit_s: float


DataOrder: TypeAlias = Predict | Freed | Swap
DataReply: TypeAlias = Answer | Failed | Freed | Begun | Part | End | Swapped
ControlOrder: TypeAlias = (
    Share
    | Configure
    | Load
    | Unload
    | ImportAhead
    | Count
    | Ping
    | Trim
    | Taken
    | Stop
    | Given
    | Denied
    | Close
)
ControlReply: TypeAlias = Ready | Refused | Loaded | Unloaded | Counted | Pong | Failed | Want

decode_data_order: Final[Callable[[bytes], DataOrder]] = msgspec.msgpack.Decoder(DataOrder).decode
decode_data_reply: Final[Callable[[bytes], DataReply]] = msgspec.msgpack.Decoder(DataReply).decode
decode_control_order: Final[Callable[[bytes], ControlOrder]] = msgspec.msgpack.Decoder(ControlOrder).decode
decode_control_reply: Final[Callable[[bytes], ControlReply]] = msgspec.msgpack.Decoder(ControlReply).decode
