"""A swap in the host: what is light takes the places of idle models, at once, or nothing is done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hotset.errors import ErrorKind, UnavailableError
from hotset.keys import DiskFile
from hotset.runtimes.base import Servable
from hotset.workers import light as rules
from hotset.workers.base import LoadSpec, Swapped
from hotset.workers.host import Host
from worker_fakes import FakePayloadServable, FakeTensorServable, echo, fake_kit, raw_call, spec

REFUSED = Swapped(is_loaded=False, are_gone=False)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "LIGHT_WAIT_S", 30.0)
    monkeypatch.setattr(rules, "LIGHT_LOAD_S", 30.0)
    monkeypatch.setattr(rules, "STILL_LIGHT_S", 30.0)


class Closing(FakeTensorServable):
    def __init__(self, closed: list[Path], path: Path) -> None:
        super().__init__()
        self._closed, self._path = closed, path

    def close(self) -> None:
        self._closed.append(self._path)


class Bench:
    """A host with three light versions, of which ``paris`` is loaded, under 1."""

    def __init__(self, folder: Path) -> None:
        self.closed: list[Path] = []
        self.fails: set[str] = set()
        self.host = Host(fake_kit(self.make))
        self.specs: dict[str, LoadSpec] = {}
        for number, name in enumerate(("paris", "rome", "oslo"), 1):
            path = folder / name
            path.mkdir()
            (path / "model.bin").write_bytes(b"model")
            one = spec(path, number)
            self.specs[name] = replace(one, name=name, files=(DiskFile("model.bin", 5),), weight=5000)
            self.host.load(self.specs[name])
        for number in (2, 3):
            self.host.retire(number, lambda held: self.host.release(held) if held else None)
        self.closed.clear()

    def make(self, path: Path) -> Servable:
        if path.name in self.fails:
            raise RuntimeError("made to fail")
        return Closing(self.closed, path)

    def swap(self, name: str, handle: int, after: tuple[int, ...], **changes: object) -> Swapped:
        order = replace(self.specs[name], handle=handle, after=after)
        return self.host.swap(replace(order, **changes))  # type: ignore[arg-type]


def test_it_takes_the_place_of_what_is_idle(tmp_path: Path) -> None:
    it = Bench(tmp_path)
    assert it.swap("rome", 4, (1,)) == Swapped(is_loaded=True, are_gone=True, is_light=True)
    assert it.host.handles() == [4]
    assert it.closed == [tmp_path / "paris"]


def test_it_comes_into_free_room_too_and_those_gone_already_are_no_matter(tmp_path: Path) -> None:
    it = Bench(tmp_path)
    assert it.swap("rome", 4, ()).is_loaded
    assert it.swap("oslo", 5, (99,)).is_loaded
    assert it.host.handles() == [1, 4, 5]


def test_nothing_is_done_while_one_of_them_is_in_use(tmp_path: Path) -> None:
    it = Bench(tmp_path)
    it.swap("rome", 4, ())
    held = it.host.borrow(1)
    assert it.swap("oslo", 5, (4, 1)) == REFUSED
    assert it.host.handles() == [1, 4]
    assert not it.closed
    it.host.give_back(held)
    assert it.swap("oslo", 5, (4, 1)).is_loaded
    assert it.host.handles() == [5]


def test_nothing_is_done_where_the_version_is_not_known_to_be_light(tmp_path: Path) -> None:
    it = Bench(tmp_path)
    assert it.swap("rome", 4, (1,), files=(DiskFile("model.bin", 6),)) == REFUSED
    assert it.swap("rome", 4, (1,), path=str(tmp_path / "other")) == REFUSED
    assert it.host.handles() == [1]


def test_nothing_is_done_where_code_of_the_users_would_run(tmp_path: Path) -> None:
    it = Bench(tmp_path)
    own = Host(fake_kit(lambda _: FakePayloadServable(echo)))
    own.load(it.specs["paris"])
    assert own.swap(replace(it.specs["rome"], handle=4, after=(1,))) == REFUSED
    assert own.handles() == [1]


def test_a_load_that_fails_leaves_the_others_gone_and_calls_behind_it_are_told(tmp_path: Path) -> None:
    it = Bench(tmp_path)
    it.fails.add("rome")
    assert it.swap("rome", 4, (1,)) == Swapped(is_loaded=False, are_gone=True)
    assert it.host.handles() == []
    with pytest.raises(UnavailableError) as caught:
        it.host.predict(raw_call(4))
    assert caught.value.kind is ErrorKind.NOT_LOADED
    it.fails.clear()
    assert it.swap("rome", 4, ()) == REFUSED, "a thread has to find out first"


def test_damaged_files_are_seen(tmp_path: Path) -> None:
    it = Bench(tmp_path)
    (tmp_path / "rome" / "model.bin").write_bytes(b"cut")
    assert it.swap("rome", 4, (1,)) == Swapped(is_loaded=False, are_gone=True)
