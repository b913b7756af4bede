"""The front door of one web function: HTTP at a loopback port, calls of the function behind it.

It does what Modal's ingress does: checks proxy tokens before anything starts, lets requests wait while there is no
container, streams both ways, tells the function when the client has gone, and sends whoever waits too long to an
address where the result will be.
"""

from __future__ import annotations

import asyncio
import hmac
import pickle
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import uvicorn
from modal_proto import api_pb2 as pb

from tests.modal.calls import Call, Event

if TYPE_CHECKING:
    from tests.modal.cloud import Cloud
    from tests.modal.pool import Pool

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
RESULT = "__modal_function_call_id"
PASSED_ON = ("type", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path", "headers",
             "client", "server")  # fmt: skip


class Broken(Exception):
    """The function ended in the middle of its answer: the connection has to end like that, too."""


class Door:
    def __init__(self, cloud: Cloud, method: str) -> None:
        self.cloud = cloud
        self.method = method
        self.config = pb.WebhookConfig()
        self.pool: Pool | None = None
        """None when there is no app behind it, or no longer."""
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        config = uvicorn.Config(
            self, lifespan="off", ws="none", log_config=None, log_level="critical", server_header=False,
            timeout_graceful_shutdown=1,
        )  # fmt: skip
        self.server = uvicorn.Server(config)
        self.serving = asyncio.get_running_loop().create_task(self.server.serve([self.listener]))

    async def close(self) -> None:
        self.server.should_exit = True
        await self.serving
        self.listener.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        query = parse_qs(scope["query_string"].decode("latin-1"))
        if not self.pool:
            await say(send, 404, "modal-http: app for invoked web endpoint is stopped")
        elif self.config.requires_proxy_auth and not self._known(headers):
            await say(send, 401, "modal-http: missing or invalid credentials for proxy authorization")
        elif RESULT in query:
            call = self.cloud.calls.get(query[RESULT][0])
            await (self._answer(call, scope, send) if call else say(send, 404, "modal-http: unknown function call"))
        else:
            await self._ask(scope, receive, send)

    def _known(self, headers: dict[str, str]) -> bool:
        given = f"{headers.get('modal-key', '')}.{headers.get('modal-secret', '')}"
        if given == ".":
            given = headers.get("authorization", "").removeprefix("Bearer ")
        tokens = [f"{key}.{secret}" for key, secret in self.cloud.proxy_tokens]
        return any(hmac.compare_digest(given.encode(), token.encode()) for token in tokens)

    async def _ask(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.pool
        passed = {name: scope[name] for name in PASSED_ON if name in scope}
        passed["headers"] = [(bytes(name), bytes(value)) for name, value in scope["headers"]]
        function_input = pb.FunctionInput(
            args=pickle.dumps(((passed,), {})), data_format=pb.DATA_FORMAT_PICKLE, method_name=self.method
        )
        call = self.cloud.call(function_input)
        asking = asyncio.create_task(self._pass_on(call, receive))
        try:
            await call.asked.wait(0)
            self.pool.submit(call)
            await self._answer(call, scope, send)
        finally:
            asking.cancel()

    @staticmethod
    async def _pass_on(call: Call, receive: Receive) -> None:
        """The body as it comes; then, should the client leave, that."""
        while not call.asked.closed:
            message = await receive()
            call.ask(message)
            if not message.get("more_body"):
                call.whole.set()
            if message["type"] == "http.disconnect":
                return

    async def _answer(self, call: Call, scope: Scope, send: Send) -> None:
        try:
            async with asyncio.timeout(self.cloud.redirect_after_s):
                begun = await call.answered.wait(0)
        except TimeoutError:
            await call.whole.wait()
            address = f"{self.url}{scope['path']}?{RESULT}={call.call_id}"
            await say(send, 303, "", location=address)
            return
        if not begun:
            await say(send, 500, f"modal-http: internal server error: {call.failure or 'no answer'}")
            return
        async for message in call.answered.read():
            await send(self._marked(message, call))
        if call.failure:
            raise Broken(call.failure)

    @staticmethod
    def _marked(message: Event, call: Call) -> MutableMapping[str, Any]:
        if message["type"] != "http.response.start":
            return dict(message)
        headers = [*message.get("headers", []), (b"modal-function-call-id", call.call_id.encode())]
        return {**message, "headers": headers}


async def say(send: Send, status: int, text: str, **headers: str) -> None:
    body = text.encode()
    lines = [(name.encode(), value.encode()) for name, value in headers.items()]
    lines += [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})
