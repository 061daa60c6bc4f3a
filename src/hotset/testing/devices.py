"""Devices that no machine has: how large they are, and what is taken of them, as the test says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from hotset.devices import FoundDevice


class FakeMeter:
    """The device of this process, which the code under test takes memory of. Implements ``DeviceMeter``.

    ``kept`` is what was given back to the framework, and by the framework to nobody yet.
    """

    taken: ClassVar[int] = 0
    kept: ClassVar[int] = 0

    def __init__(self, id_: str) -> None:
        self.id: Final = id_

    @classmethod
    def take(cls, bytes_: int) -> None:
        cls.kept = max(0, cls.kept - bytes_)
        cls.taken += bytes_

    @classmethod
    def drop(cls, bytes_: int) -> None:
        cls.taken -= bytes_
        cls.kept += bytes_

    def in_use(self) -> int:
        return self.taken

    def settle(self) -> bool:
        return False

    def give_back(self) -> None:
        FakeMeter.kept = 0


class FakeDriver:
    """A machine with devices of these sizes, all of them free. Implements ``DeviceDriver``."""

    def __init__(self, *sizes: int) -> None:
        self.found: Final = [FoundDevice(f"GPU-{place}", size, size) for place, size in enumerate(sizes)]
        self.meter: Final = f"{FakeMeter.__module__}:{FakeMeter.__name__}"

    def devices(self) -> Sequence[FoundDevice]:
        return self.found

    def device(self, id_: str) -> FoundDevice | None:
        fitting = [device for device in self.found if device.id.startswith(id_)]
        return fitting[0] if len(fitting) == 1 else None
