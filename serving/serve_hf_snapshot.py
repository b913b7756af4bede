"""BiGemma3 by HuggingFace's libraries, on Modal: `modal deploy serving/serve_hf_snapshot.py`.

What can be set, and how: `serving/modal_app.py`. What happens when: `serving/cloud.py`.
"""

from __future__ import annotations

import modal
from starlette.types import ASGIApp

from serving.modal_app import Server

server = Server("hf")
app = modal.App("bigemma3-hf-serve")


@app.cls(**server.options)
@modal.concurrent(**server.concurrent)
class Worker:
    @modal.enter(snap=True)
    def prepare(self) -> None:
        """It does not sleep: this embedder would read 8.6 GB from the volume again in each life. What is on the GPU is
        saved by the platform: the weights, and the captured graphs that point to them."""
        self.life = server.life("bigemma3", sleeps=False)
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
