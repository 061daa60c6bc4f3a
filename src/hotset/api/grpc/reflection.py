"""Server reflection: what services there are and what their messages look like, for programs such as grpcurl."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from grpc import StatusCode

from hotset.api.auth import OPEN_GATE, Access, Gate
from hotset.api.grpc.callers import admit
from hotset.api.grpc.statuses import refuse
from hotset.api.grpc.streams import incoming
from hotset.errors import HotsetError, InvalidInputError
from hotset.messages.fields import MalformedError
from hotset.messages.inference import SERVICE
from hotset.messages.platform import HEALTH_SERVICE, REFLECTION_PACKAGES
from hotset.messages.pool import FILES, POOL, decoded, message_class

SERVICES: Final = (
    SERVICE,
    HEALTH_SERVICE,
    *(f"{package}.ServerReflection" for package in REFLECTION_PACKAGES),
)


class Reflection:
    """Reflection in one of its packages. Owned by the event loop. ``stop`` is set when the server stops."""

    def __init__(self, package: str, *, stop: asyncio.Event, gate: Gate = OPEN_GATE) -> None:
        self._gate: Final = gate
        self._request: Final = message_class("ServerReflectionRequest", package=package)
        self._response: Final = message_class("ServerReflectionResponse", package=package)
        self._stop: Final = stop

    async def info(self, _requests: Any, context: Any) -> None:
        """Answer each question of a stream."""
        try:
            admit(self._gate, context, Access.SEE)
        except HotsetError as error:
            refuse(context, error)
            return
        async with incoming(context, self._stop) as messages:
            while (body := await messages.next()) is not None:
                try:
                    request = decoded(self._request, body)
                except MalformedError as error:
                    refuse(context, InvalidInputError(str(error)))
                    return
                await context.write(self._answer(request).SerializeToString())

    def _answer(self, request: Any) -> Any:
        answer = self._response(valid_host=request.host, original_request=request)
        question = request.WhichOneof("message_request")
        if question == "list_services":
            for name in SERVICES:
                answer.list_services_response.service.add(name=name)
            return answer
        file = _file_for(question, request)
        if file is not None:
            answer.file_descriptor_response.file_descriptor_proto.append(file)
        else:
            answer.error_response.error_code = StatusCode.NOT_FOUND.value[0]
            answer.error_response.error_message = "there is no such file, symbol or extension"
        return answer


def _file_for(question: str | None, request: Any) -> bytes | None:
    if question == "file_by_filename":
        return FILES.get(request.file_by_filename)
    if question == "file_containing_symbol":
        symbol: str = request.file_containing_symbol
        # The pool does not find methods and fields, which are in the file of what they belong to.
        return _file_of(symbol) or _file_of(symbol.rpartition(".")[0])
    return None


def _file_of(symbol: str) -> bytes | None:
    try:
        name: str = POOL.FindFileContainingSymbol(symbol).name
    except KeyError:
        return None
    return FILES[name]
