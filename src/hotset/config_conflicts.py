"""Settings that do not fit together. Pure; each rule yields a sentence for what is wrong, and nothing where all is well."""

from __future__ import annotations

from collections.abc import Iterator

from hotset.config_table import SettingsTable
from hotset.config_values import CacheSize, Devices
from hotset.units import format_bytes


def conflicts(settings: SettingsTable) -> Iterator[str]:
    """Yield what does not fit, of all rules."""
    yield from source_conflicts(
        has_dir=settings.model_dir is not None,
        has_models=settings.models is not None,
        sagemaker=settings.sagemaker,
    )
    yield from _discovery_conflicts(settings)
    yield from _size_conflicts(settings.model_cache_size, settings.disk_model_cache_size)
    yield from _backoff_conflicts(settings.load_failure_backoff, settings.load_failure_backoff_max)
    yield from _isolation_conflicts(settings)
    yield from _device_conflicts(settings.devices, settings.processes_per_replica)
    yield from _port_conflicts(settings)
    yield from _memory_conflicts(settings)
    yield from _body_conflicts(settings)


def source_conflicts(*, has_dir: bool, has_models: bool, sagemaker: bool) -> Iterator[str]:
    if sagemaker and (has_dir or has_models):
        given = "model_dir" if has_dir else "models"
        yield f"sagemaker: found on together with {given}, expected one of them; the platform brings the models itself"
    if sagemaker:
        return
    if has_dir and has_models:
        yield "model_dir, models: found both, expected one of them"
    if not has_dir and not has_models:
        yield "model_dir: found nothing, expected where the models are, such as s3://bucket/models (or a list in models)"


def _discovery_conflicts(settings: SettingsTable) -> Iterator[str]:
    """Yield what needs to know all models, which ``on_demand`` never does."""
    if settings.discovery != "on_demand":
        return
    if settings.models is not None or settings.sagemaker:
        yield "discovery: found on_demand with a static list in models, expected model_dir; a list is known anyway"
    if settings.on_missing != "lookup":
        yield "on_missing: found error with discovery on_demand, expected lookup; else no model is ever found"
    if settings.preload.everything:
        yield "preload: found all with discovery on_demand, expected names or a number; all would be the whole store"


def _size_conflicts(memory: CacheSize | None, disk: CacheSize | None) -> Iterator[str]:
    """Yield where the disk tier would hold less than the memory tier; different units cannot be compared."""
    if memory is None or disk is None:
        return
    pairs = ((memory.models, disk.models), (memory.bytes, disk.bytes))
    if any(hot is not None and cold is not None and cold < hot for hot, cold in pairs):
        yield f"disk_model_cache_size: found {disk}, expected at least model_cache_size, which is {memory}"


def _backoff_conflicts(first: float, longest: float) -> Iterator[str]:
    if longest < first:
        yield (
            f"load_failure_backoff_max: found {longest:g} seconds, expected at least load_failure_backoff,"
            f" which is {first:g} seconds"
        )


def _memory_conflicts(settings: SettingsTable) -> Iterator[str]:
    low, high, critical = settings.memory_low, settings.memory_high, settings.memory_critical
    if not low < high <= critical:
        yield (
            "memory_low, memory_high, memory_critical:"
            f" found {low:g}, {high:g} and {critical:g}, expected each above the one before"
        )


def _body_conflicts(settings: SettingsTable) -> Iterator[str]:
    most = settings.max_bodies_size
    if most is not None and most < settings.max_body_size:
        yield (
            f"max_bodies_size: found {format_bytes(most)}, expected at least max_body_size, which is"
            f" {format_bytes(settings.max_body_size)}"
        )


def _port_conflicts(settings: SettingsTable) -> Iterator[str]:
    if (settings.tls_cert is None) != (settings.tls_key is None):
        yield "tls_cert, tls_key: found one of them, expected both or none"
    if settings.admin_port and settings.admin_port in {settings.port, settings.grpc_port}:
        yield f"admin_port: found {settings.admin_port}, expected a port that is not `port` or `grpc_port`"
    if settings.admin_port and settings.sagemaker:
        yield "admin_port: found one together with sagemaker, expected none; the platform knows only one port"


def _device_conflicts(devices: Devices, processes: int) -> Iterator[str]:
    count = len(devices.places or ())
    if count > processes:
        yield (
            f"devices: found {count} with processes_per_replica {processes}, expected a process for each: raise"
            " processes_per_replica, or name fewer devices"
        )


def _isolation_conflicts(settings: SettingsTable) -> Iterator[str]:
    """Yield what cannot be where every model is to have a process of its own."""
    if settings.isolation != "own":
        return
    if settings.processes_per_replica == 0:
        yield "isolation: found own with processes_per_replica 0, expected 1 or more; threads of one process isolate nothing"
    if settings.cortex is not None:
        yield "isolation: found own with cortex, expected auto or shared; a handler's models have to be where it runs"
