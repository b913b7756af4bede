"""Real servers for tests: an app on a real socket in a thread of this process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from serving.app import create_app
from serving.embedders import Embedder
from serving.server import bound
from serving.settings import Settings
from serving.worker import Worker

ADMIN_KEY = "admin-key-of-the-tests"


@contextmanager
def running(embedder: Embedder, settings: Settings) -> Iterator[tuple[str, Worker]]:
    """A worker with this embedder at an address of its own."""
    worker = Worker(embedder, settings)
    worker.start()
    stopped = threading.Event()
    listener = bound("127.0.0.1", 0)
    config = uvicorn.Config(
        create_app(worker, lambda: ADMIN_KEY, stopped.set), http="httptools", ws="none", log_level="critical",
        lifespan="on", timeout_graceful_shutdown=5,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            stopped.wait(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", worker
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


def settings(folder: Path, **values: object) -> Settings:
    return Settings(data=folder, **values)  # type: ignore[arg-type]
