"""Every metric there is: name, type, labels and help, once. ``metrics`` counts with it, the docs are written from it.

Pure data. A label's values are ours (protocols, tiers, causes, kinds), never a client's, so that they are bounded;
the one exception, a model's name, is bounded by ``metrics``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

REQUEST_BUCKETS: Final = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
)
WORK_BUCKETS: Final = (
    0.001,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    120.0,
    300.0,
)


@dataclass(frozen=True, slots=True)
class Instrument:
    """One metric. ``buckets`` are the upper bounds of a histogram's."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


def _counter(name: str, help_: str, *labels: str) -> Instrument:
    return Instrument(name, "counter", help_, labels)


def _gauge(name: str, help_: str, *labels: str) -> Instrument:
    return Instrument(name, "gauge", help_, labels)


def _histogram(name: str, help_: str, *labels: str, buckets: tuple[float, ...] = WORK_BUCKETS) -> Instrument:
    return Instrument(name, "histogram", help_, labels, buckets)


REQUESTS: Final = _counter(
    "hotset_requests_total",
    "Predictions answered; outcome is ok or the kind of error.",
    "protocol",
    "outcome",
)
REQUEST_SECONDS: Final = _histogram(
    "hotset_request_seconds",
    "Seconds from a prediction's arrival to its good answer, by the tier that held the model (store: it was fetched first).",
    "protocol",
    "tier",
    buckets=REQUEST_BUCKETS,
)
FAILED_SECONDS: Final = _histogram(
    "hotset_failed_request_seconds",
    "Seconds from a prediction's arrival to its error.",
    "protocol",
    buckets=REQUEST_BUCKETS,
)
TIER_HITS: Final = _counter("hotset_tier_hits_total", "Good answers whose model this tier held.", "tier")
TIER_MISSES: Final = _counter(
    "hotset_tier_misses_total", "Good answers whose model this tier was asked for and did not hold.", "tier"
)
MODEL_REQUESTS: Final = _counter(
    "hotset_model_requests_total",
    "Good answers by model, with metrics_model_label; _other for all past metrics_max_models.",
    "model",
)

REFUSALS: Final = _counter(
    "hotset_refusals_total",
    "Predictions refused because too many were inside, by the bound: of the queue, of their model, of those that wait for a load.",
    "bound",
)

FETCH_SECONDS: Final = _histogram(
    "hotset_fetch_seconds", "Seconds to copy one version from the store to disk."
)
FETCHED_BYTES: Final = _counter("hotset_fetched_bytes_total", "Bytes copied from the store.")
FETCH_FAILURES: Final = _counter(
    "hotset_fetch_failures_total", "Fetches that failed, by kind of error.", "kind"
)
LOAD_SECONDS: Final = _histogram(
    "hotset_load_seconds", "Seconds to load one version from disk into memory.", "runtime"
)
LOAD_FAILURES: Final = _counter("hotset_load_failures_total", "Loads that failed, by kind of error.", "kind")
EVICTIONS: Final = _counter("hotset_evictions_total", "Versions that left a tier, by cause.", "tier", "cause")
EVICTED_BYTES: Final = _counter("hotset_evicted_bytes_total", "Bytes that evictions gave back.", "tier")
COPIES_MADE: Final = _counter(
    "hotset_copies_made_total", "How often a version in memory was loaded into one more worker."
)
COPY_FAILURES: Final = _counter(
    "hotset_copy_failures_total", "Copies that could not be loaded, by kind of error.", "kind"
)
COPIES_DROPPED: Final = _counter(
    "hotset_copies_dropped_total",
    "Copies that left memory, by cause; moved: the copy took the place of what it was made of.",
    "cause",
)
LATEST_MOVES: Final = _counter(
    "hotset_latest_moves_total", "How often latest of a model moved to another version."
)
LABEL_MOVES: Final = _counter("hotset_label_moves_total", "How often a label moved to another version.")
LABELS_REFUSED: Final = _counter(
    "hotset_labels_refused_total", "Files of labels that could not be used; what they said before stays true."
)
SYNC_SECONDS: Final = _histogram("hotset_sync_seconds", "Seconds of one good pass over the store.")
SYNC_FAILURES: Final = _counter("hotset_sync_failures_total", "Passes over the store that failed.")
WORKER_STARTS: Final = _counter("hotset_worker_starts_total", "Workers that became ready.")
WORKER_START_SECONDS: Final = _histogram(
    "hotset_worker_start_seconds",
    "Seconds until a worker was ready, by its kind: shared, or own, which holds one model alone.",
    "kind",
)
WORKER_DEATHS: Final = _counter("hotset_worker_deaths_total", "Workers that ended unasked.")
QUARANTINES: Final = _counter(
    "hotset_quarantines_total",
    "Versions that were not loaded for a while, as workers that were at them died.",
)

INFO: Final = _gauge("hotset_info", "Always 1; the label tells the version of hotset.", "version")
READY: Final = _gauge("hotset_ready", "1 if this replica should get requests.")
INSIDE: Final = _gauge("hotset_requests_inside", "Predictions accepted and not yet answered.")
LOADING: Final = _gauge("hotset_loading", "Versions on their way into memory.")
HELD_BACK: Final = _gauge(
    "hotset_loads_held_back",
    "Loads that wait because all that would have to leave memory for them was used less than min_churn_age ago.",
)
TIER_MODELS: Final = _gauge("hotset_tier_models", "Versions in a tier.", "tier")
TIER_BYTES: Final = _gauge("hotset_tier_bytes", "Bytes used in a tier.", "tier")
TIER_CAPACITY_MODELS: Final = _gauge(
    "hotset_tier_capacity_models", "Versions that a tier may hold; absent if not bounded.", "tier"
)
TIER_CAPACITY_BYTES: Final = _gauge(
    "hotset_tier_capacity_bytes", "Bytes that a tier may hold; absent if not bounded.", "tier"
)
DEVICE_BYTES: Final = _gauge(
    "hotset_device_bytes",
    "Bytes of a device's memory that models take, those included that are leaving.",
    "device",
)
DEVICE_CAPACITY_BYTES: Final = _gauge(
    "hotset_device_capacity_bytes", "Bytes of a device's memory that models may take.", "device"
)
TIER_LEASES: Final = _gauge("hotset_tier_leases", "Requests that use a version in a tier now.", "tier")
TIER_PINNED: Final = _gauge("hotset_tier_pinned", "Versions in a tier that may not be evicted.", "tier")
TIER_OLDEST: Final = _gauge(
    "hotset_tier_oldest_used_seconds",
    "Seconds since the least recently used version of a tier was used. When it is short, the tier is too small.",
    "tier",
)
COPIES: Final = _gauge(
    "hotset_copies",
    "Versions in memory that are in more than one worker, counted for each worker beyond the first.",
)
MEMORY_TAKEN: Final = _gauge(
    "hotset_memory_taken_bytes",
    "Anonymous and shared memory of the control group that sets the limit, or of this server's processes if none does.",
)
MEMORY_LIMIT: Final = _gauge("hotset_memory_limit_bytes", "The memory limit in force.")
MEMORY_MARK: Final = _gauge(
    "hotset_memory_watermark_bytes", "Where something is done about memory: low, high or critical.", "mark"
)
MEMORY_LEVEL: Final = _gauge(
    "hotset_memory_level", "How short memory is: 0 not at all, 1 models leave, 2 nothing is loaded either."
)
MEMORY_STALL: Final = _gauge(
    "hotset_memory_stall_ratio",
    "The share of the last ten seconds in which something waited for memory; absent where the system does not tell.",
)
CATALOG_MODELS: Final = _gauge(
    "hotset_catalog_models",
    "Models that are known of the store: all of it, or with discovery on_demand those in use.",
)
CATALOG_VERSIONS: Final = _gauge("hotset_catalog_versions", "Versions that the store offers.")
CATALOG_REJECTS: Final = _gauge(
    "hotset_catalog_rejects", "Malformed entries of the store that are not offered."
)
CATALOG_UNSETTLED: Final = _gauge(
    "hotset_catalog_unsettled",
    "Versions of the store that are not yet offered, as they may be half uploaded.",
)
SYNC_DEGRADED: Final = _gauge("hotset_sync_degraded", "1 if the last pass over the store failed.")
SYNC_NOTED: Final = _gauge(
    "hotset_sync_noted",
    "1 if the last good pass was less than it should be, as the status says: an index that is not used, models not seen.",
)
SYNC_SOURCE: Final = _gauge(
    "hotset_sync_source",
    "1 for where the snapshot in force is from: listing, index, lookups or given.",
    "source",
)
SYNC_AGE: Final = _gauge("hotset_sync_age_seconds", "Seconds since the last good pass over the store.")
OWN_PROCESSES: Final = _gauge("hotset_own_processes", "Processes that hold one model alone.")
WORKER_ALIVE: Final = _gauge("hotset_worker_alive", "1 if the worker can answer.", "worker")
WORKER_MODELS: Final = _gauge("hotset_worker_models", "Versions that a worker holds.", "worker")
WORKER_QUEUED: Final = _gauge(
    "hotset_worker_queued", "Predictions sent to a worker and not yet answered.", "worker"
)
WORKER_STUCK: Final = _gauge(
    "hotset_worker_stuck",
    "Predict threads of a worker that have been at one prediction for longer than request_timeout.",
    "worker",
)

DOCUMENTED: Final = tuple(item for item in list(globals().values()) if isinstance(item, Instrument))
"""Every metric, in the order of the docs."""


def markdown() -> str:
    """Return the table of metrics for docs/operations.md."""
    rows = [
        f"| `{item.name}` | {item.type} | {', '.join(f'`{label}`' for label in item.labels)} | {item.help} |\n"
        for item in DOCUMENTED
    ]
    return "| metric | type | labels | |\n|---|---|---|---|\n" + "".join(rows)
