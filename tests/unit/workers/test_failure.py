from __future__ import annotations

from collections.abc import Iterator

import pytest

from hotset import errors
from hotset.errors import ErrorKind, HotsetError, LoadFailedError, UnavailableError
from hotset.workers.failure import MAX_MESSAGE, Failure, pack, unpack


def tree(root: type[HotsetError]) -> Iterator[type[HotsetError]]:
    if root.__module__ == errors.__name__:
        yield root
    for child in root.__subclasses__():
        yield from tree(child)


@pytest.mark.parametrize("error_class", list(tree(HotsetError)), ids=lambda one: one.__name__)
def test_every_class_of_the_tree_comes_back_as_itself(error_class: type[HotsetError]) -> None:
    sent = error_class("what happened", kind=ErrorKind.FORBIDDEN, retry_after_s=2.5)
    got = unpack(pack(sent))
    assert type(got) is error_class
    assert (str(got), got.kind, got.retry_after_s) == ("what happened", ErrorKind.FORBIDDEN, 2.5)


@pytest.mark.parametrize("error_class", list(tree(HotsetError)), ids=lambda one: one.__name__)
def test_the_defaults_of_every_class_survive(error_class: type[HotsetError]) -> None:
    sent = error_class("x")
    got = unpack(pack(sent))
    assert (got.kind, got.retry_after_s) == (sent.kind, sent.retry_after_s)


def test_a_class_from_elsewhere_comes_back_as_its_nearest_base() -> None:
    class StrangeError(UnavailableError):
        pass

    assert type(unpack(pack(StrangeError("x")))) is UnavailableError


def test_what_a_child_that_went_wrong_says_is_an_error_of_ours() -> None:
    error = unpack(Failure("SystemExit", "no such kind", "gone wrong", None))
    assert type(error) is HotsetError
    assert (error.kind, str(error)) == (ErrorKind.INTERNAL, "gone wrong")


def test_a_message_without_end_is_cut() -> None:
    assert len(str(unpack(pack(LoadFailedError("x" * 1_000_000))))) == MAX_MESSAGE + 1
