"""Models that only their handler can use: loaded by the ``load_model`` of a handler written for Cortex."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from hotset.errors import HotsetError, UnsupportedError
from hotset.payload import Signature
from hotset.runtimes.base import CallMeta
from hotset.runtimes.options import NO_OPTIONS, RuntimeOptions
from hotset.runtimes.reason import load_failure

_SIGNATURE: Final = Signature(platform="python")

_log = logging.getLogger(__name__)


class HandlerRuntime:
    """Loads models with the handler's own ``load_model``. Thread-safe as far as that is."""

    name = "handler"
    extra = ""
    patterns: tuple[str, ...] = ()
    size_factor = 2.0
    devices = ("cpu",)

    def __init__(self, handler: Any) -> None:
        self._load: Callable[[str], Any] | None = getattr(handler, "load_model", None)

    def detect(self, files: Sequence[str]) -> bool:
        del files
        return True

    def needs_pickle(self, path: Path, files: Sequence[str]) -> bool:
        """No: this code came with the settings and not from the store."""
        del path, files
        return False

    def load(self, path: Path, files: Sequence[str], options: RuntimeOptions = NO_OPTIONS) -> HandlerModel:
        del files, options
        if self._load is None:
            raise UnsupportedError("the handler has no load_model(self, model_path), which loads its models")
        try:
            return HandlerModel(self._load(str(path)))
        except HotsetError:
            raise
        except BaseException as error:
            _log.exception("load_model failed for %s", path)
            raise load_failure("load_model raised", error) from error


class HandlerModel:
    """What the handler's ``load_model`` returned; the handler alone can do anything with it."""

    batches = False

    def __init__(self, model: Any) -> None:
        self.model = model

    @property
    def signature(self) -> Signature:
        return _SIGNATURE

    @property
    def wants(self) -> frozenset[str]:
        return frozenset()

    def predict(self, payload: Any, meta: CallMeta) -> Any:
        del payload
        raise UnsupportedError(
            f"{meta.model_name!r} is asked through its handler: POST /?model={meta.model_name}"
        )

    def close(self) -> None:
        self.model = None
