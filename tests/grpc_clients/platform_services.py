"""Health by the stub of grpcio-health-checking, and reflection by the client of grpcio-reflection."""

from __future__ import annotations

from pathlib import Path

import grpc
from checks import failure, run_all
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

SERVICE = "inference.GRPCInferenceService"
LIMIT_S = 30


def check_health(address: str, _directory: Path) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", SERVICE, "grpc.health.v1.Health"):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=LIMIT_S)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        error = failure(lambda: stub.Check(health_pb2.HealthCheckRequest(service="nothing")))
        assert error.code() is grpc.StatusCode.NOT_FOUND


def check_watch(address: str, _directory: Path) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service, status in (("", "SERVING"), ("nothing", "SERVICE_UNKNOWN")):
            watching = stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=LIMIT_S)
            assert next(watching).status == health_pb2.HealthCheckResponse.ServingStatus.Value(status)
            watching.cancel()


def check_reflection(address: str, _directory: Path) -> None:
    with grpc.insecure_channel(address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert {SERVICE, "grpc.health.v1.Health"} <= set(database.get_services())
        pool = DescriptorPool(database)
        service = pool.FindServiceByName(SERVICE)
        infer = service.methods_by_name["ModelInfer"]
        assert infer.input_type.full_name == "inference.ModelInferRequest"
        assert service.methods_by_name["ModelStreamInfer"].client_streaming
        assert pool.FindMessageTypeByName("inference.ModelConfig").fields_by_name["backend"].number == 17
        try:
            pool.FindMessageTypeByName("inference.Nothing")
        except KeyError:
            return
        raise AssertionError("expected KeyError")


if __name__ == "__main__":
    run_all(dict(globals()))
