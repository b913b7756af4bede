"""BiGemma3 by vLLM, on Modal: `modal deploy serving/serve_vllm_snapshot.py`.

What can be set, and how: `serving/modal_app.py`. What happens when: `serving/cloud.py`.
"""

from __future__ import annotations

import modal
from starlette.types import ASGIApp

from serving.modal_app import Server

server = Server("vllm")
app = modal.App("bigemma3-vllm-serve")


@app.cls(**server.options)
@modal.concurrent(**server.concurrent)
class Worker:
    @modal.enter(snap=True)
    def prepare(self) -> None:
        """It sleeps (vLLM's level 1): the weights are in the host's memory and the KV cache is gone, so that the GPU's
        part of the snapshot is small, as Modal's own examples with vLLM have it."""
        self.life = server.life("vllm", sleeps=True)
        self.life.prepare()

    @modal.enter(snap=False)
    def begin(self) -> None:
        self.life.begin()

    @modal.asgi_app(requires_proxy_auth=server.asks_for_proxy_token)
    def web(self) -> ASGIApp:
        """Runs after each restore, so it makes nothing."""
        return self.life.app

    @modal.exit()
    def end(self) -> None:
        self.life.end()
