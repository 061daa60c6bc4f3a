"""How ``drain_timeout`` is divided between requests and workers."""

from __future__ import annotations

import pytest

from hotset.drain_times import TimeToEnd, time_to_end


@pytest.mark.parametrize(
    ("drain_timeout_s", "divided"),
    [
        (30.0, TimeToEnd(28.0, 29.0)),
        (5.0, TimeToEnd(4.0, 4.5)),
        (0.5, TimeToEnd(0.4, 1.0)),
        (0.0, TimeToEnd(0.0, 1.0)),
    ],
)
def test_most_of_it_is_for_requests_and_workers_have_time_to_unload(
    drain_timeout_s: float, divided: TimeToEnd
) -> None:
    assert time_to_end(drain_timeout_s) == pytest.approx(divided)
