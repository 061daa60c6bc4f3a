from __future__ import annotations

import pytest

from hotset.api.guard import local_only
from hotset.errors import ErrorKind, HotsetError


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "::ffff:127.0.0.1"])
def test_this_machine_may(host: str) -> None:
    local_only({"client": (host, 1), "headers": []})


@pytest.mark.parametrize(
    "client", [("10.0.0.7", 1), ("::ffff:10.0.0.7", 1), ("testclient", 1), None, ("", 0)]
)
def test_others_may_not(client: tuple[str, int] | None) -> None:
    with pytest.raises(HotsetError, match="own machine") as caught:
        local_only({"client": client, "headers": []})
    assert caught.value.kind is ErrorKind.FORBIDDEN


@pytest.mark.parametrize(
    "header",
    [
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-forwarded-host",
        b"x-envoy-external-address",
        b"x-real-ip",
        b"via",
        b"cf-connecting-ip",
        b"origin",
        b"sec-fetch-site",
    ],
)
def test_a_proxy_on_this_machine_lets_nobody_in(header: bytes) -> None:
    with pytest.raises(HotsetError):
        local_only({"client": ("127.0.0.1", 1), "headers": [(header, b"10.0.0.7")]})
