"""What every gRPC server has beside its own service, as it is on the wire: health, and reflection in its two packages."""

from __future__ import annotations

from typing import Final

from hotset.messages.describing import ANSWERS, BOTH, Description, Method

HEALTH_SERVICE: Final = "grpc.health.v1.Health"
REFLECTION_PACKAGES: Final = ("grpc.reflection.v1", "grpc.reflection.v1alpha")
"""The second is the older name of the first, and what most clients ask for."""

HEALTH: Final = Description(
    file="grpc/health/v1/health.proto",
    package="grpc.health.v1",
    messages={
        "HealthCheckRequest": ("1 service string",),
        "HealthCheckResponse": ("1 status HealthCheckResponse.ServingStatus",),
    },
    enums={"HealthCheckResponse.ServingStatus": ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")},
    services={
        "Health": {
            "Check": Method("HealthCheckRequest", "HealthCheckResponse"),
            "Watch": Method("HealthCheckRequest", "HealthCheckResponse", ANSWERS),
        }
    },
)


def reflection(package: str) -> Description:
    """Return the description of reflection in one of its packages."""
    name = package.removeprefix("grpc.reflection.")
    return Description(
        file=f"grpc/reflection/{name}/reflection.proto",
        package=package,
        messages={
            "ServerReflectionRequest": (
                "1 host string",
                "3 file_by_filename string|message_request",
                "4 file_containing_symbol string|message_request",
                "5 file_containing_extension ExtensionRequest|message_request",
                "6 all_extension_numbers_of_type string|message_request",
                "7 list_services string|message_request",
            ),
            "ExtensionRequest": ("1 containing_type string", "2 extension_number int32"),
            "ServerReflectionResponse": (
                "1 valid_host string",
                "2 original_request ServerReflectionRequest",
                "4 file_descriptor_response FileDescriptorResponse|message_response",
                "5 all_extension_numbers_response ExtensionNumberResponse|message_response",
                "6 list_services_response ListServiceResponse|message_response",
                "7 error_response ErrorResponse|message_response",
            ),
            "FileDescriptorResponse": ("1 file_descriptor_proto bytes*",),
            "ExtensionNumberResponse": ("1 base_type_name string", "2 extension_number int32*"),
            "ListServiceResponse": ("1 service ServiceResponse*",),
            "ServiceResponse": ("1 name string",),
            "ErrorResponse": ("1 error_code int32", "2 error_message string"),
        },
        services={
            "ServerReflection": {
                "ServerReflectionInfo": Method("ServerReflectionRequest", "ServerReflectionResponse", BOTH)
            }
        },
    )
