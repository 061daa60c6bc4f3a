"""What a handler's threads ask for: one word for each, what was lent until the request ends, and no word for ever."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

import pytest

from hotset.errors import NotFoundError, UnavailableError, UnsupportedError
from hotset.runtimes.handler_model import HandlerModel
from hotset.runtimes.lending import BeginAgainError
from hotset.workers.asking import Asking
from hotset.workers.base import LoadSpec, Want, Word
from hotset.workers.held import Held


class Shelf:
    """The host, and a gateway that answers in another thread."""

    def __init__(self) -> None:
        self.asking = Asking()
        self.asking.shelf = self
        self.words: dict[str, Word] = {}
        self.asked: list[Want] = []
        self.out: list[int] = []
        self.threads: list[threading.Thread] = []
        self.asking.bind(self.ask)

    def ask(self, number: int, want: Want) -> None:
        self.asked.append(want)
        thread = threading.Thread(target=self.asking.answered, args=(number, self.words[want.name]))
        self.threads.append(thread)
        thread.start()

    def borrow(self, handle: int) -> Held:
        self.out.append(handle)
        return Held(LoadSpec(handle, f"model-{handle}", 1, ""), HandlerModel(handle))

    def give_back(self, held: Held) -> None:
        self.out.remove(int(held.name.removeprefix("model-")))


@pytest.fixture
def shelf() -> Any:
    it = Shelf()
    yield it
    for thread in it.threads:
        thread.join()


def lent(shelf: Shelf, name: str, version: str = "latest") -> object:
    servable = shelf.asking.lend(name, version)
    assert isinstance(servable, HandlerModel)
    return servable.model


def test_what_is_lent_stays_until_the_request_ends_and_is_asked_for_once(shelf: Shelf) -> None:
    shelf.words = {"a": 7, "b": 8}
    with shelf.asking.request(1):
        assert [lent(shelf, name) for name in ("a", "b", "a")] == [7, 8, 7]
        assert shelf.out == [7, 8]
    assert shelf.out == []
    assert shelf.asked == [Want(1, "a", "latest"), Want(1, "b", "latest")]


def test_a_refusal_is_raised_where_it_was_asked(shelf: Shelf) -> None:
    shelf.words = {"a": NotFoundError("no a"), "b": 8}
    with shelf.asking.request(1):
        with pytest.raises(NotFoundError, match="no a"):
            lent(shelf, "a")
        assert lent(shelf, "b") == 8


def test_a_request_that_is_begun_again_ends_even_where_the_handler_catches_everything(shelf: Shelf) -> None:
    shelf.words = {"a": 7, "b": None}
    with pytest.raises(UnavailableError, match="begun again"), shelf.asking.request(1):
        lent(shelf, "a")
        with suppress(BaseException):
            lent(shelf, "b")
        with pytest.raises(BeginAgainError):
            lent(shelf, "c")
    assert shelf.out == []
    assert [want.name for want in shelf.asked] == ["a", "b"]


def test_a_handler_that_catches_exceptions_does_not_catch_its_end(shelf: Shelf) -> None:
    shelf.words = {"a": None}
    went_on = False
    with pytest.raises(UnavailableError), shelf.asking.request(1):
        with suppress(Exception):
            lent(shelf, "a")
        went_on = True
    assert not went_on


def test_a_thread_of_the_handler_asks_for_the_only_request_there_is(shelf: Shelf) -> None:
    shelf.words = {"a": 7}
    found: list[object] = []

    def ask() -> None:
        try:
            found.append(lent(shelf, "a"))
        except UnsupportedError as error:
            found.append(str(error))

    def in_a_thread() -> None:
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()

    with shelf.asking.request(1):
        in_a_thread()
        assert found == [7]
        shelf.asking._loans[2] = shelf.asking._loans[1]
        in_a_thread()
        del shelf.asking._loans[2]
    assert "threads_per_process to 1" in str(found[1])
    in_a_thread()
    assert "outside of a request" in str(found[2])


def test_who_still_waits_as_the_worker_stops_is_told_so(shelf: Shelf) -> None:
    asked = threading.Event()
    shelf.asking.bind(lambda _number, _want: asked.set())
    outcomes: list[BaseException] = []

    def handle() -> None:
        try:
            with shelf.asking.request(1):
                lent(shelf, "a")
        except UnavailableError as error:
            outcomes.append(error)

    thread = threading.Thread(target=handle)
    thread.start()
    asked.wait()
    shelf.asking.close()
    thread.join()
    assert "stopping" in str(outcomes[0])
    with pytest.raises(UnavailableError), shelf.asking.request(2):
        lent(shelf, "a")
