"""How a child is made and watched. The composition root says it; ``process.py`` goes by it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hotset.body_limits import LIMITS
from hotset.codecs.compression import MOST_BYTES
from hotset.devices import Bound
from hotset.logs import LogFormat
from hotset.workers import wire
from hotset.workers.base import WantHandler, no_models
from hotset.workers.kit import STANDARD_KIT
from hotset.workers.spawn import CHILD_COMMAND, ChildSource


@dataclass(frozen=True, slots=True)
class ProcessOptions:
    """How a child is made and watched. ``kit`` names what it loads with (see ``kit.py``).

    ``ping_timeout_s`` is long because native code may keep the interpreter to itself while it loads; what does nothing has
    less of it (see ``heartbeat.py``). ``children`` None means: fresh interpreters, from ``command`` and ``environment``, which
    None means: the gateway's own. A predict thread that is at the same for ``stuck_after_s`` counts as one that never comes back.
    """

    threads: int = 1
    parallel_loads: int = 2
    max_batch: int = 64
    max_body_bytes: int = MOST_BYTES
    max_json_depth: int = LIMITS.json_depth
    max_elements: int = LIMITS.elements
    predictor: str | None = None
    predictor_config: Mapping[str, Any] = field(default_factory=dict)
    kit: str = STANDARD_KIT
    log_level: str = "info"
    log_format: LogFormat = "console"
    start_timeout_s: float = 60.0
    close_timeout_s: float = 5.0
    ping_interval_s: float = 1.0
    ping_timeout_s: float = 30.0
    stuck_after_s: float = math.inf
    max_queued: int = 10_000
    command: tuple[str, ...] = CHILD_COMMAND
    environment: Mapping[str, str] | None = None
    children: ChildSource | None = None
    on_want: WantHandler = no_models
    device: Bound | None = None

    def order(self) -> wire.Configure:
        """Return what of it the child has to know."""
        return wire.Configure(
            kit=self.kit,
            predictor=self.predictor,
            config=dict(self.predictor_config),
            threads=self.threads,
            parallel_loads=self.parallel_loads,
            max_batch=self.max_batch,
            max_body_bytes=self.max_body_bytes,
            max_json_depth=self.max_json_depth,
            max_elements=self.max_elements,
            log_level=self.log_level,
            log_format=self.log_format,
            device=self.device,
        )
