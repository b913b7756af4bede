"""A replica on Ray Serve: one worker process of its node, started as the local engine does it. Knows no Ray.

The worker is a process of its own, so that a snapshot of it has none of Ray's threads and connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from serving.cloud.worker_lifecycle import log_own_lines
from serving.cluster.options import RayOptions
from serving.embedders import base
from serving.engine.proxy import HOP_BY_HOP, HUNG_S, open_client
from serving.engine.runtime_dir import claim_runtime_dir
from serving.engine.start_history import StartRecord
from serving.engine.starter import RunningWorker, Starter
from serving.errors import NotReadyError
from serving.http.responses import respond_error
from serving.snapshots.base import Report, WorkerSpec
from serving.snapshots.choose import choose_backend, make_backends
from serving.system.files import lock_file
from serving.system.gpus import list_gpus

Reply = tuple[int, list[tuple[str, str]], bytes]
"""Status, headers and body of a worker's answer."""
Metrics = dict[str, float]
DISK_BACKENDS = ("criu", "criu+cuda")
"""Backends whose snapshot is in files: what others hold at zero would end with the replica."""
LOCK_S = 0.1
log = logging.getLogger(__name__)


class Replica:
    """One worker of the node that it runs on; it ends with the worker, and the worker with it."""

    async def __init__(self, options: RayOptions) -> None:  # type: ignore[misc] # Ray awaits it
        """Return when the worker is warm and its probe is right. Raises ServingError, StartFailed."""
        log_own_lines()
        self._settings = options.read_settings()
        self._used = False
        data = self._settings.data
        data.mkdir(parents=True, exist_ok=True)
        embedder = base.find_embedder_class(options.embedder)(self._settings)
        gpus = [] if embedder.device == "cpu" else await asyncio.to_thread(list_gpus)  # the one that Ray gave it
        spec = WorkerSpec.describe(options.embedder, embedder, self._settings, next(iter(gpus), ""))
        self._run = make_replica_dir(data)
        began = time.perf_counter()
        async with hold_lock(data / "ray.lock") as release:
            backends = [one for one in make_backends(self._settings, self._run) if one.name in DISK_BACKENDS]
            choice = await choose_backend(options.snapshot, spec, backends)
            if choice.backend is None:
                release()
            starter = Starter(spec, choice, self._run)
            record = StartRecord(time.time(), choice.name, starter.next_kind)
            self._worker: RunningWorker = await starter.start(record, lambda _: None, record_phase(record))
        self._start_ms = (time.perf_counter() - began) * 1000
        log.info("a %s start of %s took %.0f ms: %s", record.kind, embedder.title, self._start_ms, record.phases)
        socket = self._worker.handle.socket
        assert socket is not None
        self._client = open_client(socket)
        self._watch = asyncio.create_task(self._end_with_worker(), name="worker end")

    async def embed(self, path: str, headers: list[tuple[str, str]], body: bytes) -> Reply:
        """Return the worker's answer to an embedding request. Raises ClientError if it ends meanwhile."""
        self._used = True
        try:
            async with (
                asyncio.timeout(self._settings.request_timeout_s + HUNG_S),
                self._client.post(path, headers=headers, data=body, allow_redirects=False) as response,
            ):
                content = await response.read()
        except TimeoutError:  # a worker answers within its own limit, if only with an error
            log.error("the worker did not answer within its time limit and is killed")
            self._worker.handle.kill_now()
            hung = NotReadyError("the worker hung on this request and is started again", retry_after=1)
            refusal = respond_error(hung)
            return refusal.status_code, list(refusal.headers.items()), bytes(refusal.body)
        finally:
            self._used = True
        return response.status, self._make_headers(response), content

    async def read_metrics(self) -> str:
        """Return the worker's metrics in the text format of Prometheus."""
        keys = self._settings.keys
        headers = {"Authorization": f"Bearer {keys[0]}"} if keys else {}
        async with self._client.get("/metrics", headers=headers) as response:
            return await response.text() if response.ok else ""

    async def record_autoscaling_stats(self) -> Metrics:
        """Return for `keep_used` whether there was a request since the last call: Ray sees only those in flight now."""
        used, self._used = self._used, False
        return {"used": float(used)}

    async def check_health(self) -> None:
        if self._worker.handle.ended.is_set():
            raise NotReadyError("the worker has ended")

    async def __del__(self) -> None:
        """Stop the worker: by now Ray has waited for its requests."""
        self._watch.cancel()
        await self._client.close()
        await self._worker.handle.stop(self._settings.stop_timeout_s)
        shutil.rmtree(self._run, ignore_errors=True)

    async def _end_with_worker(self) -> None:
        """End this process when the worker has ended: Ray then starts another replica, and fronts try it again."""
        await self._worker.handle.ended.wait()
        log.error("the worker ended: %s", self._worker.handle.last_log_line)
        os._exit(1)

    def _make_headers(self, response: aiohttp.ClientResponse) -> list[tuple[str, str]]:
        start = "restore" if self._worker.start.kind == "restored" else "start"
        found = [(name, value) for name, value in response.headers.items() if name.lower() not in HOP_BY_HOP]
        took = f"{start};dur={self._start_ms:.2f}"
        return [
            *((name, f"{took}, {value}" if name.lower() == "server-timing" else value) for name, value in found),
            ("X-Snapshot-Tier", self._worker.tier),
        ]


def record_phase(record: StartRecord) -> Report:
    """Return the function that takes note of a start's phases."""

    def report(phase: str, milliseconds: float | None) -> None:
        if milliseconds is not None:
            record.phases[phase] = round(milliseconds, 1)

    return report


@contextlib.asynccontextmanager
async def hold_lock(path: Path) -> AsyncIterator[Any]:
    """Hold a lock that all replicas of a node share while one starts; yields a function that gives it up earlier.

    Two starts at once would both make a snapshot, and each remove the other's unfinished one.
    """
    while True:
        try:
            descriptors = [lock_file(path)]
            break
        except BlockingIOError:
            await asyncio.sleep(LOCK_S)

    def release() -> None:
        while descriptors:
            os.close(descriptors.pop())

    try:
        yield release
    finally:
        release()


def make_replica_dir(data: Path) -> Path:
    """Return a folder for this replica's sockets; those of processes that have ended are removed. Raises OSError."""
    folder = data / "ray"
    folder.mkdir(mode=0o700, exist_ok=True)
    folder = claim_runtime_dir(folder)
    for left in folder.iterdir():
        if not Path(f"/proc/{left.name}").exists():
            shutil.rmtree(left, ignore_errors=True)
    own = folder / str(os.getpid())
    own.mkdir(mode=0o700)
    return own
