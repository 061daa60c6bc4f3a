"""The statistics of versions in the words of the Open Inference Protocol, for its doors: of a model, and of all that were asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from hotset.api.dataplane import DataPlane
from hotset.api.oip_documents import statistics
from hotset.errors import ErrorKind, NotFoundError
from hotset.keys import ModelKey, ModelRef
from hotset.status import Executions, VersionStatus
from hotset.tokens import EVERYTHING, Grant

_STEP: Final = 50
"""So many models are looked at in one turn of the loop."""


class OipStatistics:
    """Holds nothing of its own. Owned by the event loop."""

    def __init__(self, dataplane: DataPlane) -> None:
        self._dataplane: Final = dataplane

    async def of(self, ref: ModelRef, *, deadline_s: float) -> list[dict[str, Any]]:
        """Return those of the version that is named, or of all of a model's.

        Raises:
            NotFoundError: there is no such model or version.
        """
        model = await self._dataplane.residency.model(ref.name, deadline_s=deadline_s)
        versions = model.asked(ref.version)
        if not versions:
            raise NotFoundError(
                f"no version {ref.version} of model {ref.name!r}", kind=ErrorKind.VERSION_NOT_FOUND
            )
        return self._rows(versions, await self._dataplane.residency.executions(ref.name))

    async def of_all(self, grant: Grant = EVERYTHING) -> list[dict[str, Any]]:
        """Return those of versions that were asked since the start: there may be a hundred thousand that never were.

        Of them only those that ``grant`` may see.
        """
        rows: list[dict[str, Any]] = []
        executions = await self._dataplane.residency.executions()
        names = sorted({key.name for key in self._dataplane.statistics if grant.covers(key.name)})
        for start in range(0, len(names), _STEP):
            for name in names[start : start + _STEP]:
                model = self._dataplane.residency.known(name)
                rows += self._rows(model.versions if model is not None else (), executions, only_asked=True)
            await asyncio.sleep(0)
        return rows

    def _rows(
        self,
        versions: Iterable[VersionStatus],
        executions: Mapping[ModelKey, Sequence[Executions]],
        *,
        only_asked: bool = False,
    ) -> list[dict[str, Any]]:
        now_s = self._dataplane.time_of_day_s()
        keyed = ((version, ModelKey(version.name, version.version)) for version in versions)
        counted = ((version, key, self._dataplane.statistics.of(key)) for version, key in keyed)
        return [
            statistics(version, counts, executions.get(key, ()), now_s=now_s)
            for version, key, counts in counted
            if not only_asked or counts.answered or counts.failed
        ]
