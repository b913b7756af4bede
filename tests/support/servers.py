"""Real servers for tests: an app on a real socket in a thread of this process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from serving.embedders.base import Embedder
from serving.http.server import bind_listener
from serving.settings import Settings
from serving.worker.routes import create_app
from serving.worker.worker import Worker
from tests.support.scripted import Scripted

ADMIN_KEY = "admin-key-of-the-tests"


@contextmanager
def running(embedder: Embedder, settings: Settings) -> Iterator[tuple[str, Worker]]:
    """A worker with this embedder at an address of its own."""
    worker = Worker(embedder, settings)
    worker.start()
    with listening(create_app(worker, lambda: ADMIN_KEY)) as url:
        yield url, worker


@contextmanager
def listening(app: ASGIApp) -> Iterator[str]:
    """An app at an address of its own."""
    listener = bind_listener("127.0.0.1", 0)
    config = uvicorn.Config(
        app, http="httptools", ws="none", log_level="critical", lifespan="on", timeout_graceful_shutdown=5
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


def make_settings(folder: Path, **values: object) -> Settings:
    return Settings(data=folder, **values)  # type: ignore[arg-type]


@dataclass
class ScriptedWorker:
    url: str
    worker: Worker
    embedder: Scripted
