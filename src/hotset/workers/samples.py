"""Warm-up samples: requests that a version has to answer before it counts as ready. Called by the host, in a load.

Each is decoded, predicted and encoded as a client's request would be; what it answers is thrown away. It never changes
what the host knows of the model: a sample counts in no pace and in no batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hotset.codecs.base import Codec
from hotset.errors import ErrorKind, HotsetError, LoadFailedError
from hotset.runtimes.base import Servable
from hotset.runtimes.modelyaml import Sample
from hotset.runtimes.options import MODEL_YAML
from hotset.workers.base import LoadSpec, PredictCall
from hotset.workers.drained import completed
from hotset.workers.held import Held
from hotset.workers.loopthread import LoopThread
from hotset.workers.question import answer_alone, guarded
from hotset.workers.unfinished import Unfinished

_JSON = "application/json"


def warm_up(
    spec: LoadSpec,
    servable: Servable,
    samples: Sequence[Sample],
    codecs: Callable[[str], Codec],
    loop: LoopThread,
) -> None:
    """Answer every sample, in order.

    Raises:
        LoadFailedError: one of them failed; the message says which, and why.
    """
    held = Held(spec, servable)
    for sample in samples:
        call = PredictCall(spec.handle, sample.codec, sample.body, content_type=_JSON)
        outcome = guarded(held, answer_alone, held, call, codecs(sample.codec))
        if isinstance(outcome, Unfinished):
            outcome = completed(outcome, loop)
        if isinstance(outcome, HotsetError):
            kind = ErrorKind.OUT_OF_MEMORY if outcome.kind is ErrorKind.OUT_OF_MEMORY else None
            raise LoadFailedError(f"{MODEL_YAML}: {sample.where} failed: {outcome}", kind=kind) from outcome
