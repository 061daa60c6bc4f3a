"""A running server as the commands of the terminal see it: hotset's own routes over HTTP, one method for each.

Whatever goes wrong becomes a ``HotsetError`` with a sentence for people. Blocking; not for use inside the server.
httpx is imported by the first client: the command that starts a server comes by here too, and would wait for it.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar
from urllib.parse import quote

import msgspec

from hotset.errors import HotsetError, InvalidInputError, UnavailableError
from hotset.keys import LATEST, ModelRef
from hotset.status import ModelPage, ModelStatus, ServerStatus
from hotset.units import format_duration

if TYPE_CHECKING:
    import httpx

DEFAULT_URL: Final = "http://127.0.0.1:8500"

_LOCAL: Final = frozenset({"127.0.0.1", "localhost", "::1"})
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RequestStatus:
    """The predictions inside a server, and how many there may be."""

    inside: int
    max_queue: int
    draining: bool


@dataclass(frozen=True, slots=True)
class StatusPage:
    """What ``/status`` answers."""

    server: ServerStatus
    requests: RequestStatus


@dataclass(frozen=True, slots=True)
class Prediction:
    """An answer: its bytes as they came, and which version gave it (None if the server did not say)."""

    body: bytes
    content_type: str
    version: str | None
    seconds: float


class Client:
    """Legal order: any calls, then ``close``; or use it in a ``with``. Not thread-safe."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout_s: float = 60.0,
        token: str | None = None,
        authorities: str | None = None,
    ) -> None:
        """Connect to nothing yet. ``authorities``: a file of the certificates to trust instead of the usual ones.

        Raises:
            InvalidInputError: ``url`` is no address of a server.
        """
        import httpx

        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        try:
            host = httpx.URL(self.url).host if self.url.startswith(("http://", "https://")) else ""
        except httpx.InvalidURL as error:
            raise InvalidInputError(f"expected a URL such as {DEFAULT_URL}, found: {url}") from error
        if not host:
            raise InvalidInputError(f"expected a URL such as {DEFAULT_URL}, found: {url}")
        # A proxy from the environment is not on the way to this machine, and the admin's verbs refuse one.
        self._http = httpx.Client(
            base_url=self.url,
            timeout=timeout_s,
            trust_env=host not in _LOCAL,
            verify=ssl.create_default_context(cafile=authorities) if authorities else True,
            headers={"authorization": f"Bearer {token}"} if token else None,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def models(self, *, prefix: str = "", limit: int = 100, after: str = "") -> ModelPage:
        """Return a page of the models whose names start with ``prefix`` and sort behind ``after``."""
        query = {"prefix": prefix, "limit": str(limit), "after": after}
        return self._as(ModelPage, self._send("GET", "/models", params={k: v for k, v in query.items() if v}))

    def model(self, ref: ModelRef) -> ModelStatus:
        """Return one model with every version, or with the one that ``ref`` names."""
        return self._as(ModelStatus, self._send("GET", _path(ref)))

    def verb(self, name: str, ref: ModelRef) -> ModelStatus:
        """Return the model after ``load``, ``unload``, ``pin`` or ``unpin`` of it is done."""
        return self._as(ModelStatus, self._send("POST", f"{_path(ref)}/{name}"))

    def status(self) -> StatusPage:
        return self._as(StatusPage, self._send("GET", "/status"))

    def predict(self, ref: ModelRef, body: bytes, *, content_type: str) -> Prediction:
        """Return the model's answer to a payload."""
        answer = self._send(
            "POST", f"{_path(ref)}/predict", content=body, headers={"content-type": content_type}
        )
        return Prediction(
            answer.content,
            answer.headers.get("content-type", ""),
            answer.headers.get("x-model-version"),
            answer.elapsed.total_seconds(),
        )

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        import httpx

        try:
            answer = self._http.request(method, path, params=params, content=content, headers=headers)
        except httpx.ConnectError as error:
            raise UnavailableError(
                f"no server answers at {self.url}; start one with 'hotset serve ./models',"
                " or name another with --url"
            ) from error
        except httpx.TimeoutException as error:
            limit = format_duration(self._timeout_s)
            raise UnavailableError(f"{self.url} did not answer within {limit}; see --timeout") from error
        except httpx.HTTPError as error:
            raise UnavailableError(f"the connection to {self.url} failed: {error}") from error
        if answer.status_code >= 400:
            raise HotsetError(self._reason(answer))
        return answer

    def _reason(self, answer: httpx.Response) -> str:
        """Return the server's own words for an error, or what there is instead."""
        try:
            body = msgspec.json.decode(answer.content)
        except (msgspec.DecodeError, UnicodeDecodeError):
            body = None
        if isinstance(body, dict) and isinstance(body.get("error"), str):
            retry = answer.headers.get("retry-after")
            reason: str = body["error"]
            return reason + (f"; try again in {retry} s" if retry else "")
        return f"{self.url} answered {answer.status_code} without a reason; is it a hotset server?"

    def _as(self, type_: type[T], answer: httpx.Response) -> T:
        try:
            return msgspec.json.decode(answer.content, type=type_)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise HotsetError(
                f"{self.url} answered something unexpected; is it a hotset server of this version? {error}"
            ) from error


def to_json(value: Any) -> str:
    """Return what a method gave as JSON, in the server's own form."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode("utf-8")


def _path(ref: ModelRef) -> str:
    version = "" if ref.version == LATEST else f"/versions/{quote(str(ref.version), safe='')}"
    return f"/models/{quote(ref.name, safe='')}{version}"
