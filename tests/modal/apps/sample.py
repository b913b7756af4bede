"""An app for the tests of the cloud: a class with a snapshot, and a guarded web function without one."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import modal

MOUNT = os.environ.get("SAMPLE_MOUNT", "/cache")
NAME = os.environ.get("SAMPLE_NAME", "sample")
app = modal.App(NAME)
volume = modal.Volume.from_name("sample-cache", create_if_missing=True)
image = (
    modal.Image.debian_slim("3.12")
    .uv_pip_install("starlette")
    .env({"FROM_IMAGE": "a picture of 2 words", "SAMPLE_MOUNT": MOUNT, "SAMPLE_NAME": NAME})
    .add_local_python_source("sample_words", "assets")
)


def log(line: str) -> None:
    """Hooks leave their traces in the volume, where the test reads them."""
    with (Path(MOUNT) / "log.txt").open("a") as file:
        file.write(f"{line} {os.environ['MODAL_TASK_ID']} {os.getpid()}\n")


@app.cls(
    image=image, gpu="L40S", volumes={MOUNT: volume}, enable_memory_snapshot=True, scaledown_window=60,
    experimental_options={"enable_gpu_snapshot": True}, startup_timeout=120, timeout=60,
    secrets=[modal.Secret.from_name("sample-keys", required_keys=["API_KEY"]), modal.Secret.from_dict({"INNER": "x"})],
)  # fmt: skip
@modal.concurrent(max_inputs=4)
class Server:
    @modal.enter(snap=True)
    def load(self) -> None:
        from starlette.applications import Starlette
        from starlette.routing import Route

        if os.environ["API_KEY"] == "broken":
            raise RuntimeError("no weights here")
        self.snap_task = os.environ["MODAL_TASK_ID"]
        names = ("state", "echo", "slow", "events", "crash", "drain", "commit", "fails", "child")
        routes = [Route(f"/{name}", getattr(self, name), methods=["GET", "POST"]) for name in names]
        self.api = Starlette(routes=routes)
        log("loaded")

    @modal.enter(snap=False)
    def wake(self) -> None:
        self.boot_id = uuid.uuid4().hex
        self.requests = 0
        log("woke")

    @modal.exit()
    def stop(self) -> None:
        log("stopped")

    @modal.method()
    def words(self, count: int) -> list[str]:
        from sample_words import WORDS

        return list(WORDS[:count])

    @modal.asgi_app()
    def web(self) -> Any:
        return self.api

    async def state(self, request: Any) -> Any:
        from starlette.responses import JSONResponse

        self.requests += 1
        names = ("FROM_IMAGE", "API_KEY", "INNER", "MODAL_ENABLE_SNAP_RESTORE", "SECRET_OF_THE_TEST")
        return JSONResponse(
            {
                "task": os.environ["MODAL_TASK_ID"], "snap_task": self.snap_task, "boot_id": self.boot_id,
                "pid": os.getpid(), "requests": self.requests, "path": str(request.url.path),
                "query": dict(request.query_params), "environment": {name: os.environ.get(name) for name in names},
                "cwd": str(Path.cwd()), "file": __file__,
            },
            headers={"X-Sample": "yes"},
        )  # fmt: skip

    async def echo(self, request: Any) -> Any:
        from starlette.responses import Response

        body = b""
        async for part in request.stream():
            log(f"echo {len(part)}")
            body += part
        return Response(body, media_type=request.headers.get("content-type"))

    async def slow(self, request: Any) -> Any:
        from starlette.responses import PlainTextResponse

        log("slow")
        await asyncio.sleep(float(request.query_params["s"]))
        return PlainTextResponse("done")

    async def events(self, request: Any) -> Any:
        from starlette.responses import StreamingResponse

        async def lines() -> AsyncIterator[str]:
            try:
                for number in range(10_000):
                    yield f"data: {json.dumps({'n': number, 'at': time.time()})}\n\n"
                    await asyncio.sleep(0.05)
            finally:
                log("left")

        return StreamingResponse(lines(), media_type="text/event-stream")

    async def crash(self, request: Any) -> Any:
        log("crash")
        os._exit(3)

    async def fails(self, request: Any) -> Any:
        raise RuntimeError("this route fails")

    def child(self, request: Any) -> Any:
        from starlette.responses import PlainTextResponse

        started = subprocess.Popen(["/bin/sleep", "600"], start_new_session=True)
        return PlainTextResponse(str(started.pid))

    async def drain(self, request: Any) -> Any:
        from starlette.responses import PlainTextResponse

        await modal.experimental.stop_fetching_inputs.aio()
        return PlainTextResponse("drained")

    async def commit(self, request: Any) -> Any:
        from starlette.responses import PlainTextResponse

        await volume.commit.aio()
        await volume.reload.aio()
        return PlainTextResponse("committed")


@app.function(image=image, scaledown_window=2)
@modal.concurrent(max_inputs=2)
@modal.asgi_app(requires_proxy_auth=True)
def page() -> Any:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    return Starlette(routes=[Route("/", lambda request: PlainTextResponse("page"))])
