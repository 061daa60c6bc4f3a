"""The inference service but for predictions, health and reflection, each as a handler is called by grpcio."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from hotset.api.grpc.callers import client_of
from hotset.api.grpc.health import Health
from hotset.api.grpc.inference import Inference
from hotset.api.grpc.management import Management
from hotset.api.grpc.reflection import Reflection
from hotset.errors import LoadFailedError
from hotset.keys import ModelRef
from hotset.messages.pool import FILES, message_class
from hotset.status import Readiness
from unit.api.rpc import FakeContext
from unit.api.scripted import Bench, ScriptedModel
from waiting import until


@pytest.fixture
def management(bench: Bench) -> Management:
    return Management(bench.dataplane, version="1.2.3", max_batch=64)


async def ask(
    management: Management, method: str, *, context: FakeContext | None = None, **fields: Any
) -> Any:
    """Return the answer to a method, decoded; the context's code says whether it is one."""
    context = context or FakeContext()
    body = message_class(f"{method}Request")(**fields).SerializeToString()
    answer = await management.methods()[method](body, context)
    assert context.code is None, context.details
    return message_class(f"{method}Response").FromString(answer)


async def refused(
    management: Management, method: str, context: FakeContext | None = None, **fields: Any
) -> FakeContext:
    context = context or FakeContext()
    body = message_class(f"{method}Request")(**fields).SerializeToString()
    assert await management.methods()[method](body, context) == b""
    assert context.code is not None
    return context


async def test_the_server(bench: Bench, management: Management) -> None:
    assert (await ask(management, "ServerLive")).live
    assert (await ask(management, "ServerReady")).ready
    bench.residency.ready_now = Readiness(ready=False, reason="not yet")
    assert not (await ask(management, "ServerReady")).ready
    server = await ask(management, "ServerMetadata")
    assert (server.name, server.version) == ("hotset", "1.2.3")
    assert "model_repository" in server.extensions


async def test_a_model(management: Management) -> None:
    assert (await ask(management, "ModelReady", name="paris", version="2")).ready
    assert not (await ask(management, "ModelReady", name="atlantis")).ready
    model = await ask(management, "ModelMetadata", name="acme/rome")
    assert (model.name, list(model.versions), model.platform) == ("acme/rome", ["3"], "sklearn")
    assert [(it.name, it.datatype, list(it.shape)) for it in model.inputs] == [("input-0", "FP64", [-1, 3])]
    context = await refused(management, "ModelMetadata", name="atlantis")
    assert context.code is grpc.StatusCode.NOT_FOUND
    context = await refused(management, "ModelMetadata", name="a\nb")
    assert context.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_configuration(management: Management) -> None:
    config = (await ask(management, "ModelConfig", name="paris")).config
    assert (config.name, config.backend, config.max_batch_size) == ("paris", "sklearn", 64)
    assert [(it.name, it.data_type, list(it.dims)) for it in config.input] == [("input-0", 12, [3])]
    assert config.version_policy.WhichOneof("policy_choice") == "all"


async def test_statistics(bench: Bench, management: Management) -> None:
    """Of a model those of every version; without a name, those that were asked."""
    inference = Inference(bench.dataplane, bodies=bench.app.bodies, stop=asyncio.Event())
    assert not (await ask(management, "ModelStatistics")).model_stats
    body = message_class("ModelInferRequest")(model_name="paris").SerializeToString()
    await inference.infer(body, FakeContext())
    await inference.infer(body, FakeContext())

    every = (await ask(management, "ModelStatistics", name="paris")).model_stats
    assert [(it.name, it.version, it.inference_count) for it in every] == [
        ("paris", "1", 0),
        ("paris", "2", 0),
        ("paris", "7", 2),
    ]
    (asked,) = (await ask(management, "ModelStatistics")).model_stats
    assert asked == every[2]
    assert asked.inference_stats.success.count == 2
    assert asked.inference_stats.success.ns > 0
    (one,) = (await ask(management, "ModelStatistics", name="paris", version="1")).model_stats
    assert one == every[0]
    context = await refused(management, "ModelStatistics", name="paris", version="9")
    assert context.code is grpc.StatusCode.NOT_FOUND


async def test_the_index(bench: Bench, management: Management) -> None:
    def rows(answer: Any) -> list[tuple[str, str, str]]:
        return [(it.name, it.version, it.state) for it in answer.models]

    every = await ask(management, "RepositoryIndex")
    assert ("acme/rome", "3", "READY") in rows(every)
    assert ("oslo", "1", "UNAVAILABLE") in rows(every)
    ready = await ask(management, "RepositoryIndex", ready=True)
    assert {state for _, _, state in rows(ready)} == {"READY"}
    some = await ask(management, "RepositoryIndex", context=FakeContext(metadata=(("prefix", "par"),)))
    assert {name for name, _, _ in rows(some)} == {"paris"}
    for number in range(1500):
        bench.residency.scripted[f"x{number:04}"] = ScriptedModel([1])
    assert len((await ask(management, "RepositoryIndex")).models) == 1500 + len(every.models)


async def test_the_index_of_a_store_that_is_not_listed_whole(bench: Bench, management: Management) -> None:
    bench.residency.lists_all = False
    for number in range(1500):
        bench.residency.scripted[f"x{number:04}"] = ScriptedModel([1])
    context = FakeContext(metadata=(("prefix", "x"),))
    assert len((await ask(management, "RepositoryIndex", context=context)).models) == 1000
    following = FakeContext(metadata=(("prefix", "x"), ("after", context.trailing["next"])))
    assert len((await ask(management, "RepositoryIndex", context=following)).models) == 500
    assert not following.trailing


async def test_load_and_unload_by_tritons_field_and_by_kserves(bench: Bench, management: Management) -> None:
    for method, verb in (("RepositoryModelLoad", "load"), ("RepositoryModelUnload", "unload")):
        for fields in ({"model_name": "paris"}, {"repository_name": "paris"}):
            answer = await ask(management, method, **fields)
            assert answer.model_name == "paris"
            assert answer.isLoaded if verb == "load" else answer.isUnloaded
        assert bench.residency.verbs[-2:] == [(verb, ModelRef("paris"))] * 2


async def test_a_load_that_fails(bench: Bench, management: Management) -> None:
    bench.residency.verb_errors.append(LoadFailedError("no such file"))
    context = await refused(management, "RepositoryModelLoad", model_name="paris")
    assert (context.code, context.details) == (
        grpc.StatusCode.INTERNAL,
        "failed to load 'paris', no such file",
    )


async def test_a_load_that_brings_its_own_files(bench: Bench, management: Management) -> None:
    for name in ("config", "file:1/model.onnx"):
        parameters = {name: message_class("ModelRepositoryParameter")(string_param="x")}
        context = await refused(management, "RepositoryModelLoad", model_name="paris", parameters=parameters)
        assert context.code is grpc.StatusCode.UNIMPLEMENTED
    assert not bench.residency.verbs


@pytest.mark.parametrize(
    "context",
    [
        FakeContext(peer="ipv4:10.0.0.7:5000"),
        FakeContext(peer="unix:"),
        FakeContext(metadata=(("x-forwarded-for", "127.0.0.1"),)),
    ],
)
async def test_only_the_servers_own_machine_may(
    bench: Bench, management: Management, context: FakeContext
) -> None:
    await refused(management, "RepositoryModelUnload", context, model_name="paris")
    assert context.code is grpc.StatusCode.PERMISSION_DENIED
    assert not bench.residency.verbs


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        ("ipv4:127.0.0.1:5000", ("127.0.0.1", 5000)),
        ("ipv6:%5B::1%5D:5000", ("::1", 5000)),
        ("ipv6:[::1]:5000", ("::1", 5000)),
        ("unix:/tmp/socket", None),
        ("", None),
    ],
)
def test_who_asks(peer: str, client: tuple[str, int] | None) -> None:
    assert client_of(peer) == client


async def test_what_is_no_message(management: Management) -> None:
    for method in management.methods():
        context = FakeContext()
        assert await management.methods()[method](b"\x0a\x7f", context) == b""
        assert context.code is grpc.StatusCode.INVALID_ARGUMENT, method


async def test_health_is_told_as_it_changes() -> None:
    ready = [Readiness(ready=False)]
    stop = asyncio.Event()
    health = Health(lambda: ready[0], stop=stop)
    assert await health.check(b"", FakeContext()) == b"\x08\x02"
    context = FakeContext()
    watching = asyncio.create_task(health.watch(b"", context))
    await until(lambda: context.written == [b"\x08\x02"])
    ready[0] = Readiness(ready=True)
    await until(lambda: context.written == [b"\x08\x02", b"\x08\x01"])
    stop.set()
    await watching
    assert context.written[-1] == b"\x08\x02"


async def test_health_of_a_service_that_there_is_not() -> None:
    health = Health(lambda: Readiness(ready=True), stop=asyncio.Event())
    for body, code in (
        (b"\x0a\x01x", grpc.StatusCode.NOT_FOUND),
        (b"\x0a", grpc.StatusCode.INVALID_ARGUMENT),
    ):
        context = FakeContext()
        assert await health.check(body, context) == b""
        assert context.code is code
    context = FakeContext()
    await health.watch(b"\x0a", context)
    assert context.code is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("package", ["grpc.reflection.v1", "grpc.reflection.v1alpha"])
async def test_reflection(package: str) -> None:
    request = message_class("ServerReflectionRequest", package=package)
    response = message_class("ServerReflectionResponse", package=package)
    context = FakeContext()
    context.send(
        request(list_services="").SerializeToString(),
        request(file_by_filename="hotset/open_inference.proto").SerializeToString(),
        request(file_containing_symbol="inference.GRPCInferenceService.ModelInfer").SerializeToString(),
        request(file_containing_symbol="nothing.Nothing").SerializeToString(),
        request(all_extension_numbers_of_type="inference.ModelInferRequest").SerializeToString(),
        request().SerializeToString(),
        b"\x0a",
    )

    await Reflection(package, stop=asyncio.Event()).info(None, context)

    services, by_name, by_symbol, *failures = map(response.FromString, context.written)
    names = {service.name for service in services.list_services_response.service}
    assert {"inference.GRPCInferenceService", "grpc.health.v1.Health", f"{package}.ServerReflection"} <= names
    for answer in (by_name, by_symbol):
        (file,) = answer.file_descriptor_response.file_descriptor_proto
        assert file == FILES["hotset/open_inference.proto"]
    assert [answer.error_response.error_code for answer in failures] == [5, 5, 5]
    assert context.code is grpc.StatusCode.INVALID_ARGUMENT
