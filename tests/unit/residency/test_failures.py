from __future__ import annotations

import pytest

from hotset.errors import CapacityError, ErrorKind, LoadFailedError, OverloadedError
from hotset.keys import Fingerprint, ModelKey
from hotset.residency.failures import Failures, backoff_s

KEY = ModelKey("paris", 1)
FILES, OTHER = Fingerprint("f1"), Fingerprint("f2")


@pytest.fixture
def failures() -> Failures:
    return Failures(first_s=5.0, most_s=60.0)


@pytest.mark.parametrize(("count", "wait_s"), [(1, 5.0), (2, 10.0), (4, 40.0), (5, 60.0), (10_000, 60.0)])
def test_the_wait_doubles_up_to_a_limit(count: int, wait_s: float) -> None:
    assert backoff_s(count, first_s=5.0, most_s=60.0) == wait_s


def test_failures_in_a_row_are_counted(failures: Failures) -> None:
    for count, retry_at_s in ((1, 105.0), (2, 110.0), (3, 120.0)):
        failure = failures.note(KEY, FILES, LoadFailedError("bad"), 100.0)
        assert (failure.count, failure.retry_at_s) == (count, retry_at_s)


def test_other_files_begin_anew(failures: Failures) -> None:
    failures.note(KEY, FILES, LoadFailedError("bad"), 100.0)
    assert failures.get(KEY, OTHER) is None
    failures.refuse(KEY, OTHER, 100.0)
    assert failures.note(KEY, OTHER, LoadFailedError("bad"), 100.0).count == 1
    assert len(failures) == 1


def test_a_load_is_refused_until_the_retry_is_due_and_counts_on_after_it(failures: Failures) -> None:
    failures.note(KEY, FILES, LoadFailedError("ValueError: bad pickle"), 100.0)
    with pytest.raises(LoadFailedError, match="bad pickle") as error:
        failures.refuse(KEY, FILES, 102.0)
    assert error.value.retry_after_s == 3.0
    failures.refuse(KEY, FILES, 105.0)
    assert failures.get(KEY, FILES) is not None
    assert failures.note(KEY, FILES, LoadFailedError("bad"), 105.0).count == 2


@pytest.mark.parametrize(
    ("noted", "raised"),
    [
        (CapacityError("too large", kind=ErrorKind.TOO_LARGE), CapacityError),
        (LoadFailedError("bad"), LoadFailedError),
        (OverloadedError("odd"), LoadFailedError),
    ],
)
def test_the_refusal_is_of_the_failures_kind(failures: Failures, noted: Exception, raised: type) -> None:
    failures.note(KEY, FILES, noted, 100.0)  # type: ignore[arg-type]
    with pytest.raises(raised) as error:
        failures.refuse(KEY, FILES, 100.0)
    assert error.value.kind is noted.kind  # type: ignore[attr-defined]


def test_what_is_forgotten_may_be_tried(failures: Failures) -> None:
    failures.note(KEY, FILES, LoadFailedError("bad"), 100.0)
    failures.forget(KEY)
    failures.forget(KEY)
    failures.refuse(KEY, FILES, 100.0)
    assert len(failures) == 0


def test_a_quarantine_is_not_replaced_by_what_the_last_load_says() -> None:
    failures = Failures(first_s=10.0, most_s=60.0)
    quarantine = LoadFailedError("one process after the other", kind=ErrorKind.QUARANTINED)
    first = failures.note(KEY, FILES, quarantine, 0.0, least=2)
    assert (first.count, first.retry_at_s) == (2, 20.0)
    assert failures.note(KEY, FILES, LoadFailedError("the worker ended"), 1.0) is first
    assert failures.note(KEY, FILES, LoadFailedError("bad pickle"), 20.0).kind is ErrorKind.LOAD_FAILED
