"""BiGemma3 by HuggingFace's libraries, on Modal: `modal deploy serving/serve_hf_snapshot.py`.

Settings: `serving/cloud/modal_app.py`. The hooks' work: `serving/cloud/worker_lifecycle.py`.
"""

from __future__ import annotations

import modal
from starlette.types import ASGIApp

from serving.cloud.modal_app import ModalServer

server = ModalServer("hf")
app = modal.App("bigemma3-hf-serve", tags=server.tags)


@app.cls(**server.options)
@modal.concurrent(**server.concurrent)
class Worker:
    """The hooks of one container."""

    @modal.enter(snap=True)
    def prepare(self) -> None:
        """Prepare without sleep: to wake, this embedder would read 8.6 GB from the volume after each restore.

        The platform saves the GPU's memory: the weights, and the captured graphs that point to them.
        """
        self.lifecycle = server.create_lifecycle("bigemma3", sleeps=False)
        self.lifecycle.prepare()

    @modal.enter(snap=False)
    def begin(self) -> None:
        self.lifecycle.begin()

    @modal.asgi_app(requires_proxy_auth=server.asks_for_proxy_token)
    def web(self) -> ASGIApp:
        """Return the app that `prepare` built: this runs after each restore."""
        return self.lifecycle.app

    @modal.exit()
    def end(self) -> None:
        self.lifecycle.end()
