"""hotset: one endpoint, thousands of models; only the hot set stays in memory."""

from __future__ import annotations

from hotset.errors import ErrorKind, HotsetError, InvalidInputError, PredictFailedError

__version__ = "0.1.0"

__all__ = ["ErrorKind", "HotsetError", "InvalidInputError", "PredictFailedError", "__version__"]
