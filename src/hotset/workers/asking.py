"""The child's side of a lease in the middle of a request: a handler's thread asks, and waits for the gateway's word.

Called by handlers' clients in the predict threads, and with the answers by whoever serves the control channel. It
knows no wire and no handler: it numbers what is asked, and holds what was lent until its request ends.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Final, Protocol, TypeAlias

from hotset.errors import HotsetError, UnavailableError, UnsupportedError
from hotset.runtimes.base import Servable
from hotset.runtimes.lending import BeginAgainError
from hotset.workers.base import Want, Word
from hotset.workers.held import Held

Ask: TypeAlias = Callable[[int, Want], None]
"""Has the gateway asked; its word comes to ``answered`` with that number."""


class Shelf(Protocol):
    """Where the loaded models are: the host."""

    def borrow(self, handle: int) -> Held: ...

    def give_back(self, held: Held) -> None: ...


class _Loan:
    """What one request has borrowed so far. Its own thread's, or under ``lock`` where the handler starts others."""

    __slots__ = ("held", "is_over", "lock", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.held: dict[tuple[str, str], Held] = {}
        self.is_over = False
        self.lock = threading.Lock()


class Asking:
    """Implements ``Lender``. Thread-safe. Legal order: ``shelf`` is set; ``bind``; any requests; ``close``."""

    def __init__(self) -> None:
        self.shelf: Shelf
        self._ask: Ask | None = None
        self._numbers: Final = itertools.count(1)
        self._lock = threading.Lock()
        self._waiting: dict[int, SimpleQueue[Word]] = {}
        self._loans: dict[int, _Loan] = {}
        self._mine = threading.local()

    def bind(self, ask: Ask) -> None:
        """From now on models can be asked for."""
        self._ask = ask

    @contextmanager
    def request(self, number: int) -> Iterator[None]:
        loan = _Loan(number)
        with self._lock:
            self._loans[number] = loan
        self._mine.loan = loan
        try:
            yield
        except BeginAgainError as error:
            raise _begun_again() from error
        finally:
            self._mine.loan = None
            with self._lock:
                del self._loans[number]
            self._end(loan)
        if loan.is_over:  # a handler that caught it is not told again, and its answer is not believed
            raise _begun_again()

    def lend(self, name: str, version: str) -> Servable:
        loan = self._loan()
        with loan.lock:
            held = loan.held.get((name, version))
            if held is None:
                held = loan.held[name, version] = self._borrowed(loan, name, version)
        servable = held.payload or held.tensors
        assert servable is not None  # it is held
        return servable

    def answered(self, number: int, word: Word) -> None:
        """Take the gateway's word on what was asked under this number; one that nobody waits for is dropped."""
        with self._lock:
            waiting = self._waiting.pop(number, None)
        if waiting is not None:
            waiting.put(word)

    def close(self) -> None:
        """Nothing more will be answered: who waits is told so."""
        self._ask = None
        with self._lock:
            numbers = list(self._waiting)
        for number in numbers:
            self.answered(number, UnavailableError("the worker is stopping"))

    def _loan(self) -> _Loan:
        """Return that of this thread's request; in a thread that a handler started, the only one there is."""
        mine: _Loan | None = getattr(self._mine, "loan", None)
        if mine is not None:
            return mine
        with self._lock:
            loans = list(self._loans.values())
        if len(loans) == 1:
            return loans[0]
        if not loans:
            raise UnsupportedError(
                "a model was asked for outside of a request; ask for it in handle_post, and not in __init__ or a callback"
            )
        raise UnsupportedError(
            "a model was asked for in a thread that the handler started, while this process answers several requests, so"
            " nobody knows for which; ask for it in the handler's own thread, or set threads_per_process to 1"
        )

    def _borrowed(self, loan: _Loan, name: str, version: str) -> Held:
        if loan.is_over:
            raise BeginAgainError
        word = self._word_on(loan.number, name, version)
        if word is None:
            loan.is_over = True
            raise BeginAgainError
        if isinstance(word, HotsetError):
            raise word
        return self.shelf.borrow(word)

    def _word_on(self, request: int, name: str, version: str) -> Word:
        ask, number = self._ask, next(self._numbers)
        if ask is None:
            raise UnavailableError("no model can be asked for: the worker is starting or stopping")
        waiting: SimpleQueue[Word] = SimpleQueue()
        with self._lock:
            self._waiting[number] = waiting
        ask(number, Want(request, name, version))
        return waiting.get()  # the gateway keeps the deadline; where it is gone, this process ends

    def _end(self, loan: _Loan) -> None:
        with loan.lock:
            held, loan.held = loan.held, {}
        for one in held.values():
            self.shelf.give_back(one)


def _begun_again() -> UnavailableError:
    return UnavailableError("there was no room for another model, and the request is begun again")
