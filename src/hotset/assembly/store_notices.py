"""What the log says while a store offers nothing: that its versions have yet to settle, or that its tree does not fit."""

from __future__ import annotations

import logging
from typing import Final

from hotset.assembly.ground import Ground
from hotset.catalog import explain_misfit
from hotset.events import Synced
from hotset.residency.manager import Manager

_logger: Final = logging.getLogger(__name__)


class StoreNotices:
    """Owned by the event loop. ``after`` each pass of the sync loop."""

    def __init__(self, ground: Ground, manager: Manager) -> None:
        self._ground = ground
        self._manager = manager
        self._has_told_of_misfit = False

    def after(self, event: Synced) -> None:
        """Say why there is nothing to serve, if there is not; of a tree that does not fit, once."""
        if event.models:
            return
        if event.unsettled:
            _logger.info(
                "%d versions found; they are offered once their files have not changed for %g s (settle_time)",
                event.unsettled,
                self._ground.settings.settle_time,
            )
        elif not self._has_told_of_misfit and self._is_misfit(event):
            self._has_told_of_misfit = True
            trees = explain_misfit(self._ground.layout, self._manager.catalog.snapshot.rejects)
            _logger.warning("no models in %s yet\n%s", self._ground.store.url, trees)

    def _is_misfit(self, event: Synced) -> bool:
        """A store that is asked for each model by itself, or is filled by a platform, may well show none."""
        if self._ground.settings.sagemaker:
            return False
        return bool(event.rejects) or not self._ground.is_on_demand
