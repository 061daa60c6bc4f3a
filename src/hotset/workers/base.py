"""The seam between the gateway and the places where models live.

A worker holds models under integer handles that the gateway gives out and never reuses. ``load``, ``predict`` and
``unload`` may overlap for different handles; for one handle the gateway keeps the order load, predictions, unload,
so a worker needs no locks for it. The gateway's side of a worker is owned by the event loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from hotset.errors import HotsetError, UnsupportedError
from hotset.keys import DiskFile
from hotset.payload import Encoded, Signature
from hotset.shared.arena import Payload
from hotset.workers.executions import Told

HANDLER: Final = 0
"""The handle of the code that answers requests by itself, where a worker has such: it is never loaded or unloaded."""

Word: TypeAlias = int | HotsetError | None
"""The answer to a handler that wants a model: its handle, why there is none, or that the request is begun again."""


@dataclass(frozen=True, slots=True)
class Want:
    """A handler asks for a model in the middle of a request."""

    request: int
    name: str
    version: str


WantHandler: TypeAlias = Callable[[Want, Callable[[Word], None]], None]
"""Called on the event loop when a handler wants a model, with where to send the one word on it, once."""


def no_models(want: Want, give: Callable[[Word], None]) -> None:
    """Refuse: this server has no handler that may ask."""
    give(UnsupportedError(f"no model can be asked for in the middle of a request here; found: {want.name!r}"))


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """What to load: the directory ``path`` holds the version's files, complete. ``runtime`` None means: detect.

    ``weight`` is what the same files weighed when they were loaded before, or None; a small model that is known is
    not measured again. ``files`` are those that were published: the worker checks that they are
    there as they were; None means whatever is there. ``after`` are handles of models that are being unloaded, as was asked
    for before: it has their room, so it is loaded only once they are gone. While a prediction still uses one of them, which may
    take any time, the load is refused with ``OverloadedError``.
    """

    handle: int
    name: str
    version: int
    path: str
    runtime: str | None = None
    weight: int | None = None
    files: tuple[DiskFile, ...] | None = None
    after: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class LoadReply:
    """What was loaded. ``bytes`` is the measured weight; ``wants`` the arguments of the user's ``predict``.

    ``device_bytes`` is what it takes of the worker's device. With ``is_estimate`` the load could not be measured, and the next one should be. One that ``is_light`` disturbed nobody,
    and will not the next time (``light.py``).
    """

    runtime: str
    bytes: int
    signature: Signature
    wants: frozenset[str] = frozenset()
    is_estimate: bool = False
    is_light: bool = False
    device_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Swapped:
    """How an order to load one model in the places of others ended: each part of it is done, or is not.

    ``is_light`` as in ``LoadReply``.
    """

    is_loaded: bool
    are_gone: bool
    is_light: bool = False


@dataclass(slots=True)
class PredictCall:
    """One request on its way to a model. ``deadline_s`` is on the monotonic clock, which children share.

    A large ``body`` is a segment of shared memory in the gateway, and a read-only view of it where the model is.
    """

    handle: int
    codec: str
    body: Payload
    content_type: str = ""
    query_string: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    deadline_s: float = float("inf")


class Worker(Protocol):
    """Legal order: ``start``, then any calls, then ``close``. After ``on_death`` only ``close`` is legal."""

    @property
    def id(self) -> int: ...

    @property
    def pid(self) -> int | None:
        """The child's process id, or None for a worker inside the gateway."""
        ...

    @property
    def queued(self) -> int:
        """Predictions sent and not answered."""
        ...

    @property
    def calls(self) -> int:
        """Predictions so far."""
        ...

    @property
    def suspects(self) -> frozenset[int]:
        """The handles of what it was loading or predicting when it died; empty while it lives, and where that is not known."""
        ...

    @property
    def stuck(self) -> int:
        """Predict threads that have been at one thing for so long that they count as never coming back."""
        ...

    async def start(self) -> None:
        """Return when the worker can load models.

        Raises:
            ConfigError: the predictor file does not fit.
            WorkerDiedError: the child ended, or was not ready in time.
        """
        ...

    async def load(self, spec: LoadSpec) -> LoadReply:
        """Load a model.

        Raises:
            LoadFailedError, WorkerDiedError
            OverloadedError: one of those that it comes ``after`` is still in use.
        """
        ...

    def unload(self, handle: int) -> Awaitable[None]:
        """Begin at once; the awaitable ends when the model's memory was given back. Unknown handles are fine.

        Raises (from the awaitable):
            WorkerDiedError
        """
        ...

    def trim(self) -> None:
        """Memory is short: give back soon what is free, in the place of keeping it for the next load."""
        ...

    def swap(self, spec: LoadSpec) -> Awaitable[Swapped]:
        """Unload those that ``spec`` comes after and load it, both at once and before any call that is sent from now on.

        Only of what is light, and of what is idle: else it is not done, and not waited for.

        Raises (from the awaitable):
            WorkerDiedError
        """
        ...

    def import_ahead(self, modules: Sequence[str]) -> None:
        """Import these modules in the background, before a load needs them; whatever fails is that load's to tell."""
        ...

    def executions(self, name: str) -> Awaitable[Sequence[Told]]:
        """Ask how often the versions of this model were executed here, or with no name those of all.

        Raises (at once, or from the awaitable):
            WorkerDiedError
        """
        ...

    def predict(self, call: PredictCall) -> Awaitable[Encoded]:
        """Send at once; the awaitable gives the answer.

        Raises (from the awaitable):
            InvalidInputError, PredictFailedError, UnavailableError (past its deadline), WorkerDiedError
        """
        ...

    def give_up(self, reason: str, *, suspects: Collection[int] = ()) -> None:
        """It does not do what it should any more: end it, as far as that is possible; ``on_death`` hears of it.

        ``suspects`` are the handles of what is to blame, where that is known better than from what it does now.
        """
        ...

    def kill(self) -> None:
        """End at once, as far as that is possible, whatever it is at: also while it closes."""
        ...

    async def close(self) -> None:
        """Stop. Calls in flight fail with ``WorkerDiedError``. Safe to call twice."""
        ...


DeathHandler = Callable[[str], None]
"""Called once on the event loop, with the reason, when a worker ends that was not closed."""

MakeWorker = Callable[[int, DeathHandler], Worker]
"""Makes a worker with this id, which is not started yet."""
