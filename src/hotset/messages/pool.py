"""The messages as classes, in a descriptor pool of our own.

In protobuf's default pool the package ``inference`` is taken by whichever client was imported first: with ours in it, user
code of the same process could import neither tritonclient's messages nor KServe's.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from hotset.messages import inference, platform
from hotset.messages.describing import described
from hotset.messages.fields import MalformedError

FILES: Final[dict[str, bytes]] = {
    description.file: described(description).SerializeToString()
    for description in (
        inference.DESCRIPTION,
        platform.HEALTH,
        *(platform.reflection(package) for package in platform.REFLECTION_PACKAGES),
    )
}
"""The descriptors by the names of their files, encoded, as reflection gives them out."""

POOL: Final = DescriptorPool()
for _file in FILES.values():
    POOL.AddSerializedFile(_file)


def message_class(name: str, *, package: str = "inference") -> Any:
    """Return the class of a message; the same one each time."""
    return GetMessageClass(POOL.FindMessageTypeByName(f"{package}.{name}"))


def decoded(kind: Any, data: bytes) -> Any:
    """Return a message of the class ``kind``.

    Raises:
        MalformedError: the bytes are not one.
    """
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise MalformedError(f"not a {kind.DESCRIPTOR.name}: {error}") from error
