"""The containers of one function: how many there are, which way they start, who gets the next call.

There is one, unless `max_containers` asks for more (Modal has no such bound of its own). It knows no HTTP. All of it
runs on the cloud's loop.
"""

from __future__ import annotations

import asyncio
import collections
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

from modal_proto import api_pb2 as pb

from tests.modal.calls import Call
from tests.modal.containers import Container, Kind

if TYPE_CHECKING:
    from tests.modal.cloud import Cloud
    from tests.modal.registry import App

DEFAULT_WINDOW_S = 60
MOST_ATTEMPTS = 3
"""A call that ends each container it gets is not given to a fourth."""
RESTORE_FAILED = 222
"""The exit code of a container whose GPU memory could not be restored."""


class Pool:
    def __init__(self, cloud: Cloud, app: App, tag: str, root: Path) -> None:
        self.cloud = cloud
        self.app = app
        self.tag = tag
        self.root = root
        """The container's `/root`."""
        self.function_id = app.function_ids[tag]
        self.function = app.functions[tag]
        self.overrides = pb.AutoscalerSettings()
        self.queue: collections.deque[Call] = collections.deque()
        self.containers: list[Container] = []
        self.snapshots = 0
        """How many starts have made one."""
        self.origin = ""
        """The task that made the last one."""
        self.parked: Container | None = None
        self.plain_next = False
        """A restore failed; the platform starts without the snapshot then."""
        self.closed = False

    # Settings

    @property
    def settings(self) -> pb.AutoscalerSettings:
        found = pb.AutoscalerSettings()
        found.CopyFrom(self.function.autoscaler_settings)
        found.MergeFrom(self.overrides)
        return found

    @property
    def window_s(self) -> float:
        return self.settings.scaledown_window or DEFAULT_WINDOW_S

    @property
    def concurrency(self) -> int:
        return self.function.target_concurrent_inputs or self.function.max_concurrent_inputs or 1

    def override(self, settings: pb.AutoscalerSettings) -> None:
        self.overrides.MergeFrom(settings)
        for container in self.live:
            if "idle" in container.timers:
                self._idle(container)
        self.reconcile()

    def stats(self) -> pb.FunctionStats:
        running = sum(len(container.running) for container in self.live)
        return pb.FunctionStats(
            backlog=len(self.queue), num_total_tasks=len(self.live), num_running_inputs=running,
            input_headroom=max(len(self.live) * self.concurrency - running, 0),
        )  # fmt: skip

    # Calls

    @property
    def live(self) -> list[Container]:
        return [container for container in self.containers if container.alive]

    @property
    def taking(self) -> list[Container]:
        """Those that take calls, or will."""
        return [container for container in self.live if not container.draining]

    def submit(self, call: Call) -> None:
        self.queue.append(call)
        self._hand_out()
        self.reconcile()

    def _hand_out(self) -> None:
        for container in self.taking:
            while self.queue and container.waiting:
                future = container.waiting.pop(0)
                if not future.done():
                    future.set_result(self._give(container, self.queue.popleft()))

    def _give(self, container: Container, call: Call) -> pb.FunctionGetInputsResponse:
        container.cancel("idle")
        call.attempts += 1
        call.container = container
        container.running[call.input_id] = call
        container.served += 1
        return pb.FunctionGetInputsResponse(inputs=[call.item()])

    async def fetch(self, container: Container) -> pb.FunctionGetInputsResponse:
        """What a container that has a slot free gets: a call, sooner or later, or the word to end."""
        if container.draining:
            return pb.FunctionGetInputsResponse(inputs=[pb.FunctionGetInputsItem(kill_switch=True)])
        if container.state != "serving":
            self._serving(container)
        if self.queue:
            return self._give(container, self.queue.popleft())
        future: asyncio.Future[pb.FunctionGetInputsResponse] = asyncio.get_running_loop().create_future()
        container.waiting.append(future)
        if not container.running:
            self._idle(container)
        try:
            return await future
        finally:
            if future in container.waiting:
                container.waiting.remove(future)

    def finish(self, container: Container, output: pb.FunctionPutOutputsItem) -> None:
        call = container.running.pop(output.input_id, None)
        if not call:
            return
        unfinished = output.data_format == pb.DATA_FORMAT_GENERATOR_DONE and not call.complete
        if output.result.status == pb.GenericResult.GENERIC_STATUS_TERMINATED or (container.draining and unfinished):
            self._again(call, "was cancelled with its container")
        elif output.result.status == pb.GenericResult.GENERIC_STATUS_SUCCESS:
            call.finish(output)
        else:
            call.finish(output, f"status Failure: {output.result.exception}")
        if container.draining and not container.running:
            container.later("kill", self.cloud.grace_s, container.kill)
        elif not container.running:
            self._idle(container)

    def _again(self, call: Call, reason: str) -> None:
        """A call that lost its container waits for another, if nobody has seen a part of its answer."""
        if self.cloud.retries_lost and call.attempts < MOST_ATTEMPTS and not call.started and not self.closed:
            self.queue.appendleft(call)
            self._hand_out()
        else:
            call.finish(failure=f"status Terminated: the call {reason}")

    # Starts

    def wanted(self) -> int:
        settings = self.settings
        busy = sum(len(container.running) for container in self.taking)
        for_calls = math.ceil((busy + len(self.queue)) / self.concurrency)
        return min(max(for_calls, settings.min_containers), settings.max_containers or 1)

    def reconcile(self) -> None:
        for _ in range(0 if self.closed else self.wanted() - len(self.taking)):
            self._start()

    def _start(self) -> None:
        if self.plain_next or not (self.function.checkpointing_enabled and self.app.deployed):
            container = self._container("plain")
            self.plain_next = False
            if self.function.checkpointing_enabled and not self.app.deployed:
                container.note("Memory snapshots are disabled for ephemeral apps.")
        elif self.snapshots < self.cloud.snapshots_needed:
            container = self._container("created")
        else:
            container = self.parked or self._park()
            self.parked = None
            container.state, container.enqueued_at = "restoring", time.time()
            container.task_id = self.cloud.plane.new("ta")
        self.containers.append(container)
        self.cloud.task(self._bring_up(container))

    def _container(self, kind: Kind) -> Container:
        """One whose process is on its way."""
        task_id = self.origin if kind == "restored" else self.cloud.plane.new("ta")
        container = Container(self, task_id, kind, self.cloud.disk.container())
        if kind == "restored":
            container.state = "parked"
        self.cloud.task(self._life(container))
        return container

    def _park(self) -> Container:
        """A process that goes as far as the checkpoint, there to stand for the snapshot of the task that made it."""
        return self._container("restored")

    async def _bring_up(self, container: Container) -> None:
        limit = self.function.startup_timeout_secs or self.function.timeout_secs or 300
        container.later("startup", limit, container.kill)
        if container.restored:
            task_id = container.task_id
            await container.checkpointed.wait()
            if self.cloud.broken_restores:
                self.cloud.broken_restores -= 1
                container.note("The local cloud was told to break this restore.")
                container.restore_failed = True
                container.kill()
                return
            container.note("Restoring Function from memory snapshot.")
            container.resume(task_id)

    def checkpoint(self, container: Container) -> None:
        """The container's `enter(snap=True)` is done."""
        container.checkpointed.set()
        if container.kind == "created":
            self.snapshots += 1
            keeps = self.cloud.creator_keeps_task_id
            self.origin = container.task_id
            container.note("Snapshot created. Restoring Function from memory snapshot.")
            container.resume(container.task_id if keeps else self.cloud.plane.new("ta"))
        elif container.state == "parked":
            container.freeze()

    def _serving(self, container: Container) -> None:
        container.ready, container.state = True, "serving"
        container.cancel("startup")

    def _park_ahead(self) -> None:
        ready = self.snapshots >= self.cloud.snapshots_needed
        if ready and not self.parked and self.cloud.parks_ahead and not self.closed and self.app.deployed:
            self.parked = self._park()

    # Ends

    def _idle(self, container: Container) -> None:
        if container.served and not self.queue and container.kind != "plain":
            self._park_ahead()
        container.later("idle", self.window_s, lambda: self._scale_down(container))

    def _scale_down(self, container: Container) -> None:
        if len(self.taking) > self.settings.min_containers:
            container.stop(graceful=True)

    async def _life(self, container: Container) -> None:
        await container.run()
        serving = container in self.containers
        if serving:
            self.containers.remove(container)
            self.cloud.past.append(container)
        if container is self.parked:
            self.parked = None
        container.checkpointed.set()
        lost, container.running = list(container.running.values()), {}
        for call in reversed(lost):
            self._again(call, f"lost its container (exit code {container.code})")
        failed = container.restore_failed or (container.restored and container.code == RESTORE_FAILED)
        self.plain_next = self.plain_next or (serving and failed)
        if serving and not (container.ready or container.draining or container.killed or failed):
            self._start_failed(container)
        self.reconcile()

    def _start_failed(self, container: Container) -> None:
        """Whoever waits is told; the next call starts another one."""
        said = container.result.exception if container.result else f"exit code {container.code}"
        while self.queue:
            self.queue.popleft().finish(failure=f"status Failure: the container did not start: {said}")

    def discard_snapshots(self) -> None:
        self.snapshots, self.origin = 0, ""
        if self.parked:
            self.parked.kill()
            self.parked = None

    def hand_over(self, successor: Pool) -> None:
        """A new version of the function takes the calls that wait."""
        successor.queue.extend(self.queue)
        self.queue.clear()

    def close(self, *, graceful: bool) -> None:
        """No call is taken any more. Graceful: what runs is finished by its container."""
        self.closed = True
        while self.queue:
            self.queue.popleft().finish(failure="status Terminated: the app was stopped")
        if self.parked:
            self.parked.kill()
        for container in self.live:
            container.stop(graceful=graceful)
