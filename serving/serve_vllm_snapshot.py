"""BiGemma3 by vLLM, on Modal: `modal deploy serving/serve_vllm_snapshot.py`.

Settings: `serving/cloud/modal_app.py`. The hooks' work: `serving/cloud/worker_lifecycle.py`.
"""

from __future__ import annotations

import modal
from starlette.types import ASGIApp

from serving.cloud.modal_app import ModalServer

server = ModalServer("vllm")
app = modal.App("bigemma3-vllm-serve", tags=server.tags)


@app.cls(**server.options)
@modal.concurrent(**server.concurrent)
class Worker:
    """The hooks of one container."""

    @modal.enter(snap=True)
    def prepare(self) -> None:
        """Prepare and sleep (vLLM's level 1), as Modal's own examples with vLLM do.

        The weights are then in host memory and the KV cache is gone, so that the GPU's part of the snapshot is small.
        """
        self.lifecycle = server.create_lifecycle("vllm", sleeps=True)
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
