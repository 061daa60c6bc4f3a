"""What the terminal's commands print for people: tables of models, of a model's versions, of a server's status.

Pure: frozen records become rich tables. Text that came from a server or a store is made printable first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hotset.client import StatusPage
from hotset.status import DeviceStatus, ModelStatus, TierStatus, VersionStatus, WorkerStatus
from hotset.units import format_bytes, format_duration

NOTHING: Final = "-"
_SOURCES: Final = {
    "listing": "a listing",
    "index": "the store's index",
    "lookups": "lookups of what is in use",
    "given": "what the platform brings",
}


def plain(text: str) -> str:
    """Return ``text`` without anything that a terminal would obey."""
    return "".join(character if character.isprintable() or character == "\n" else "�" for character in text)


def _table(*columns: str, numbers: Sequence[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        right = column in numbers
        table.add_column(column, justify="right" if right else "left", no_wrap=right, overflow="fold")
    return table


def models_table(models: Sequence[ModelStatus]) -> Table:
    """Return one line a model: what is latest, what serves, and where it is."""
    device = _device_column(version for model in models for version in model.versions)
    table = _table(
        "model", "latest", "serving", "tier", "memory", *device, "disk", "last used", "leases", "state",
        numbers=("latest", "serving", "memory", "device", "disk", "last used", "leases"),
    )  # fmt: skip
    for model in models:
        table.add_row(*map(Text, _model_row(model, has_device=bool(device))))
    return table


def _device_column(versions: Iterable[VersionStatus]) -> tuple[str, ...]:
    """A column of its own where anything is on a device: most have none."""
    return ("device",) if any(version.device_bytes for version in versions) else ()


def _model_row(model: ModelStatus, *, has_device: bool) -> Iterator[str]:
    versions = model.versions
    shown = next((v for v in versions if v.version == (model.serving or model.latest)), None)
    yield plain(model.name)
    yield str(model.latest)
    yield NOTHING if model.serving is None else str(model.serving)
    yield shown.tier if shown else NOTHING
    yield _size(sum(version.memory_bytes for version in versions))
    if has_device:
        yield _size(sum(version.device_bytes for version in versions))
    yield _size(sum(version.disk_bytes for version in versions))
    yield _age(_youngest([model.last_used_s, *(version.last_used_s for version in versions)]))
    yield str(sum(version.leases for version in versions))
    yield _state(versions[-1]) if versions else NOTHING


def versions_table(model: ModelStatus) -> Table:
    """Return one line a version of one model."""
    device = _device_column(model.versions)
    table = _table(
        "version", "state", "tier", "memory", *device, "disk", "store", "last used", "leases", "",
        numbers=("version", "memory", "device", "disk", "store", "last used", "leases"),
    )  # fmt: skip
    for version in model.versions:
        notes = [
            *(["serving"] if version.version == model.serving else []),
            *(["pinned"] * version.pinned),
            *(label.label for label in model.labels if label.means == version.version),
        ]
        table.add_row(
            f"{version.version}",
            Text(_state(version)),
            version.tier,
            _size(version.memory_bytes),
            *([_size(version.device_bytes)] if device else []),
            _size(version.disk_bytes),
            _size(version.store_bytes),
            _age(version.last_used_s),
            str(version.leases),
            ", ".join(notes),
        )
    return table


def _state(version: VersionStatus) -> str:
    if version.failure is None:
        return version.state.value
    retry = "" if version.retry_in_s is None else f", again in {_age(version.retry_in_s)}"
    return plain(f"{version.failure.value}{retry}: {version.reason}")


def status_table(page: StatusPage) -> Table:
    """Return the head of a server's status, a line for each thing worth knowing."""
    server, requests = page.server, page.requests
    table = Table(box=None, pad_edge=False, show_header=False)
    ready = "ready" if server.readiness.ready else f"not ready: {server.readiness.reason}"
    table.add_row("server", Text(f"hotset {server.version}, up {_age(server.uptime_s)}, {plain(ready)}"))
    table.add_row("store", Text(plain(server.catalog.store)))
    table.add_row("catalog", _catalog(page))
    table.add_row("sync", Text(plain(_sync(page))))
    draining = ", draining" if requests.draining else ""
    table.add_row("requests", f"{requests.inside} inside, at most {requests.max_queue}{draining}")
    for reject in server.catalog.examples:
        table.add_row("rejected", Text(plain(f"{reject.path}: {reject.reason}")))
    return table


def _catalog(page: StatusPage) -> str:
    catalog = page.server.catalog
    parts = [f"{catalog.models} models", f"{catalog.versions} versions"]
    if catalog.unsettled:
        parts.append(f"{catalog.unsettled} unsettled")
    if catalog.rejects:
        parts.append(f"{catalog.rejects} rejected")
    return ", ".join(parts)


def _sync(page: StatusPage) -> str:
    sync = page.server.sync
    every = f"every {format_duration(sync.interval_s)}" if sync.enabled else "off"
    last = "no good pass yet" if sync.last_ok_s is None else f"last good pass {_age(sync.last_ok_s)} ago"
    failing = f", failed {sync.failures} times: {sync.reason}" if sync.failures else ""
    source = f", from {_SOURCES.get(sync.source, sync.source)}" if sync.source else ""
    note = f"; {sync.note}" if sync.note else ""
    return f"{every}, {last}{source}{failing}{note}"


def tiers_table(tiers: Sequence[TierStatus]) -> Table:
    """Return one line a tier, with how full it is."""
    table = _table(
        "tier", "models", "of", "bytes", "of", "full", "leases", "pinned", "oldest use",
        numbers=("models", "of", "bytes", "leases", "pinned", "oldest use"),
    )  # fmt: skip
    for tier in tiers:
        table.add_row(
            tier.tier,
            str(tier.models),
            NOTHING if tier.capacity_models is None else str(tier.capacity_models),
            format_bytes(tier.bytes),
            NOTHING if tier.capacity_bytes is None else format_bytes(tier.capacity_bytes),
            ProgressBar(total=1.0, completed=_fullness(tier), width=16),
            str(tier.leases),
            str(tier.pinned),
            _age(tier.oldest_used_s),
        )
        for device in tier.devices:
            table.add_row(*_device_row(device))
    return table


def _device_row(device: DeviceStatus) -> Iterator[str | ProgressBar]:
    full = device.bytes / device.capacity_bytes if device.capacity_bytes else 0.0
    yield from (device.device, NOTHING, NOTHING, format_bytes(device.bytes))
    yield NOTHING if device.capacity_bytes is None else format_bytes(device.capacity_bytes)
    yield ProgressBar(total=1.0, completed=min(1.0, full), width=16)
    yield from (NOTHING, NOTHING, NOTHING)


def _fullness(tier: TierStatus) -> float:
    parts = [(tier.models, tier.capacity_models), (tier.bytes, tier.capacity_bytes)]
    return max((used / capacity for used, capacity in parts if capacity), default=0.0)


def workers_table(workers: Sequence[WorkerStatus]) -> Table:
    """Return one line a worker."""
    table = _table(
        "worker", "pid", "state", "models", "queued", "restarts",
        numbers=("worker", "pid", "models", "queued", "restarts"),
    )  # fmt: skip
    for worker in workers:
        table.add_row(
            str(worker.id),
            "thread" if worker.pid is None else str(worker.pid),
            "alive" if worker.alive else "down",
            worker.model or str(worker.models),
            str(worker.queued),
            str(worker.restarts),
        )
    return table


def settings_table(values: Mapping[str, str]) -> Table:
    """Return one line a setting."""
    table = _table("setting", "value")
    for name, value in values.items():
        table.add_row(name, Text(plain(value)))
    return table


def _youngest(ages: Sequence[float | None]) -> float | None:
    return min((age for age in ages if age is not None), default=None)


def _size(count: int) -> str:
    return format_bytes(count) if count else NOTHING


def _age(seconds: float | None) -> str:
    """Return an age to the second, which is as much as anyone wants to read."""
    if seconds is None:
        return NOTHING
    return format_duration(float(round(seconds))) if seconds >= 1 else "<1s"
