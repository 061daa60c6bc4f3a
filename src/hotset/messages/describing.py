"""Messages and services described in a few words each, as descriptors. Pure.

A field is ``<number> <name> <type>``. The type is one of protocol buffers' own, or the name of a message or an enum of the same
package, ``Outer.Inner`` where it is nested. ``*`` behind it: repeated; ``{type}``: a map from text; ``|group`` behind it: one
of that group at most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

_SCALARS: Final = {
    name: getattr(FieldDescriptorProto, f"TYPE_{name.upper()}")
    for name in ("bool", "bytes", "double", "float", "int32", "int64", "string", "uint32", "uint64")
}


ANSWERS: Final = "answers"
BOTH: Final = "both"


class Method(NamedTuple):
    """One method of a service. ``streams`` is empty, ``ANSWERS`` or ``BOTH``."""

    request: str
    answer: str
    streams: str = ""


class Description(NamedTuple):
    """A package: its messages and their fields, its enums and their values, its services and their methods."""

    file: str
    package: str
    messages: Mapping[str, Sequence[str]]
    services: Mapping[str, Mapping[str, Method]]
    enums: Mapping[str, Sequence[str]] = {}


def described(description: Description) -> FileDescriptorProto:
    """Return the descriptor of a package."""
    return _Builder(description).build()


class _Builder:
    """Builds one file. Legal order: ``build``, once."""

    def __init__(self, description: Description) -> None:
        self._description = description
        self._package = f".{description.package}."
        self._file = FileDescriptorProto(name=description.file, package=description.package, syntax="proto3")
        self._messages: dict[str, DescriptorProto] = {}

    def build(self) -> FileDescriptorProto:
        for path in self._description.messages:  # an outer one comes before those inside it
            outer, _, name = path.rpartition(".")
            places = self._messages[outer].nested_type if outer else self._file.message_type
            self._messages[path] = places.add(name=name)
        for path, values in self._description.enums.items():
            self._add_enum(path, values)
        for path, fields in self._description.messages.items():
            for field in fields:
                self._add_field(self._messages[path], path, field)
        for name, methods in self._description.services.items():
            self._add_service(name, methods)
        return self._file

    def _add_enum(self, path: str, values: Sequence[str]) -> None:
        outer, _, name = path.rpartition(".")
        enum = (self._messages[outer].enum_type if outer else self._file.enum_type).add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)

    def _add_service(self, name: str, methods: Mapping[str, Method]) -> None:
        service = self._file.service.add(name=name)
        for method_name, method in methods.items():
            service.method.add(
                name=method_name,
                input_type=self._package + method.request,
                output_type=self._package + method.answer,
                client_streaming=method.streams == BOTH,
                server_streaming=method.streams in {BOTH, ANSWERS},
            )

    def _add_field(self, message: DescriptorProto, path: str, text: str) -> None:
        number, name, kind = text.split()
        kind, _, group = kind.partition("|")
        field = message.field.add(name=name, number=int(number), label=FieldDescriptorProto.LABEL_OPTIONAL)
        if kind.startswith("{"):
            kind = self._add_entry(message, path, name, kind[1:-1])
        if kind.endswith("*"):
            kind = kind[:-1]
            field.label = FieldDescriptorProto.LABEL_REPEATED
        if kind in _SCALARS:
            field.type = _SCALARS[kind]
        else:
            is_enum = kind in self._description.enums
            field.type = FieldDescriptorProto.TYPE_ENUM if is_enum else FieldDescriptorProto.TYPE_MESSAGE
            field.type_name = self._package + kind
        if group:
            field.oneof_index = _group_index(message, group)

    def _add_entry(self, message: DescriptorProto, path: str, name: str, kind: str) -> str:
        """Add what a map is made of; return its type."""
        entry_name = "".join(word.capitalize() for word in name.split("_")) + "Entry"
        entry = message.nested_type.add(name=entry_name)
        entry.options.map_entry = True
        for text in ("1 key string", f"2 value {kind}"):
            self._add_field(entry, f"{path}.{entry_name}", text)
        return f"{path}.{entry_name}*"


def _group_index(message: DescriptorProto, group: str) -> int:
    names = [oneof.name for oneof in message.oneof_decl]
    if group not in names:
        message.oneof_decl.add(name=group)
        names.append(group)
    return names.index(group)
