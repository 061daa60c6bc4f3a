"""The error tree: every kind is used and named, and nothing in it knows of a protocol."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import pytest

from hotset import errors
from hotset.errors import ErrorKind, HotsetError, UnavailableError


def tree(root: type[HotsetError]) -> Iterator[type[HotsetError]]:
    yield root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


CLASSES = list(tree(HotsetError))


def drawn() -> dict[str, str]:
    """Class → the class above it, as the module's docstring draws them."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"([│ ]*)(├── |└── )?(\w+Error)\b", line)
        if match is None:
            continue
        depth = 0 if match[2] is None else len(match[1]) // 4 + 1
        del path[depth:]
        if path:
            parents[match[3]] = path[-1]
        path.append(match[3])
    return parents


def test_the_docstring_draws_the_tree_as_it_is():
    actual = {cls.__name__: cls.__bases__[0].__name__ for cls in CLASSES if cls is not HotsetError}
    assert drawn() == actual


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_is_a_sentence_with_a_kind_and_a_docstring(cls: type[HotsetError]):
    error = cls("what was found, what was expected")
    assert str(error) == "what was found, what was expected"
    assert isinstance(error.kind, ErrorKind)
    assert inspect.getdoc(cls)


@pytest.mark.parametrize("cls", CLASSES)
def test_a_kind_given_is_that_of_the_one_error_and_not_of_its_class(cls: type[HotsetError]):
    own = cls.kind
    assert cls("", kind=ErrorKind.FORBIDDEN).kind is ErrorKind.FORBIDDEN
    assert cls.kind is own
    assert cls("").kind is own


@pytest.mark.parametrize("cls", CLASSES)
def test_what_is_unavailable_says_when_to_ask_again(cls: type[HotsetError]):
    if issubclass(cls, UnavailableError):
        assert cls("").retry_after_s == 1.0
    else:
        assert cls("").retry_after_s is None
    assert cls("", retry_after_s=2.5).retry_after_s == 2.5


def test_classes_differ_in_kind_unless_they_say_the_same():
    kinds = [cls.kind for cls in CLASSES]
    assert len(kinds) == len(set(kinds))


def test_a_kind_is_stable_text():
    """Clients match on it, so a value is its name and never changes with it."""
    assert all(kind.value == kind.name.lower() for kind in ErrorKind)
    assert str(ErrorKind.TOO_LARGE) == "too_large"


def test_the_cause_is_kept():
    with pytest.raises(errors.CapacityError) as info:
        try:
            raise OSError("no space left")
        except OSError as cause:
            raise errors.CapacityError("the disk is full", kind=ErrorKind.DISK_FULL) from cause
    assert isinstance(info.value.__cause__, OSError)
    assert info.value.kind is ErrorKind.DISK_FULL
