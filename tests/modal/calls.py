"""One call of a function: what goes in, what comes out, both kept, so that either can be read again."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from modal._serialization import deserialize_data_format, serialize_data_format
from modal_proto import api_pb2 as pb

if TYPE_CHECKING:
    from tests.modal.containers import Container

T = TypeVar("T")
Event = Mapping[str, Any]
"""An ASGI message."""


class Channel(Generic[T]):
    """A list that grows until it is closed; whoever reads it starts where it likes."""

    def __init__(self) -> None:
        self.items: list[T] = []
        self.closed = False
        self._changed = asyncio.Event()

    def put(self, item: T) -> None:
        self.items.append(item)
        self._wake()

    def close(self) -> None:
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait(self, index: int) -> bool:
        """Whether item `index` is there; False when it will never be."""
        while index >= len(self.items) and not self.closed:
            await self._changed.wait()
        return index < len(self.items)

    async def read(self, start: int = 0) -> AsyncIterator[T]:
        while await self.wait(start):
            yield self.items[start]
            start += 1


@dataclasses.dataclass(eq=False)
class Call:
    call_id: str
    input_id: str
    input: pb.FunctionInput
    asked: Channel[bytes] = dataclasses.field(default_factory=Channel)
    """ASGI messages of the request, serialised."""
    answered: Channel[Event] = dataclasses.field(default_factory=Channel)
    """ASGI messages of the answer. Closed when the function is done with it, or will never be."""
    whole: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    """The request's body has come to its end."""
    container: Container | None = None
    attempts: int = 0
    output: pb.FunctionPutOutputsItem | None = None
    failure: str = ""
    """Why the answer was closed before its end."""

    @property
    def started(self) -> bool:
        return bool(self.answered.items)

    @property
    def complete(self) -> bool:
        """Whether the answer has its end, as far as it is HTTP."""
        last = self.answered.items[-1] if self.answered.items else {}
        return last.get("type") == "http.response.body" and not last.get("more_body")

    def item(self) -> pb.FunctionGetInputsItem:
        return pb.FunctionGetInputsItem(
            input_id=self.input_id,
            function_call_id=self.call_id,
            input=self.input,
            retry_count=max(self.attempts - 1, 0),
            function_call_invocation_type=pb.FUNCTION_CALL_INVOCATION_TYPE_SYNC,
        )

    def ask(self, message: Event) -> None:
        self.asked.put(serialize_data_format(dict(message), pb.DATA_FORMAT_ASGI))

    async def chunks(self, after: int) -> AsyncIterator[pb.DataChunk]:
        """The request's messages, counted from 1, from the one behind `after`. Ends with the call."""
        async for data in self.asked.read(after):
            after += 1
            yield pb.DataChunk(index=after, data_format=pb.DATA_FORMAT_ASGI, data=data)

    def take(self, chunk: pb.DataChunk) -> None:
        if not self.answered.closed:
            self.answered.put(deserialize_data_format(chunk.data, chunk.data_format, None))

    def finish(self, output: pb.FunctionPutOutputsItem | None = None, failure: str = "") -> None:
        if self.answered.closed:
            return
        self.output, self.failure = output, failure
        self.asked.close()
        self.answered.close()
