"""hotset: one endpoint, thousands of models; only the hot set stays in memory."""

from __future__ import annotations

from hotset.errors import ErrorKind, HotsetError, InvalidInputError, PredictFailedError
from hotset.stream import Stream

__version__ = "0.1.0"

__all__ = ["ErrorKind", "HotsetError", "InvalidInputError", "PredictFailedError", "Stream", "__version__"]
