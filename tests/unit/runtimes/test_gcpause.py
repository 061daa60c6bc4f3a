"""The collector is held back by the first in, and let go by the last out."""

from __future__ import annotations

import gc
from threading import Thread

import pytest

from hotset.runtimes.gcpause import CollectorPause


@pytest.fixture(autouse=True)
def enabled():
    gc.enable()
    yield
    gc.enable()


def test_is_off_inside_and_on_after() -> None:
    pause = CollectorPause()
    with pause:
        assert not gc.isenabled()
        with pause:
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_another_thread_leaves_first() -> None:
    pause = CollectorPause()

    def enter_and_leave() -> None:
        with pause:
            pass

    with pause:
        thread = Thread(target=enter_and_leave)
        thread.start()
        thread.join(10)
        assert not gc.isenabled()
    assert gc.isenabled()


def test_stays_off_where_it_was_off() -> None:
    gc.disable()
    with CollectorPause():
        pass
    assert not gc.isenabled()


def test_is_on_again_after_a_failure() -> None:
    with pytest.raises(ValueError, match="x"), CollectorPause():
        raise ValueError("x")
    assert gc.isenabled()
