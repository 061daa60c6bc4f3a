"""What a request has to say of its host."""

from __future__ import annotations

import pytest

from hotset.api.host_header import host_fault


@pytest.mark.parametrize(
    "host",
    [
        b"hotset",
        b"hotset:8500",
        b"127.0.0.1:80",
        b"[::1]:8500",
        b"[fe80::1%25eth0]",
        b"a_b.c",
        b"a%2Fb",
        b"",
        b"h:",
    ],
)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_one_host_is_what_is_asked_for(host: bytes, version: str) -> None:
    assert host_fault([host], version=version) is None


def test_only_a_client_of_http_1_0_may_leave_it_out() -> None:
    assert host_fault([], version="1.0") is None
    assert host_fault([], version="1.1") == "expected a Host header in a request of HTTP/1.1, found none"


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_more_than_one_are_too_many_even_if_they_agree(version: str) -> None:
    assert host_fault([b"a", b"a", b"a"], version=version) == "expected one Host header, found 3"


@pytest.mark.parametrize(
    "host", [b"a b", b"a/b", b"eve@hotset", b"a#b", b"a?b", b"\xe4", b"a\tb", b'"a"', b"a\\b"]
)
def test_what_cannot_be_a_host_is_told(host: bytes) -> None:
    fault = host_fault([host], version="1.1")
    assert fault is not None
    assert fault.endswith(host.decode("latin-1"))


def test_of_a_long_one_the_beginning_is_told() -> None:
    fault = host_fault([b"/" * 10_000], version="1.1")
    assert fault is not None
    assert len(fault) < 200
