"""Work for a client that may leave before its answer: it ends with the connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.types import Receive

from serving.errors import ServingError

T = TypeVar("T")


class ClientLeftError(ServingError, status=499, code="client_left"):
    """The client has closed its connection. The status is for the metrics only: nobody is left to read it."""


async def wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def run_unless_client_leaves(work: Awaitable[T], leaving: Awaitable[None]) -> T:
    """Return the result of `work`. Cancels it and raises ClientLeftError as soon as `leaving` is done."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(leaving)
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientLeftError("the client closed its connection")
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)
