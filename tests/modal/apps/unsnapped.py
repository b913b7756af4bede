"""A server of ours that is deployed without snapshots: each of its starts is a plain one."""

from __future__ import annotations

from typing import Any

import modal

from serving.cloud.modal_app import ModalServer

server = ModalServer("hf")
app = modal.App("unsnapped")


@app.cls(**{**server.options, "enable_memory_snapshot": False, "experimental_options": {}})
@modal.concurrent(**server.concurrent)
class Worker:
    @modal.enter()
    def start(self) -> None:
        self.lifecycle = server.create_lifecycle("builtin", sleeps=False)
        self.lifecycle.prepare()
        self.lifecycle.begin()

    @modal.asgi_app(requires_proxy_auth=server.asks_for_proxy_token)
    def web(self) -> Any:
        return self.lifecycle.app

    @modal.exit()
    def end(self) -> None:
        self.lifecycle.end()
