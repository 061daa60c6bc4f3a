"""Metrics: everything counted once, everything documented, every label bounded."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from hotset.errors import ErrorKind
from hotset.events import (
    Cause,
    Event,
    EventBus,
    Evicted,
    Fetched,
    FetchFailed,
    LabelMoved,
    LabelsRefused,
    LatestMoved,
    Loaded,
    LoadFailed,
    Quarantined,
    Recovered,
    Synced,
    SyncFailed,
    TierName,
    WorkerDied,
    WorkerStarted,
)
from hotset.instruments import DOCUMENTED, markdown
from hotset.keys import ModelKey
from hotset.metrics import Metrics, Statistics
from hotset.request_counts import OTHER_MODELS
from hotset.status import (
    CatalogStatus,
    DeviceStatus,
    MemoryStatus,
    Readiness,
    ServerStatus,
    SyncStatus,
    TierStatus,
    WorkerStatus,
)

PARIS = ModelKey("paris", 3)
EVENTS: tuple[Event, ...] = (
    Fetched(PARIS, bytes=1000, objects=2, seconds=0.2),
    FetchFailed(PARIS, kind=ErrorKind.STORE_UNAVAILABLE, reason="away", seconds=1.0),
    Loaded(PARIS, worker=0, runtime="sklearn", bytes=2000, seconds=0.03),
    LoadFailed(PARIS, kind=ErrorKind.LOAD_FAILED, reason="bad", retry_in_s=5.0, seconds=0.1),
    Evicted(TierName.MEMORY, PARIS, Cause.CAPACITY, bytes=2000, seconds=0.5),
    Evicted(TierName.DISK, PARIS, Cause.DELETED, bytes=1000, seconds=0.5),
    LatestMoved("paris", version=4, previous=3),
    LabelMoved("paris", "stable", version=4, previous=3),
    LabelsRefused("paris", reason="line 1: this is no YAML"),
    Synced(models=9, versions=9, rejects=0, unsettled=0, added=1, removed=0, changed=0, seconds=0.5),
    SyncFailed(reason="away", consecutive=2, retry_in_s=20.0),
    WorkerStarted(worker=0, pid=12, seconds=0.4),
    WorkerDied(worker=0, pid=12, reason="killed", lost_models=7),
    Quarantined(PARIS, reason="killed", retry_in_s=30.0),
    Recovered(adopted=5, removed=1, bytes=1024),
)
SERVER = ServerStatus(
    version="0.1.0",
    uptime_s=10.0,
    readiness=Readiness(ready=True),
    catalog=CatalogStatus(store="s3://b", models=9, versions=12, unsettled=1, rejects=2),
    sync=SyncStatus(enabled=True, interval_s=10.0, last_ok_s=30.0, failures=2),
    tiers=(
        TierStatus(
            "memory",
            models=3,
            bytes=300,
            capacity_models=5,
            leases=1,
            pinned=1,
            oldest_used_s=7.0,
            devices=(DeviceStatus("cuda:0", 40, 100), DeviceStatus("cuda:1", 0, None)),
        ),
        TierStatus("disk", models=4, bytes=400, capacity_bytes=1000),
    ),
    workers=(WorkerStatus(id=0, alive=True, pid=1, models=3, queued=2),),
    memory=MemoryStatus(
        "high", 950, 1000, low_bytes=800, high_bytes=900, critical_bytes=970, stall_share=0.1
    ),
)


def _samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    page = metrics.render().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def _value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return _samples(metrics).get((name, tuple(sorted(labels.items()))))


def _full() -> Metrics:
    metrics = Metrics(model_label=True)
    bus = EventBus()
    bus.subscribe(metrics.on_event)
    for event in EVENTS:
        bus.publish(event)
    metrics.request_observer("oip").ok(0.01, "memory", PARIS)
    metrics.request_observer("oip").failed(ErrorKind.MODEL_NOT_FOUND, 0.001)
    metrics.read_from(lambda: Statistics(SERVER, inside=4, loading=2))
    return metrics


def test_every_metric_on_the_page_is_documented_with_its_type_and_labels() -> None:
    documented = {item.name: item for item in DOCUMENTED}
    seen = set()
    for family in text_string_to_metric_families(_full().render().decode()):
        if family.name.startswith(("process_", "python_")):
            continue
        name = family.name + ("_total" if family.type == "counter" else "")
        item = documented[name]
        seen.add(name)
        assert family.type == item.type, name
        assert family.documentation == item.help
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(item.labels), name
    assert seen == set(documented)


def test_the_documentation_has_a_line_for_each_metric() -> None:
    text = markdown()
    assert len(text.splitlines()) == len(DOCUMENTED) + 2
    assert all(f"| `{item.name}` | {item.type} |" in text for item in DOCUMENTED)


def test_events_are_counted_by_tier_cause_and_kind() -> None:
    metrics = _full()
    assert _value(metrics, "hotset_evictions_total", tier="memory", cause="capacity") == 1
    assert _value(metrics, "hotset_evictions_total", tier="disk", cause="deleted") == 1
    assert _value(metrics, "hotset_evicted_bytes_total", tier="memory") == 2000
    assert _value(metrics, "hotset_fetched_bytes_total") == 1000
    assert _value(metrics, "hotset_fetch_failures_total", kind="store_unavailable") == 1
    assert _value(metrics, "hotset_load_failures_total", kind="load_failed") == 1
    assert _value(metrics, "hotset_load_seconds_count", runtime="sklearn") == 1
    assert _value(metrics, "hotset_load_seconds_bucket", runtime="sklearn", le="0.025") == 0
    assert _value(metrics, "hotset_load_seconds_bucket", runtime="sklearn", le="0.05") == 1
    assert _value(metrics, "hotset_sync_seconds_sum") == 0.5
    assert _value(metrics, "hotset_sync_failures_total") == 1
    assert _value(metrics, "hotset_latest_moves_total") == 1
    assert _value(metrics, "hotset_label_moves_total") == 1
    assert _value(metrics, "hotset_labels_refused_total") == 1
    assert _value(metrics, "hotset_worker_starts_total") == 1
    assert _value(metrics, "hotset_worker_deaths_total") == 1
    assert _value(metrics, "hotset_quarantines_total") == 1


def test_counters_without_labels_stand_at_zero_from_the_start() -> None:
    assert _value(Metrics(), "hotset_sync_failures_total") == 0


def test_requests_are_counted_by_protocol_outcome_and_tier() -> None:
    metrics = Metrics()
    oip, own = metrics.request_observer("oip"), metrics.request_observer("hotset")
    assert metrics.request_observer("oip") is oip
    for tier in ("memory", "memory", "disk", "store"):
        oip.ok(0.002, tier, PARIS)
    own.ok(0.5, "memory", PARIS)
    own.failed(ErrorKind.OVERLOADED, 0.1)
    assert _value(metrics, "hotset_requests_total", protocol="oip", outcome="ok") == 4
    assert _value(metrics, "hotset_requests_total", protocol="hotset", outcome="overloaded") == 1
    assert _value(metrics, "hotset_request_seconds_count", protocol="oip", tier="memory") == 2
    assert _value(metrics, "hotset_failed_request_seconds_count", protocol="hotset") == 1
    assert _value(metrics, "hotset_tier_hits_total", tier="memory") == 3
    assert _value(metrics, "hotset_tier_misses_total", tier="memory") == 2
    assert _value(metrics, "hotset_tier_hits_total", tier="disk") == 1
    assert _value(metrics, "hotset_tier_misses_total", tier="disk") == 1


def test_a_value_on_a_bound_falls_into_the_bucket_of_that_bound() -> None:
    metrics = Metrics()
    observer = metrics.request_observer("oip")
    for seconds in (0.0, 0.001, 61.0):
        observer.ok(seconds, "memory", PARIS)
    buckets = {
        le: _value(metrics, "hotset_request_seconds_bucket", protocol="oip", tier="memory", le=le)
        for le in ("0.0005", "0.001", "60.0", "+Inf")
    }
    assert buckets == {"0.0005": 1, "0.001": 2, "60.0": 2, "+Inf": 3}


def test_gauges_are_read_when_the_page_is_asked_for() -> None:
    metrics = Metrics()
    loading = [2]
    metrics.read_from(lambda: Statistics(SERVER, inside=4, loading=loading[0]))
    assert _value(metrics, "hotset_tier_models", tier="memory") == 3
    assert _value(metrics, "hotset_tier_capacity_models", tier="memory") == 5
    assert _value(metrics, "hotset_tier_oldest_used_seconds", tier="memory") == 7.0
    assert _value(metrics, "hotset_device_bytes", device="cuda:0") == 40
    assert _value(metrics, "hotset_device_bytes", device="cuda:1") == 0
    assert _value(metrics, "hotset_device_capacity_bytes", device="cuda:0") == 100
    assert _value(metrics, "hotset_device_capacity_bytes", device="cuda:1") is None
    assert _value(metrics, "hotset_sync_degraded") == 1
    assert _value(metrics, "hotset_worker_queued", worker="0") == 2
    assert _value(metrics, "hotset_info", version="0.1.0") == 1
    assert _value(metrics, "hotset_loading") == 2
    loading[0] = 0
    assert _value(metrics, "hotset_loading") == 0


def test_a_tier_that_is_not_bounded_has_no_capacity_on_the_page() -> None:
    metrics = Metrics()
    metrics.read_from(lambda: Statistics(SERVER, inside=0, loading=0))
    assert _value(metrics, "hotset_tier_capacity_bytes", tier="memory") is None
    assert _value(metrics, "hotset_tier_oldest_used_seconds", tier="disk") is None


def test_models_are_counted_only_when_asked_for_and_only_so_many() -> None:
    plain = Metrics()
    plain.request_observer("oip").ok(0.1, "memory", PARIS)
    assert _value(plain, "hotset_model_requests_total", model="paris") is None

    metrics = Metrics(model_label=True, max_models=3)
    for number in range(100):
        for protocol in ("oip", "hotset"):
            metrics.request_observer(protocol).ok(0.1, "memory", ModelKey(f"city-{number}", 1))
    counts = {
        labels[0][1]: value
        for (name, labels), value in _samples(metrics).items()
        if name == "hotset_model_requests_total"
    }
    assert counts == {"city-0": 2, "city-1": 2, "city-2": 2, OTHER_MODELS: 194}


def test_two_servers_in_one_process_count_for_themselves() -> None:
    one, other = Metrics(), Metrics()
    one.request_observer("oip").ok(0.1, "memory", PARIS)
    assert _value(other, "hotset_tier_hits_total", tier="memory") == 0


def test_the_page_comes_with_its_content_type() -> None:
    page, content_type = Metrics().page()
    assert page.endswith(b"\n")
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
