"""From the files of a version to a model in memory, and what it weighs. The host calls it, in any of its loader threads.

It holds no model once it has handed it over, and never decides what to load. Of what is light it remembers how it was
loaded, and loads that again in a shorter way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from hotset.errors import HotsetError, LoadFailedError
from hotset.payload import Signature
from hotset.runtimes.base import Recipe, Servable
from hotset.runtimes.gcpause import collector_pause
from hotset.runtimes.modelyaml import NO_FILE
from hotset.runtimes.own_code import shared_modules
from hotset.runtimes.reason import load_failure
from hotset.workers.base import LoadSpec
from hotset.workers.heap import HeapMeter
from hotset.workers.held import SMALL_WEIGHT
from hotset.workers.intact import files_below, intact_files
from hotset.workers.kit import Choice, Kit
from hotset.workers.light import Known, LightVersions, Stopwatch
from hotset.workers.loopthread import LoopThread
from hotset.workers.reclaim import set_aside
from hotset.workers.samples import warm_up

_logger: Final = logging.getLogger(__name__)

LEAST_WEIGHT: Final = 4096
"""Bytes: no model weighs less, so that a count of tiny ones still counts."""


class Weighed(NamedTuple):
    """A model and its weight in bytes; with ``is_estimate``, nobody could measure that."""

    servable: Servable
    weight: int
    is_estimate: bool = False


class Loaded(NamedTuple):
    """A model as it is handed over, and how it was loaded."""

    weighed: Weighed
    signature: Signature
    choice: Choice
    path: Path
    watch: Stopwatch


class Loader:
    """Thread-safe. A ``load`` that went well may be followed by ``learn``, once."""

    def __init__(self, kit: Kit, meter: HeapMeter, loop: LoopThread) -> None:
        """``loop`` is where coroutines of the user's run."""
        self._kit = kit
        self._meter = meter
        self._loop = loop
        self._light = LightVersions()

    def is_light(self, spec: LoadSpec) -> bool:
        """Whether a load costs less than to hand it to another thread: it was loaded here before, in no time."""
        return self._light.get(spec) is not None

    def load(self, spec: LoadSpec) -> Loaded:
        """Load a model and measure what it weighs.

        Raises:
            LoadFailedError: whatever the runtime or the user's code raised; or the files are damaged.
        """
        watch = Stopwatch()
        try:
            known = self._light.get(spec)
            choice, path = self._chosen(spec, known)
            if spec.weight is not None and spec.weight < SMALL_WEIGHT:
                weighed = Weighed(self._unmeasured(choice, path, spec, known, watch), spec.weight)
            else:
                weighed = self._measured(choice, path, spec, watch)
            return Loaded(weighed, weighed.servable.signature, choice, path, watch)
        except HotsetError as error:
            self._light.forget(spec)
            _look_again(spec, error)
            raise
        except BaseException as error:  # the user's code may raise anything, and the loader thread must live
            self._light.forget(spec)
            _look_again(spec, error)
            _logger.exception("load of %s@%d raised", spec.name, spec.version)
            raise load_failure("the load raised", error) from error

    def learn(self, spec: LoadSpec, loaded: Loaded, *, is_plain: bool) -> bool:
        """Take in how long a load took; whether the version is light. Never one that is not ``is_plain``: its next load may
        take any time.
        """
        recipe = _taken_recipe(loaded.weighed.servable)
        if loaded.choice.options is not NO_FILE:
            recipe = None  # what else is asked of its load, samples above all, is done each time
        took_s, lasted_s = loaded.watch.took_s, loaded.watch.lasted_s
        return is_plain and self._light.note(
            spec, loaded.path, loaded.choice, took_s=took_s, lasted_s=lasted_s, recipe=recipe
        )

    def forget(self, spec: LoadSpec) -> None:
        """Have it loaded in a thread of its own the next time."""
        self._light.forget(spec)

    def _chosen(self, spec: LoadSpec, known: Known | None) -> tuple[Choice, Path]:
        """Return how to load what is on disk as it was published."""
        files = files_below(Path(spec.path)) if spec.files is None else intact_files(spec.path, spec.files)
        if known is not None:
            return known.choice, known.path
        return self._kit.runtimes.choice_for(spec, files), Path(spec.path)

    def _unmeasured(
        self, choice: Choice, path: Path, spec: LoadSpec, known: Known | None, watch: Stopwatch
    ) -> Servable:
        if known is None:
            with self._meter.unmeasured():
                return self._loaded(choice, path, spec, watch)
        recipe = self._light.recipe(spec)
        if recipe is None:
            return self._loaded(choice, path, spec, watch)
        with watch:
            return recipe.load()

    def _measured(self, choice: Choice, path: Path, spec: LoadSpec, watch: Stopwatch) -> Weighed:
        modules = shared_modules()
        expected = round(_bytes_of(path, choice.files) * choice.runtime.size_factor)
        # So many new objects have the collector run at once when it may: what it finds of others would be missing in the weight.
        with collector_pause:
            mark = self._meter.begin(expected)
            try:
                servable = self._loaded(choice, path, spec, watch)
            finally:
                grown, is_own = self._meter.end(mark)
        is_told_apart = hasattr(servable, "infer") or getattr(servable, "brings_code", False)
        imported = is_told_apart and shared_modules() != modules
        is_estimate = imported or not is_own
        if is_estimate and spec.weight is not None:
            return Weighed(servable, spec.weight)  # what an earlier load measured is better than any estimate
        if imported:
            # The first load of a framework imports it, and a model is not charged for that: better the estimate.
            # What the server's predictor imports while it loads is charged: there is no telling it from the model.
            grown = min(grown, expected)
        elif is_estimate:
            grown = max(grown, expected)  # others have grown or shrunk meanwhile
        return Weighed(servable, max(grown, LEAST_WEIGHT), is_estimate)

    def _loaded(self, choice: Choice, path: Path, spec: LoadSpec, watch: Stopwatch) -> Servable:
        modules = shared_modules()
        with watch:
            # The collector would walk the growing model again and again, and predictions would wait for it.
            with collector_pause:
                servable = choice.load(path)
            self._finish(choice, spec, servable)
        if shared_modules() != modules:
            set_aside()
        return servable

    def _finish(self, choice: Choice, spec: LoadSpec, servable: Servable) -> None:
        """What was written to while it was read is not what was published, and may be as good a model. The samples are asked
        within the load, so that what a first prediction takes is weighed too, and nobody waits for it later.
        """
        try:
            if spec.files is not None:
                intact_files(spec.path, spec.files)
            if choice.options.samples:
                warm_up(spec, servable, choice.options.samples, self._kit.codecs, self._loop)
        except BaseException:
            servable.close()
            raise


def _taken_recipe(servable: Servable) -> Recipe | None:
    """Return what can load it again, which is not kept with it."""
    take: Callable[[], Recipe | None] | None = getattr(servable, "take_recipe", None)
    return None if take is None else take()


def _look_again(spec: LoadSpec, error: BaseException) -> None:
    """Raise, in the place of the error of a load, that its files were damaged after they were looked at: it is not to blame."""
    if spec.files is None:
        return
    try:
        intact_files(spec.path, spec.files)
    except LoadFailedError as damaged:
        raise damaged from error


def _bytes_of(path: Path, files: Sequence[str]) -> int:
    return sum((path / file).stat().st_size for file in files)
