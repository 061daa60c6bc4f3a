"""The kit of workers that run a handler written for Cortex: the handler itself, and what loads its models.

Named to a child by ``HANDLER_KIT``; beside ``standard`` the only file of the workers that knows user code.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from hotset.codecs import registry as codecs
from hotset.codecs.base import Codec
from hotset.codecs.handler import HandlerCodec
from hotset.errors import ConfigError
from hotset.runtimes.handler import HandlerOptions, read_handler
from hotset.runtimes.handler_model import HandlerRuntime
from hotset.workers.asking import Asking
from hotset.workers.kit import Kit, RuntimeSource
from hotset.workers.standard import DetectedRuntimes, OneRuntime

HANDLER_KIT: Final = "hotset.workers.handler_kit:handler_kit"
CODELESS_HANDLER_KIT: Final = "hotset.workers.handler_kit:codeless_handler_kit"
"""The one that runs no code from a version's files: with ``allow_pickle: false``."""

_CODEC: Final = HandlerCodec()


def handler_kit(predictor: str | None, config: Mapping[str, Any], *, runs_code: bool = True) -> Kit:
    """Return the kit of a child; imports the handler and makes its class, in the project's directory.

    ``config`` are the fields of ``HandlerOptions``.

    Raises:
        ConfigError: the handler does not fit.
    """
    directory = config.get("directory")
    if directory:
        os.chdir(directory)  # where a handler written for Cortex looks for its files
    return threaded_handler_kit(predictor, config, runs_code=runs_code)


def codeless_handler_kit(predictor: str | None, config: Mapping[str, Any]) -> Kit:
    """As ``handler_kit``, but no model's own code is run. The handler is code of the server's, and is run.

    Raises:
        ConfigError: the handler does not fit.
    """
    return handler_kit(predictor, config, runs_code=False)


def threaded_handler_kit(predictor: str | None, config: Mapping[str, Any], *, runs_code: bool = True) -> Kit:
    """Return the kit of a worker inside the gateway, whose directory is not the handler's to change.

    Raises:
        ConfigError: the handler does not fit.
    """
    if predictor is None:
        raise ConfigError("expected the file of a handler, found none")
    options = msgspec.convert(dict(config), HandlerOptions)
    asking = Asking()
    handler = read_handler(Path(predictor), options=options, lender=asking)
    runtimes: RuntimeSource = (
        OneRuntime(HandlerRuntime(handler.handler))
        if options.type == "python"
        else DetectedRuntimes(runs_code=runs_code)
    )
    return Kit(runtimes, _codec, handler=handler, asking=asking)


def _codec(name: str) -> Codec:
    return _CODEC if name == _CODEC.name else codecs.by_name(name)
