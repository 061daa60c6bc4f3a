from __future__ import annotations

import logging

import msgspec
import pytest

from hotset.api.errors import HTTP_STATUS, STATUS, HttpError, HttpKind, error_reply, wrong_method
from hotset.errors import (
    ErrorKind,
    HotsetError,
    InvalidInputError,
    LoadFailedError,
    NotFoundError,
    OverloadedError,
    UnavailableError,
)


def test_every_kind_has_a_status() -> None:
    assert set(STATUS) == set(ErrorKind)
    assert set(HTTP_STATUS) == set(HttpKind)


def test_no_kind_means_two_things() -> None:
    assert not {kind.value for kind in ErrorKind} & {kind.value for kind in HttpKind}


@pytest.mark.parametrize("kind", list(ErrorKind))
def test_the_body_has_the_sentence_and_the_kind(kind: ErrorKind) -> None:
    reply = error_reply(HotsetError("what was found", kind=kind))

    assert msgspec.json.decode(reply.body) == {"error": "what was found", "kind": kind.value}
    assert reply.content_type == b"application/json"
    assert reply.status == STATUS[kind]
    assert (b"retry-after" in dict(reply.headers)) == (reply.status == 503)


@pytest.mark.parametrize(
    ("retry_after_s", "shown"), [(0.0, b"1"), (0.2, b"1"), (1.0, b"1"), (1.01, b"2"), (29.5, b"30")]
)
def test_retry_after_is_in_whole_seconds_and_at_least_one(retry_after_s: float, shown: bytes) -> None:
    reply = error_reply(OverloadedError("full", retry_after_s=retry_after_s))
    assert dict(reply.headers)[b"retry-after"] == shown


def test_a_failed_load_says_when_it_is_tried_again() -> None:
    reply = error_reply(LoadFailedError("corrupt", retry_after_s=12.0))
    assert (reply.status, dict(reply.headers)[b"retry-after"]) == (500, b"12")


def test_a_prediction_past_its_deadline_is_504() -> None:
    reply = error_reply(UnavailableError("took too long", kind=ErrorKind.DEADLINE))
    assert reply.status == 504


def test_an_error_of_a_resolved_request_names_the_version() -> None:
    error = LoadFailedError("corrupt")
    error.key = ("zürich", 3)
    headers = dict(error_reply(error).headers)
    assert headers[b"x-model-name"] == b"z%C3%BCrich"
    assert headers[b"x-model-version"] == b"3"


def test_a_door_may_use_its_protocols_words() -> None:
    reply = error_reply(NotFoundError("no model 'x'"), message="Request for unknown model: 'x' is not found")
    assert msgspec.json.decode(reply.body)["error"] == "Request for unknown model: 'x' is not found"


def test_an_unexpected_error_is_logged_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        reply = error_reply(ValueError("the password is 123"))

    assert reply.status == 500
    assert msgspec.json.decode(reply.body)["kind"] == "internal"
    assert b"123" not in reply.body
    assert "the password is 123" in caplog.text


def test_an_http_error_keeps_its_headers() -> None:
    error = HttpError("expected POST", kind=HttpKind.METHOD_NOT_ALLOWED, headers=[(b"allow", b"POST")])
    reply = error_reply(error)
    assert (reply.status, list(reply.headers)) == (405, [(b"allow", b"POST")])


def test_a_message_that_json_cannot_hold_is_escaped() -> None:
    reply = error_reply(InvalidInputError("found: \udcff"))
    assert msgspec.json.decode(reply.body)["error"] == "found: \\udcff"


def test_a_slash_at_the_end_is_said_to_be_what_is_wrong() -> None:
    """``POST /models/paris/predict/`` is there for GET: as the model ``paris/predict/``."""
    error = wrong_method("POST", "/models/paris/predict/", "GET")
    reply = error_reply(error)
    assert reply.status == 404
    assert str(error) == "no such route: POST /models/paris/predict/; leave out the slash at its end"
    assert wrong_method("PUT", "/models/paris/predict", "POST").kind is HttpKind.METHOD_NOT_ALLOWED
