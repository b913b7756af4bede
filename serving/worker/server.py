"""The server of a worker: its app is made before a snapshot, and it serves after one.

Imports everything that serving needs, so that a restored process imports nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from serving.embedders.base import Embedder, GpuEmbedder
from serving.settings import LAST_BATCH_S, Settings
from serving.worker.routes import create_app
from serving.worker.worker import Worker

LINE_BYTES = 1024
SWITCH_S = 0.001
"""How long a thread may hold the interpreter when another is waiting; Python's 5 ms add up for a query in a worker that
decodes pages at the same time."""


def prepare_server(embedder: Embedder, settings: Settings) -> tuple[Worker, uvicorn.Config]:
    worker = Worker(embedder, settings)
    # The worker's own admin routes cannot be reached: only the engine uses its socket, and answers them itself.
    config = uvicorn.Config(
        create_app(worker, lambda: ""),
        loop="asyncio",
        http="httptools",  # takes a fifth less time than h11, which bounds headers: the proxy has done that
        ws="none",
        log_level="warning",
        server_header=False,
        date_header=False,  # the proxy's
        timeout_keep_alive=3600,  # the engine decides when its connections end
        backlog=1024,
    )
    config.load()
    sys.setswitchinterval(SWITCH_S)
    return worker, config


class WorkerServer(uvicorn.Server):
    """Serves from one launch until `control` ends, or until a line comes there: then the process is to be parked."""

    def __init__(
        self, config: uvicorn.Config, worker: Worker, control: int, report: Callable[..., None], began: float
    ) -> None:
        """`report` is called once the worker answers: with the id of this boot, the probe and the phases."""
        super().__init__(config)
        self._worker = worker
        self._control = control
        self._report = report
        self._began = began
        config.timeout_graceful_shutdown = round(worker.settings.drain_s)

    async def startup(self, sockets: list[Any] | None = None) -> None:
        """Bind, wake the embedder, run the probe and report. Raises ServingError if the embedder does not wake up."""
        await super().startup(sockets)
        bound = time.perf_counter()
        asyncio.get_running_loop().add_reader(self._control, self._end_on_control)
        phases = {"bind": bound - self._began}
        if self._worker.asleep:
            await self._worker.wake()
            embedder = self._worker.embedder
            phases["weights"] = embedder.copy_ms / 1000 if isinstance(embedder, GpuEmbedder) else 0.0
            phases["wake"] = time.perf_counter() - bound - phases["weights"]
        awake = time.perf_counter()
        probe = await self._worker.queries.run_in_lane(self._worker.embedder.probe)
        phases["probe"] = time.perf_counter() - awake
        milliseconds = {name: round(seconds * 1000, 2) for name, seconds in phases.items()}
        self._report(boot_id=self._worker.boot.id, probe=probe.tolist(), phases=milliseconds)

    async def shutdown(self, sockets: list[Any] | None = None) -> None:
        grace = self._worker.settings.drain_s
        asyncio.get_running_loop().call_later(max(0.0, grace - LAST_BATCH_S), self._worker.refuse_waiting)
        await super().shutdown(sockets)

    def _end_on_control(self) -> None:
        asyncio.get_running_loop().remove_reader(self._control)
        self._worker.parked = bool(os.read(self._control, LINE_BYTES))
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # an engine stops its worker by the pipe; a signal should end it at once
