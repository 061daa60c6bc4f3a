"""The host of a worker that is bound to a device: it loads there, and measures what each model takes of it.

Made by a child that has one, in the place of a plain host, which knows nothing of devices and pays nothing for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hotset.workers.base import LoadReply, LoadSpec
from hotset.workers.devices import WorkerDevice
from hotset.workers.heap import HeapMeter
from hotset.workers.held import Held
from hotset.workers.host import Host
from hotset.workers.kit import Choice, Kit, RuntimeSource


class OnDevice:
    """Implements ``RuntimeSource``: what another one chose, told to load on the device. Thread-safe."""

    def __init__(self, source: RuntimeSource, device: WorkerDevice) -> None:
        self._source = source
        self._device = device

    def choice_for(self, spec: LoadSpec, files: Sequence[str]) -> Choice:
        return self._device.here(self._source.choice_for(spec, files))


class DeviceHost(Host):
    """Thread-safe. Legal order as in ``Host``."""

    def __init__(
        self, device: WorkerDevice, kit: Kit, *, meter: HeapMeter, max_batch: int, max_body_bytes: int
    ) -> None:
        there = replace(kit, runtimes=OnDevice(kit.runtimes, device))
        super().__init__(there, meter=meter, max_batch=max_batch, max_body_bytes=max_body_bytes)
        self._device = device

    def load(self, spec: LoadSpec) -> LoadReply:
        mark = self._device.begin()
        try:
            reply = super().load(spec)
        except BaseException:
            self._device.end(mark, estimate=0)
            self._device.give_back()
            raise
        taken = self._device.end(mark, estimate=sum(file.size for file in spec.files or ()))
        if not taken:
            return reply
        with self._lock:
            self._device.keep(self._held[spec.handle], taken)
        self._loader.forget(spec)
        return replace(reply, device_bytes=taken, is_light=False)

    def release(self, held: Held) -> None:
        self._device.released(held, lambda: super(DeviceHost, self).release(held))
