"""The host of a worker that is bound to a device: it loads there, and measures what each model takes of it.

Made by a child that has one, in the place of a plain host, which knows nothing of devices and pays nothing for them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hotset.workers.base import LoadReply, LoadSpec
from hotset.workers.devices import WorkerDevice
from hotset.workers.heap import HeapMeter
from hotset.workers.held import Held
from hotset.workers.host import Host
from hotset.workers.kit import Choice, Kit
from hotset.workers.light import Known


class DeviceHost(Host):
    """Thread-safe. Legal order as in ``Host``."""

    def __init__(
        self, device: WorkerDevice, kit: Kit, *, meter: HeapMeter, max_batch: int, max_body_bytes: int
    ) -> None:
        super().__init__(kit, meter=meter, max_batch=max_batch, max_body_bytes=max_body_bytes)
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
        self._light.forget(spec)
        return replace(reply, device_bytes=taken, is_light=False)

    def release(self, held: Held) -> None:
        self._device.released(held, lambda: super(DeviceHost, self).release(held))

    def _chosen(self, spec: LoadSpec, known: Known | None) -> tuple[Choice, Path]:
        choice, path = super()._chosen(spec, known)
        return self._device.here(choice), path
