"""Bearer tokens as they are kept: a name, the digest of the secret, what it may do and which models it may name.

The lines of a file, or of a variable; ``hotset token`` makes them, the settings and ``api/auth`` read them. Nothing here
holds a token itself, and no message shows one.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import translate
from functools import cached_property
from pathlib import Path
from typing import Final

from hotset.errors import ConfigError

SECRET_PREFIX: Final = "hst_"  # noqa: S105 - it is where a secret begins, and none
"""How every token begins, so that whoever finds one, and scanners for secrets, know what it is."""

_SECRET_BYTES: Final = 32
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})\Z", re.ASCII)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z", re.ASCII)
_FIELDS: Final = ("name", "scopes", "models")
_WILD: Final = re.compile(r"[*?\[]")
_LINE: Final = "sha256:<64 digits> name=ci scopes=predict models=acme/*,paris"


class Scope(StrEnum):
    """What a token may do: ask models; read the figures of the server; load and unload, which includes the figures."""

    PREDICT = "predict"
    METRICS = "metrics"
    ADMIN = "admin"


@dataclass(frozen=True)
class Grant:
    """What whoever asks may do. Without ``patterns`` it may name every model.

    Frozen, and hashed by what it is; the compiled patterns are kept beside it.
    """

    name: str
    scopes: frozenset[Scope]
    patterns: tuple[str, ...] = ()

    @property
    def sees_all(self) -> bool:
        return not self.patterns

    def covers(self, model: str) -> bool:
        """Whether it may name this model, if there is one."""
        return not self.patterns or self._expression.match(model) is not None

    @cached_property
    def prefixes(self) -> tuple[str, ...]:
        """Where the models are that it may name: beginnings of names, sorted, none of which is the beginning of another."""
        found: list[str] = []
        for prefix in sorted({_WILD.split(pattern, maxsplit=1)[0] for pattern in self.patterns} or {""}):
            if not found or not prefix.startswith(found[-1]):
                found.append(prefix)
        return tuple(found)

    @cached_property
    def _expression(self) -> re.Pattern[str]:
        return re.compile("|".join(translate(pattern) for pattern in self.patterns))


EVERYTHING: Final = Grant("", frozenset(Scope))
"""What everybody may do where there are no tokens."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token: the SHA-256 of the secret, which is random enough that nothing slower is needed, and what it grants."""

    digest: bytes
    grant: Grant


@dataclass(frozen=True, slots=True)
class TokenSource:
    """Where tokens stand: in the file ``path``, or in ``lines`` themselves."""

    path: str | None = None
    lines: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.path if self.path is not None else f"{len(self.lines)} tokens"


def new_secret() -> str:
    """Return a new token, which nobody can guess."""
    return SECRET_PREFIX + secrets.token_urlsafe(_SECRET_BYTES)


def digest_of(secret: bytes) -> bytes:
    """Return what is kept of a token."""
    return hashlib.sha256(secret).digest()


def line_of(secret: str, grant: Grant) -> str:
    """Return the line that stands for a token; ``read_tokens`` reads it."""
    words = [f"sha256:{digest_of(secret.encode()).hex()}", f"name={grant.name}"]
    words.append(f"scopes={','.join(sorted(grant.scopes))}")
    return " ".join([*words, f"models={','.join(grant.patterns)}"] if grant.patterns else words)


def read_tokens(lines: Iterable[str], *, place: str) -> tuple[Token, ...]:
    """Return the tokens of lines; empty ones, and those that begin with ``#``, are none.

    Raises:
        ConfigError: a line is malformed, or a name or a token stands twice, or there is none. Lines are told by their
            numbers, because a secret may have got into one.
    """
    tokens: list[Token] = []
    for number, line in enumerate(lines, 1):
        words = line.strip()
        if words and not words.startswith("#"):
            tokens.append(_read(words, f"{place}, line {number}"))
    for what, found in (("name", [it.grant.name for it in tokens]), ("token", [it.digest for it in tokens])):
        if len(set(found)) < len(found):
            raise ConfigError(f"{place}: found one {what} on two lines, expected each of them once")
    if not tokens:
        raise ConfigError(
            f"{place}: found no tokens, expected lines such as: {_LINE}; `hotset token` makes them"
        )
    return tuple(tokens)


def tokens_of(source: TokenSource) -> tuple[Token, ...]:
    """Return the tokens of the settings.

    Raises:
        ConfigError: the file cannot be read, or something in it is malformed.
    """
    if source.path is None:
        return read_tokens(source.lines, place="auth")
    try:
        text = Path(source.path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"auth: cannot read the file of tokens {source.path}: {reason}") from error
    return read_tokens(text.splitlines(), place=f"auth: {source.path}")


def _read(line: str, place: str) -> Token:
    first, *rest = line.split()
    digest = _DIGEST.match(first)
    if digest is None:
        raise ConfigError(
            f"{place}: expected the hash of a token and not the token itself: {_LINE}; `hotset token` makes it"
        )
    fields = dict(word.partition("=")[::2] for word in rest)
    if len(fields) < len(rest) or not set(fields) <= set(_FIELDS) or "" in fields.values():
        raise ConfigError(
            f"{place}: expected {', '.join(_FIELDS)} behind the hash, each once and with a value: {_LINE}"
        )
    return Token(bytes.fromhex(digest[1]), grant_of(fields, place=place))


def grant_of(fields: dict[str, str], *, place: str) -> Grant:
    """Return the grant that ``name``, ``scopes`` and ``models`` describe.

    Raises:
        ConfigError: one of them is malformed, or there is no name or no scope.
    """
    name = fields.get("name", "")
    if not _NAME.match(name):
        raise ConfigError(f"{place}: expected a name of letters, digits, '.', '_' and '-', 64 at most")
    words = fields.get("scopes", "").split(",")
    if not set(words) <= set(Scope):
        raise ConfigError(f"{place}: expected scopes out of {', '.join(Scope)}, joined by commas")
    patterns = tuple(pattern for pattern in fields.get("models", "").split(",") if pattern)
    return Grant(name, frozenset(map(Scope, words)), () if "*" in patterns else patterns)
