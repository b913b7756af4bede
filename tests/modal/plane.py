"""Modal's service as a gRPC server: every call of the shipped protobuf description is there.

Who answers what is not known here: parts are added, and a method of theirs with an RPC's name is its handler. A call
that nobody handles gets an empty answer and is counted.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import inspect
import socket
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Server, Stream
from modal_proto import api_pb2 as pb

if TYPE_CHECKING:
    from pathlib import Path

    from tests.modal.containers import Container

SERVICE = pb.DESCRIPTOR.services_by_name["ModalClient"]
CARDINALITIES = {
    (False, False): Cardinality.UNARY_UNARY,
    (False, True): Cardinality.UNARY_STREAM,
    (True, False): Cardinality.STREAM_UNARY,
    (True, True): Cardinality.STREAM_STREAM,
}
Answer = Any
"""A message, one that is awaited, or several, one after the other."""
Answering = Callable[[Any, "Container | None"], Answer]


def refused(status: Status, message: str) -> GRPCError:
    return GRPCError(status, message)


@dataclasses.dataclass
class Fault:
    error: GRPCError
    left: int | None = None
    """How many calls are refused; None: all."""


class Plane:
    """Handlers by RPC, faults by RPC, and how often each was called."""

    def __init__(self, token: tuple[str, str]) -> None:
        self.token = token
        self.handlers: dict[str, Answering] = {}
        self.faults: dict[str, Fault] = {}
        self.calls: collections.Counter[str] = collections.Counter()
        self.watched = b""
        """Of a secret: the calls that had it in their requests are in `told`."""
        self.told: set[str] = set()
        self.unknown: collections.Counter[str] = collections.Counter()
        self.numbers: collections.Counter[str] = collections.Counter()

    def new(self, prefix: str) -> str:
        """An id as Modal's are: a prefix and 22 letters or digits. They count up, so that a log can be read."""
        self.numbers[prefix] += 1
        return f"{prefix}-{self.numbers[prefix]:022d}"

    def add(self, part: object) -> None:
        for name in SERVICE.methods_by_name:
            if handler := getattr(part, name, None):
                assert name not in self.handlers, f"{name} has two handlers"
                self.handlers[name] = handler

    async def listen(self, path: Path | None = None, caller: Container | None = None) -> tuple[Server, str]:
        """A server and its address: a Unix socket for a container, a loopback port for clients, who need the token."""
        server = Server([Listener(self, caller)])
        if path:
            await server.start(path=str(path))
            return server, f"unix:{path}"
        listener = socket.create_server(("127.0.0.1", 0))
        await server.start(sock=listener)
        return server, f"http://127.0.0.1:{listener.getsockname()[1]}"

    def check(self, metadata: Any) -> None:
        given = (metadata.get("x-modal-token-id"), metadata.get("x-modal-token-secret"))
        if given != self.token:
            raise refused(Status.UNAUTHENTICATED, "Token validation failed: the token is unknown or was deleted.")

    def refuse(self, name: str) -> None:
        fault = self.faults.get(name)
        if fault and fault.left != 0:
            fault.left = fault.left and fault.left - 1
            raise fault.error

    async def dispatch(
        self, name: str, empty: type[Message], caller: Container | None, stream: Stream[Message, Message]
    ) -> None:
        self.calls[name] += 1
        request = await stream.recv_message()
        if caller is None:
            self.check(stream.metadata)
        if self.watched and request is not None and self.watched in request.SerializeToString():
            self.told.add(name)
        self.refuse(name)
        handler = self.handlers.get(name)
        if handler is None:
            self.unknown[name] += 1
            await stream.send_message(empty())
            return
        answer = handler(request, caller)
        if isinstance(answer, AsyncIterator):
            async for message in answer:
                await stream.send_message(message)
        else:
            await stream.send_message(await answer if inspect.isawaitable(answer) else answer)


class Listener:
    """What grpclib serves. Modal's containers talk to their worker: so each has a socket, and is known by it."""

    def __init__(self, plane: Plane, caller: Container | None) -> None:
        self.plane = plane
        self.caller = caller

    def __mapping__(self) -> dict[str, Handler]:
        found = {}
        for method in SERVICE.methods:
            asked, answered = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
            found[f"/{SERVICE.full_name}/{method.name}"] = Handler(
                functools.partial(self.plane.dispatch, method.name, answered, self.caller),
                CARDINALITIES[method.client_streaming, method.server_streaming],
                asked,
                answered,
            )
        return found
