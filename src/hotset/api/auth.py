"""Who may do what: the verdict on a request, from its bearer token, or without tokens from where it comes.

Every door asks a ``Gate`` before it does anything for a client. ``OpenGate`` is that of a server without ``auth``,
``TokenGate`` that of one with it. Nothing here shows a token, or keeps one that was not good.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from enum import Enum, auto
from typing import Final, Protocol

from hotset.api.guard import local_only
from hotset.api.headers import AUTHORIZATION
from hotset.api.reply import RawHeader
from hotset.api.reply import Scope as Request
from hotset.errors import ErrorKind, HotsetError
from hotset.tokens import EVERYTHING, Grant, Scope, Token, digest_of

MOST_KEPT: Final = 1024
"""Verdicts on headers; they are only those of good tokens, which clients may write in a few ways."""

_BEARER: Final = b"bearer "


class Access(Enum):
    """What an operation asks of whoever wants it."""

    OPEN = auto()
    """Nothing: health, for probes that have no token."""

    SEE = auto()
    """Any token; of models only those are shown that it may name."""

    PREDICT = auto()
    """The scope ``predict``."""

    FIGURES = auto()
    """The scope ``metrics`` or ``admin``: they are of the whole server, its models' names included."""

    ADMIN = auto()
    """The scope ``admin``; without tokens, to be a program on this machine."""

    PLATFORM = auto()
    """The scope ``admin``; without tokens nothing: a platform has none, and asks from another machine."""


_ENOUGH: Final = {
    Access.SEE: frozenset(Scope),
    Access.PREDICT: frozenset({Scope.PREDICT}),
    Access.FIGURES: frozenset({Scope.METRICS, Scope.ADMIN}),
    Access.ADMIN: frozenset({Scope.ADMIN}),
    Access.PLATFORM: frozenset({Scope.ADMIN}),
}


class Gate(Protocol):
    """Owned by the event loop."""

    @property
    def asks_for_tokens(self) -> bool: ...

    def admit(self, request: Request, access: Access) -> Grant:
        """Return what whoever sent ``request`` may do; which model it names is to be looked at with that.

        Raises:
            HotsetError: kind ``unauthenticated`` or ``forbidden``.
        """
        ...


class OpenGate:
    """Without tokens: everybody may do everything but the admin's verbs, which are for programs on this machine."""

    asks_for_tokens: Final = False

    def admit(self, request: Request, access: Access) -> Grant:
        if access is Access.ADMIN:
            local_only(request)
        return EVERYTHING


OPEN_GATE: Final = OpenGate()


class TokenGate:
    """Knows the tokens in force. Owned by the event loop; ``replace`` at any time, for all requests from then on."""

    asks_for_tokens: Final = True

    def __init__(self, tokens: Iterable[Token]) -> None:
        self._tokens = tuple(tokens)
        self._good: dict[bytes, Grant] = {}

    def replace(self, tokens: Iterable[Token]) -> None:
        """Put other tokens in force."""
        self._tokens = tuple(tokens)
        self._good.clear()

    def admit(self, request: Request, access: Access) -> Grant:
        if access is Access.OPEN:
            return EVERYTHING
        return self.admitted(request["headers"], access)

    def admitted(self, headers: Iterable[RawHeader], access: Access) -> Grant:
        """Return what the token in these headers may do.

        Raises:
            HotsetError: there is none, or not one with a scope that is enough.
        """
        values = [value for name, value in headers if name == AUTHORIZATION]
        if len(values) != 1:  # of several, a proxy may have looked at another one
            raise _unauthenticated(f"expected a token, found {'several' if values else 'none'}")
        # A table that is hashed with a secret of this process tells nobody by its time how much of a token is
        # right, and what is in it are tokens that were good.
        grant = self._good.get(values[0]) or self._checked(values[0])
        if grant.scopes.isdisjoint(_ENOUGH[access]):
            raise HotsetError(
                f"the token {grant.name!r} does not have the scope for this; expected one of: "
                f"{', '.join(sorted(_ENOUGH[access]))}",
                kind=ErrorKind.FORBIDDEN,
            )
        return grant

    def _checked(self, value: bytes) -> Grant:
        """Compare with every token, and in the same time whichever it is."""
        if value[: len(_BEARER)].lower() != _BEARER:
            raise _unauthenticated("expected a token, found another kind of credentials")
        digest = digest_of(value[len(_BEARER) :].strip())
        found: Grant | None = None
        for token in self._tokens:
            if hmac.compare_digest(token.digest, digest):
                found = token.grant
        if found is None:
            raise _unauthenticated("found a token that is not known here")
        if len(self._good) >= MOST_KEPT:
            self._good.clear()
        self._good[value] = found
        return found


class ApartGate:
    """Another gate for a port beside which there is one for the admin: what is the admin's is refused here."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.asks_for_tokens: Final = gate.asks_for_tokens

    def admit(self, request: Request, access: Access) -> Grant:
        if access in {Access.ADMIN, Access.FIGURES}:
            raise HotsetError(
                "expected this request on the port that is the admin's (admin_port)", kind=ErrorKind.FORBIDDEN
            )
        return self._gate.admit(request, access)


def check_model(grant: Grant, model: str) -> None:
    """Refuse a model that may not be named, whether there is one or not.

    Raises:
        HotsetError: kind ``forbidden``.
    """
    if not grant.covers(model):
        raise HotsetError(
            f"the token {grant.name!r} may not ask for the model {model!r}", kind=ErrorKind.FORBIDDEN
        )


def _unauthenticated(found: str) -> HotsetError:
    return HotsetError(
        f"{found}; send the header 'Authorization: Bearer <token>'", kind=ErrorKind.UNAUTHENTICATED
    )
