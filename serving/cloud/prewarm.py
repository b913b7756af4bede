"""Warms up a worker's app before its first request, so that a snapshot holds all that a request imports and builds."""

from __future__ import annotations

import asyncio
import importlib
from contextlib import suppress

from PIL import Image
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.worker.process import run_in_thread

PLATFORM_IMPORTS = ("aiohttp",)
"""Imported by Modal's client when an app is first served: half a second of each restore if it is not there by then."""


class RequestCounter:
    """ASGI middleware that counts the requests in flight."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self.in_flight += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self.in_flight -= 1


def prewarm_app(app: ASGIApp) -> None:
    """Answer one request inside the process, so that its imports are in the snapshot."""
    for name in PLATFORM_IMPORTS:
        with suppress(ImportError):
            importlib.import_module(name)
    Image.init()
    scope: Scope = {"type": "http", "method": "GET", "path": "/health", "query_string": b"", "headers": []}

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: Message) -> None: ...

    run_in_thread(lambda: asyncio.run(call_app(app, scope, receive, send)))


async def call_app(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)
