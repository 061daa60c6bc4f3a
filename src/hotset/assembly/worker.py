"""One worker of a replica, a thread or a process: what it is made with, and the kit that it loads models with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hotset.config import Settings
from hotset.devices import Assignment
from hotset.shared.room import Room
from hotset.workers.base import DeathHandler, WantHandler, Worker
from hotset.workers.forking import ForkServer
from hotset.workers.handler_kit import CODELESS_HANDLER_KIT, HANDLER_KIT, threaded_handler_kit
from hotset.workers.kit import CODELESS_KIT, STANDARD_KIT, Kit
from hotset.workers.process import ProcessWorker
from hotset.workers.process_options import ProcessOptions
from hotset.workers.standard import codeless_kit, standard_kit
from hotset.workers.thread import ThreadWorker


class WorkerMaker:
    """Implements ``MakeWorker``. Owned by the event loop; called for each worker, and again for each that died."""

    def __init__(
        self,
        settings: Settings,
        *,
        room: Room | None,
        devices: Assignment | None,
        children: ForkServer | None,
        on_want: WantHandler,
    ) -> None:
        """``room`` is where large bodies are shared; ``children`` where processes come from; None: there is none."""
        self._settings = settings
        self._room = room
        self._devices = devices
        self._children = children
        self._on_want = on_want

    def __call__(self, number: int, on_death: DeathHandler) -> Worker:
        if self._settings.processes_per_replica == 0:
            return self._thread(number, on_death)
        return ProcessWorker(
            number,
            options=self._process_options(number),
            on_death=on_death,
            bodies=None if self._room is None else self._room.arena,
        )

    def _thread(self, number: int, on_death: DeathHandler) -> ThreadWorker:
        settings = self._settings
        return ThreadWorker(
            number,
            kit=_kit(settings),
            on_death=on_death,
            threads=settings.threads_per_process,
            parallel_loads=settings.parallel_loads,
            max_batch=settings.max_batch_size,
            max_body_bytes=settings.max_body_size,
            stuck_after_s=settings.request_timeout,
            on_want=self._on_want,
        )

    def _process_options(self, number: int) -> ProcessOptions:
        settings = self._settings
        return ProcessOptions(
            max_json_depth=settings.max_json_depth,
            max_elements=settings.max_tensor_elements,
            threads=settings.threads_per_process,
            parallel_loads=settings.parallel_loads,
            max_batch=settings.max_batch_size,
            max_body_bytes=settings.max_body_size,
            predictor=settings.predictor,
            predictor_config=settings.predictor_config,
            kit=_kit_name(settings),
            log_level=settings.log_level,
            log_format=settings.log_format,
            start_timeout_s=settings.start_timeout,
            ping_timeout_s=settings.ping_timeout,
            stuck_after_s=settings.request_timeout,
            children=self._children,
            on_want=self._on_want,
            device=None if self._devices is None else self._devices.bound(number),
        )


def _kit_name(settings: Settings) -> str:
    if settings.cortex is not None:
        return HANDLER_KIT if settings.allow_pickle else CODELESS_HANDLER_KIT
    return STANDARD_KIT if settings.allow_pickle else CODELESS_KIT


def _kit(settings: Settings) -> Callable[[], Kit]:
    if settings.cortex is not None:
        return partial(
            threaded_handler_kit,
            settings.predictor,
            settings.predictor_config,
            runs_code=settings.allow_pickle,
        )
    kit = standard_kit if settings.allow_pickle else codeless_kit
    return partial(kit, settings.predictor, settings.predictor_config)
