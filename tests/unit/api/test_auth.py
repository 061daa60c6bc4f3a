"""Who may do what: the gates alone, and behind every door."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from hotset.api.app import App
from hotset.api.auth import MOST_KEPT, OPEN_GATE, Access, ApartGate, TokenGate, check_model
from hotset.api.grpc.inference import Inference
from hotset.api.grpc.management import Management
from hotset.api.grpc.reflection import Reflection
from hotset.api.routes import RouteTable
from hotset.errors import ErrorKind, HotsetError
from hotset.messages.pool import message_class
from hotset.tokens import EVERYTHING, Grant, Scope, Token, digest_of
from unit.api.rpc import FakeContext
from unit.api.scripted import Bench, ScriptedModel

PREDICT = Grant("predicts", frozenset({Scope.PREDICT}), ("acme*",))
ADMIN = Grant("admins", frozenset({Scope.ADMIN}))
METRICS = Grant("scrapes", frozenset({Scope.METRICS}))
GRANTS = {"hst_predict": PREDICT, "hst_admin": ADMIN, "hst_metrics": METRICS}
TOKENS = [Token(digest_of(secret.encode()), grant) for secret, grant in GRANTS.items()]


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def request(value: bytes | None, client: tuple[str, int] = ("10.0.0.7", 1)) -> dict[str, Any]:
    return {"client": client, "headers": [] if value is None else [(b"authorization", value)]}


def kind_of(gate: Any, value: bytes | None, access: Access) -> ErrorKind | None:
    try:
        gate.admit(request(value), access)
    except HotsetError as error:
        return error.kind
    return None


@pytest.mark.parametrize(
    ("access", "enough"),
    [
        (Access.SEE, {"hst_predict", "hst_admin", "hst_metrics"}),
        (Access.PREDICT, {"hst_predict"}),
        (Access.FIGURES, {"hst_admin", "hst_metrics"}),
        (Access.ADMIN, {"hst_admin"}),
        (Access.PLATFORM, {"hst_admin"}),
    ],
)
def test_a_token_has_scopes(access: Access, enough: set[str]) -> None:
    gate = TokenGate(TOKENS)
    for secret in GRANTS:
        for _ in range(2):  # the second time it is remembered
            refused = None if secret in enough else ErrorKind.FORBIDDEN
            assert kind_of(gate, f"Bearer {secret}".encode(), access) == refused
    assert kind_of(gate, None, access) is ErrorKind.UNAUTHENTICATED


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer hst_canary",
        b"Basic hst_predict",
        b"hst_predict",
        b"Bearer\xff\xfe",
    ],
)
def test_what_is_no_token_is_refused_and_neither_shown_nor_kept(value: bytes) -> None:
    gate = TokenGate(TOKENS)
    with pytest.raises(HotsetError) as caught:
        gate.admit(request(value), Access.SEE)
    assert caught.value.kind is ErrorKind.UNAUTHENTICATED
    assert "hst_" not in str(caught.value)
    assert not gate._good


@pytest.mark.parametrize("value", [b"Bearer hst_admin", b"bearer hst_admin", b"BEARER   hst_admin  "])
def test_the_word_before_a_token_may_be_written_in_any_way(value: bytes) -> None:
    assert TokenGate(TOKENS).admit(request(value), Access.ADMIN) == ADMIN


def test_of_several_tokens_none_counts() -> None:
    twice = [(b"authorization", b"Bearer hst_admin"), (b"authorization", b"Bearer hst_admin")]
    with pytest.raises(HotsetError, match="expected a token, found several") as caught:
        TokenGate(TOKENS).admitted(twice, Access.SEE)
    assert caught.value.kind is ErrorKind.UNAUTHENTICATED


def test_what_is_remembered_is_bounded() -> None:
    gate = TokenGate(TOKENS)
    for spaces in range(3 * MOST_KEPT):
        gate.admit(request(b"Bearer " + b" " * spaces + b"hst_admin"), Access.ADMIN)
        assert len(gate._good) <= MOST_KEPT


def test_tokens_that_are_replaced_are_good_no_more() -> None:
    gate = TokenGate(TOKENS)
    assert kind_of(gate, b"Bearer hst_admin", Access.ADMIN) is None
    gate.replace(TOKENS[:1])
    assert kind_of(gate, b"Bearer hst_admin", Access.ADMIN) is ErrorKind.UNAUTHENTICATED
    assert kind_of(gate, b"Bearer hst_predict", Access.PREDICT) is None


@pytest.mark.parametrize("access", Access)
def test_without_tokens_only_the_admins_verbs_ask_where_it_comes_from(access: Access) -> None:
    refused = ErrorKind.FORBIDDEN if access is Access.ADMIN else None
    assert kind_of(OPEN_GATE, None, access) == refused
    assert OPEN_GATE.admit(request(None, ("127.0.0.1", 1)), access) is EVERYTHING


@pytest.mark.parametrize("access", Access)
def test_beside_a_port_for_the_admin_there_is_nothing_of_the_admins(access: Access) -> None:
    gate = ApartGate(OPEN_GATE)
    refused = access in {Access.ADMIN, Access.FIGURES}
    assert kind_of(gate, None, access) == (ErrorKind.FORBIDDEN if refused else None)


def test_a_model_that_may_not_be_named_is_refused_whether_there_is_one_or_not() -> None:
    check_model(PREDICT, "acme-rome")
    with pytest.raises(HotsetError, match="the token 'predicts' may not ask for the model 'paris'") as caught:
        check_model(PREDICT, "paris")
    assert caught.value.kind is ErrorKind.FORBIDDEN


# Behind every door


@pytest.fixture
def models(bench: Bench) -> Bench:
    bench.residency.scripted = {name: ScriptedModel([1]) for name in ("acme-oslo", "acme-rome", "paris")}
    return bench


def app_of(bench: Bench, **options: Any) -> App:
    return App(
        bench.dataplane,
        metrics=lambda: (b"figures", "text/plain"),
        version="1",
        max_body_bytes=1 << 20,
        body_timeout_s=5.0,
        gate=TokenGate(TOKENS),
        **options,
    )


@pytest.fixture
async def asked(models: Bench) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app_of(models))
    async with httpx.AsyncClient(transport=transport, base_url="http://hotset") as client:
        yield client


OPEN = {"/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/ping"}


def requests_of(tables: tuple[RouteTable, ...], model: str) -> list[tuple[str, str]]:
    return [
        (operation.method, path.format(model=model, version="1", label="x", action="x"))
        for table in tables
        for route in table.routes
        for operation in route.operations
        for path in route.paths
    ]


class Platform:
    loaded = {"acme-rome": "/acme", "paris": "/paris"}

    async def load(self, name: str, url: str) -> bool:
        raise AssertionError

    async def unload(self, name: str) -> None:
        raise AssertionError


@pytest.mark.parametrize(
    "options", [{}, {"given": Platform()}, {"handler": dict}], ids=["plain", "sagemaker", "cortex"]
)
async def test_every_route_but_health_asks_for_a_token(models: Bench, options: dict[str, Any]) -> None:
    app = app_of(models, **options)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://hotset") as client:
        for method, path in requests_of(app.tables, "acme-rome"):
            if path in OPEN or path == "/v1/models":  # the latter is no route, and says so
                continue
            for headers in ({}, bearer("hst_wrong")):
                answer = await client.request(method, path, content=b"{}", headers=headers)
                assert answer.status_code == 401, (method, path, answer.text)
                assert answer.headers["www-authenticate"] == "Bearer"
                assert answer.json()["kind"] == "unauthenticated"
    assert not models.residency.calls


@pytest.mark.parametrize(
    "options", [{}, {"given": Platform()}, {"handler": dict}], ids=["plain", "sagemaker", "cortex"]
)
async def test_no_route_answers_for_a_model_that_the_token_may_not_name(
    models: Bench, options: dict[str, Any]
) -> None:
    app = app_of(models, **options)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://hotset", headers=bearer("hst_predict")
    ) as client:
        for model in ("paris", "there-is-none"):
            for method, path in requests_of(app.tables, model):
                if model in path:
                    answer = await client.request(method, path, content=b"{}")
                    assert answer.status_code == 403, (method, path, answer.text)
        for path in ("/", "/invocations"):
            headers = {"X-Amzn-SageMaker-Target-Model": "paris"}
            answer = await client.post(path, content=b"{}", headers=headers)
            assert answer.status_code in {403, 404}, (path, answer.text)
    assert not models.residency.calls
    assert not models.residency.verbs


async def test_health_stays_open(asked: httpx.AsyncClient) -> None:
    for path in OPEN - {"/ping"}:
        assert (await asked.get(path)).status_code == 200


async def test_a_prediction_with_a_token(asked: httpx.AsyncClient, models: Bench) -> None:
    for path in ("/models/acme-rome/predict", "/v2/models/acme-rome/infer", "/v1/models/acme-rome:predict"):
        answer = await asked.post(path, content=b"{}", headers=bearer("hst_predict"))
        assert answer.status_code == 200, answer.text
        answer = await asked.post(path, content=b"{}", headers=bearer("hst_admin"))
        assert answer.status_code == 403


async def test_a_models_code_does_not_see_the_token(asked: httpx.AsyncClient, models: Bench) -> None:
    models.residency.scripted["acme-rome"].wants = frozenset({"headers"})
    headers = bearer("hst_predict") | {"X-Other": "1"}
    await asked.post("/models/acme-rome/predict", content=b"{}", headers=headers)
    (call,) = models.residency.calls
    assert ("x-other", "1") in call["headers"]
    assert "hst_predict" not in str(call["headers"])


async def test_lists_show_what_the_token_may_name(asked: httpx.AsyncClient, models: Bench) -> None:
    async def names(method: str, path: str, secret: str) -> list[str]:
        answer = (await asked.request(method, path, headers=bearer(secret))).json()
        rows = answer["models"] if isinstance(answer, dict) else answer
        return [row["name"] for row in rows]

    for method, path in (("GET", "/models"), ("POST", "/v2/repository/index")):
        assert await names(method, path, "hst_predict") == ["acme-oslo", "acme-rome"]
        assert await names(method, path, "hst_admin") == ["acme-oslo", "acme-rome", "paris"]
        assert await names(method, f"{path}?prefix=p", "hst_predict") == []
        assert await names(method, f"{path}?prefix=acme-r", "hst_predict") == ["acme-rome"]


async def test_a_page_is_full_and_the_next_one_begins_at_a_name_that_may_be_seen(
    asked: httpx.AsyncClient, models: Bench
) -> None:
    first = (await asked.get("/models?limit=1", headers=bearer("hst_predict"))).json()
    assert ([it["name"] for it in first["models"]], first["next"]) == (["acme-oslo"], "acme-oslo")
    second = (await asked.get("/models?limit=1&after=acme-oslo", headers=bearer("hst_predict"))).json()
    assert ([it["name"] for it in second["models"]], second["next"]) == (["acme-rome"], None)


async def test_figures_are_for_those_who_may_read_them(asked: httpx.AsyncClient) -> None:
    for path in ("/metrics", "/status"):
        statuses = [(await asked.get(path, headers=bearer(it))).status_code for it in GRANTS]
        assert statuses == [403, 200, 200]


async def test_with_a_token_the_admins_verbs_are_open_to_other_machines(asked: httpx.AsyncClient) -> None:
    for path in ("/models/acme-rome/load", "/v2/repository/models/acme-rome/load"):
        headers = bearer("hst_admin") | {"X-Forwarded-For": "10.0.0.7"}
        assert (await asked.post(path, headers=headers)).status_code == 200
        assert (await asked.post(path, headers=bearer("hst_predict"))).status_code == 403


async def test_the_admins_port_answers_what_is_the_admins_and_no_predictions(models: Bench) -> None:
    app = app_of(models, has_admin_port=True)
    for asgi, served in ((app, False), (app.admin, True)):
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=asgi), base_url="http://hotset", headers=bearer("hst_admin")
        ) as client:
            for method, path in (("GET", "/metrics"), ("GET", "/status"), ("POST", "/models/paris/load")):
                assert (await client.request(method, path)).status_code == (200 if served else 403)
            assert (await client.get("/models")).status_code == 200
            answer = await client.post(
                "/models/acme-rome/predict", content=b"{}", headers=bearer("hst_predict")
            )
            assert answer.status_code == (405 if served else 200)


# gRPC


def named(secret: str | None) -> FakeContext:
    return FakeContext(metadata=[] if secret is None else [("authorization", f"Bearer {secret}")])


@pytest.mark.parametrize(
    ("secret", "model", "code"),
    [
        (None, "acme-rome", "UNAUTHENTICATED"),
        ("hst_wrong", "acme-rome", "UNAUTHENTICATED"),
        ("hst_predict", "paris", "PERMISSION_DENIED"),
        ("hst_admin", "acme-rome", "PERMISSION_DENIED"),
        ("hst_predict", "acme-rome", None),
    ],
)
async def test_a_prediction_over_grpc(
    models: Bench, secret: str | None, model: str, code: str | None
) -> None:
    inference = Inference(
        models.dataplane, bodies=models.app.bodies, stop=asyncio.Event(), gate=TokenGate(TOKENS)
    )
    context = named(secret)
    await inference.infer(message_class("ModelInferRequest")(model_name=model).SerializeToString(), context)
    assert (context.code.name if context.code else None) == code
    assert len(models.residency.calls) == (code is None)


async def test_every_method_but_health_asks_for_a_token_over_grpc(models: Bench) -> None:
    management = Management(models.dataplane, version="1", max_batch=1, gate=TokenGate(TOKENS))
    for name, method in management.methods().items():
        context = named(None)
        await method(message_class(f"{name}Request")().SerializeToString(), context)
        code = context.code.name if context.code else None
        assert code == (None if name in {"ServerLive", "ServerReady"} else "UNAUTHENTICATED"), name


async def test_the_index_over_grpc_shows_what_the_token_may_name(models: Bench) -> None:
    management = Management(models.dataplane, version="1", max_batch=1, gate=TokenGate(TOKENS))
    body = await management.methods()["RepositoryIndex"](b"", named("hst_predict"))
    found = message_class("RepositoryIndexResponse").FromString(body)
    assert [model.name for model in found.models] == ["acme-oslo", "acme-rome"]


async def test_reflection_asks_for_a_token() -> None:
    reflection = Reflection("grpc.reflection.v1", stop=asyncio.Event(), gate=TokenGate(TOKENS))
    context = named(None)
    await reflection.info(None, context)
    assert context.code.name == "UNAUTHENTICATED"


# Limits


async def test_a_name_that_is_longer_than_the_settings_allow_is_refused_by_every_door(models: Bench) -> None:
    name = "x" * 21
    app = App(
        models.dataplane,
        metrics=lambda: (b"", ""),
        version="1",
        max_body_bytes=1 << 20,
        body_timeout_s=5.0,
        most_name=20,
    )
    models.residency.scripted |= {name: ScriptedModel([1]), name[:20]: ScriptedModel([1])}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://hotset") as client:
        for method, path in requests_of(app.tables, name):
            if name in path and "setting" not in path:
                answer = await client.request(method, path, content=b"{}")
                assert answer.status_code in {400, 403}, (method, path, answer.text)
        assert (await client.post(f"/models/{name[:20]}/predict", content=b"{}")).status_code == 200
    management = Management(models.dataplane, version="1", max_batch=1, most_name=20)
    inference = Inference(models.dataplane, bodies=models.app.bodies, stop=asyncio.Event(), most_name=20)
    for method, message in (
        (management.methods()["ModelReady"], message_class("ModelReadyRequest")(name=name)),
        (inference.infer, message_class("ModelInferRequest")(model_name=name)),
    ):
        context = FakeContext()
        await method(message.SerializeToString(), context)
        assert context.code is not None
        assert context.code.name == "INVALID_ARGUMENT"
    assert len(models.residency.calls) == 1
