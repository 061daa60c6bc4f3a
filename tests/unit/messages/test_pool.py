"""The messages are in a pool of their own, and say on the wire what clients say."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hotset.messages.fields import MalformedError
from hotset.messages.inference import DESCRIPTION, NOT_SERVED
from hotset.messages.pool import FILES, POOL, decoded, message_class

COMPARE = """
from tritonclient.grpc import model_config_pb2, service_pb2
from hotset.messages.inference import NOT_SERVED
from hotset.messages.pool import POOL

theirs = {**model_config_pb2.DESCRIPTOR.message_types_by_name, **service_pb2.DESCRIPTOR.message_types_by_name}
kserves_own = {"RepositoryModelLoadResponse", "RepositoryModelUnloadResponse"}


def compare(mine, other):
    for field in mine.fields:
        found = other.fields_by_number[field.number]
        assert (field.name, field.type, field.is_repeated) == (found.name, found.type, found.is_repeated), field.full_name
        if field.enum_type is not None:
            assert field.enum_type.values_by_name.keys() <= found.enum_type.values_by_name.keys()
            for name, value in field.enum_type.values_by_name.items():
                assert found.enum_type.values_by_name[name].number == value.number, name
    for name, nested in mine.nested_types_by_name.items():
        compare(nested, other.nested_types_by_name[name])


file = POOL.FindFileByName("hotset/open_inference.proto")
for name, mine in file.message_types_by_name.items():
    if name not in kserves_own:
        compare(mine, theirs[name])
mine, = file.services_by_name.values()
other = service_pb2.DESCRIPTOR.services_by_name[mine.name]
assert {method.name for method in other.methods} == {method.name for method in mine.methods} | set(NOT_SERVED)
for method in mine.methods:
    found = other.methods_by_name[method.name]
    for side in ("input_type", "output_type"):
        assert getattr(method, side).full_name == getattr(found, side).full_name
    assert (method.client_streaming, method.server_streaming) == (found.client_streaming, found.server_streaming)
print("same")
"""


def test_every_field_is_the_one_that_tritons_client_has() -> None:
    """In a process of its own, where both are imported: they do not clash."""
    done = subprocess.run(
        [sys.executable, "-c", COMPARE], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "same\n", done.stderr


IN_THE_DEFAULT_POOL = """
from google.protobuf import descriptor_pool
from hotset.messages.inference import DESCRIPTION
from hotset.messages.pool import message_class


def is_there(message):
    try:
        descriptor_pool.Default().FindMessageTypeByName(f"inference.{message}")
    except KeyError:
        return False
    return True


for message in DESCRIPTION.messages:
    message_class(message)
print([message for message in DESCRIPTION.messages if is_there(message)])
"""


def test_the_default_pool_has_none_of_them() -> None:
    """In a process of its own: a client in this one may have brought them."""
    done = subprocess.run(
        [sys.executable, "-c", IN_THE_DEFAULT_POOL], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"


def test_every_message_can_be_made_and_every_file_is_there() -> None:
    for message in DESCRIPTION.messages:
        assert message_class(message)().SerializeToString() == b""
        assert message_class(message) is message_class(message)
    for name in FILES:
        assert POOL.FindFileByName(name).name == name
    assert not set(NOT_SERVED) & DESCRIPTION.services["GRPCInferenceService"].keys()


def test_a_map_an_enum_and_a_choice() -> None:
    request = message_class("ModelInferRequest")()
    request.parameters["one"].int64_param = 1
    request.parameters["one"].string_param = "1"
    assert request.parameters["one"].WhichOneof("parameter_choice") == "string_param"
    assert message_class("ModelInput")(data_type="TYPE_BF16").data_type == 14


def test_what_is_no_message() -> None:
    with pytest.raises(MalformedError, match="not a ModelReadyRequest"):
        decoded(message_class("ModelReadyRequest"), b"\x0a\x05a")
