"""A worker's app before its first request: counted, and tried once, so that a snapshot has all that a request needs.

Knows nothing of what the app answers.
"""

from __future__ import annotations

import asyncio
import importlib
from contextlib import suppress

from PIL import Image
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.worker_process import in_a_thread

PLATFORM_IMPORTS = ("aiohttp",)
"""What Modal's client imports when an app is first served: half a second of a restore, if it is not there by then."""


class Calls:
    """ASGI: how many requests are being answered."""

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


def rehearse(app: ASGIApp) -> None:
    """What the first request would import and build is in the snapshot instead."""
    for name in PLATFORM_IMPORTS:
        with suppress(ImportError):
            importlib.import_module(name)
    Image.init()
    scope: Scope = {"type": "http", "method": "GET", "path": "/health", "query_string": b"", "headers": []}

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: Message) -> None: ...

    in_a_thread(lambda: asyncio.run(answered(app, scope, receive, send)))


async def answered(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)
