"""Bearer tokens as they are kept: made, written down, read again, and what they let their owners name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotset.errors import ConfigError
from hotset.tokens import (
    EVERYTHING,
    SECRET_PREFIX,
    Grant,
    Scope,
    TokenSource,
    digest_of,
    line_of,
    new_secret,
    read_tokens,
    tokens_of,
)

PREDICT = frozenset({Scope.PREDICT})
GOOD = line_of("hst_one", Grant("one", PREDICT))


def test_a_token_is_long_new_each_time_and_known_by_its_beginning() -> None:
    made = {new_secret() for _ in range(50)}
    assert len(made) == 50
    assert all(secret.startswith(SECRET_PREFIX) and len(secret) > 40 for secret in made)


@given(
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
    st.sets(st.sampled_from(Scope), min_size=1),
    st.lists(st.from_regex(r"[a-z/?\[\]!-]{1,8}", fullmatch=True), max_size=3),
)
def test_a_line_says_all_but_the_token(name: str, scopes: set[Scope], patterns: list[str]) -> None:
    grant, secret = Grant(name, frozenset(scopes), tuple(patterns)), new_secret()
    line = line_of(secret, grant)
    assert secret not in line
    assert secret.removeprefix(SECRET_PREFIX) not in line
    (token,) = read_tokens([line], place="here")
    assert token.digest == digest_of(secret.encode())
    assert token.grant == grant


def test_lines_that_are_empty_or_begin_with_a_hash_are_none() -> None:
    assert [token.grant.name for token in read_tokens(["", "# x", f"  {GOOD}  "], place="here")] == ["one"]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], "found no tokens"),
        (["# nothing"], "found no tokens"),
        (
            ["hst_canary name=a scopes=predict"],
            "line 1: expected the hash of a token and not the token itself",
        ),
        (["sha256:canary name=a scopes=predict"], "expected the hash"),
        ([GOOD, GOOD], "found one name on two lines"),
        ([GOOD, GOOD.replace("name=one", "name=two")], "found one token on two lines"),
        ([GOOD.replace("name=one", "name=")], "each once and with a value"),
        ([GOOD.replace("name=one", "")], "expected a name"),
        ([GOOD + " canary=1"], "each once and with a value"),
        ([GOOD + " name=canary"], "each once and with a value"),
        ([GOOD.replace("scopes=predict", "scopes=canary")], "expected scopes out of predict, metrics, admin"),
        ([GOOD.replace("scopes=predict", "")], "expected scopes"),
        ([GOOD.replace("name=one", "name=/canary")], "expected a name"),
    ],
)
def test_what_is_malformed_is_told_without_what_stands_there(lines: list[str], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_tokens(lines, place="here")
    assert expected in str(caught.value)
    assert "canary" not in str(caught.value)


def test_tokens_come_from_a_file_or_from_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"{GOOD}\n")
    assert tokens_of(TokenSource(path=str(file))) == tokens_of(TokenSource(lines=(GOOD,)))
    with pytest.raises(ConfigError, match=r"cannot read the file of tokens .*missing: No such file"):
        tokens_of(TokenSource(path=str(tmp_path / "missing")))
    file.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="it is not UTF-8"):
        tokens_of(TokenSource(path=str(file)))


@pytest.mark.parametrize(
    ("patterns", "model", "covered"),
    [
        ((), "anything/at all", True),
        (("paris",), "paris", True),
        (("paris",), "paris2", False),
        (("paris",), "Paris", False),
        (("acme/*",), "acme/rome", True),
        (("acme/*",), "acme/rome/old", True),
        (("acme/*",), "acme", False),
        (("acme/*",), "acmes/rome", False),
        (("a?c", "x[12]"), "abc", True),
        (("a?c", "x[12]"), "x2", True),
        (("a?c", "x[12]"), "x3", False),
        (("paris",), "paris\nx", False),
        (("paris",), "", False),
    ],
)
def test_patterns_cover_names(patterns: tuple[str, ...], model: str, covered: bool) -> None:
    assert Grant("a", PREDICT, patterns).covers(model) is covered


@given(
    st.lists(st.from_regex(r"[ab]{0,3}[*?]?[ab]{0,2}", fullmatch=True).filter(bool), max_size=4),
    st.text("ab", max_size=6),
)
def test_what_is_covered_begins_with_just_one_of_the_prefixes(patterns: list[str], model: str) -> None:
    grant = Grant("a", PREDICT, tuple(patterns))
    beginnings = [prefix for prefix in grant.prefixes if model.startswith(prefix)]
    assert len(beginnings) <= 1
    assert beginnings or not grant.covers(model)


def test_without_tokens_everybody_may_name_everything() -> None:
    assert EVERYTHING.sees_all
    assert EVERYTHING.scopes == set(Scope)
