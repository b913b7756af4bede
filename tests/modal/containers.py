"""A container: a process of Modal's own entrypoint, with the environment, files and socket that a worker gives it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import psutil
from modal_proto import api_pb2 as pb

from tests.modal.calls import Call

if TYPE_CHECKING:
    from grpclib.server import Server

    from tests.modal.pool import Pool

REPOSITORY = Path(__file__).parents[2]
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER", "LD_LIBRARY_PATH")
"""All that a container has of the environment of whoever runs the cloud."""
OURS = ("PATH", "PYTHONPATH", "HOME")
"""What an image or a secret may set but a process on this machine cannot take over."""
PARKED_NICENESS = 5
FREEZE_S = 0.3
"""From the checkpoint to the stop: the client closes its connections in between."""

GONE_S = 20
"""From SIGKILL to a process's end, on a machine that is busy."""

Kind = Literal["plain", "created", "restored"]
State = Literal["starting", "parked", "restoring", "serving", "stopping", "gone"]


def launcher(niceness: int = 0) -> list[str]:
    """Return what goes before a command, so that its process ends with this one and hears SIGINT."""
    return [sys.executable, "-ISs", str(Path(__file__).with_name("launch.py")), str(niceness), str(os.getpid())]


@dataclasses.dataclass(eq=False)
class Container:
    """What the cloud knows of one. Other threads may read it."""

    pool: Pool
    task_id: str
    kind: Kind
    folder: Path
    state: State = "starting"
    enqueued_at: float = dataclasses.field(default_factory=time.time)
    started_at: float = 0.0
    finished_at: float = 0.0
    running: dict[str, Call] = dataclasses.field(default_factory=dict)
    waiting: list[asyncio.Future[pb.FunctionGetInputsResponse]] = dataclasses.field(default_factory=list)
    served: int = 0
    draining: bool = False
    ready: bool = False
    """It has asked for calls."""
    killed: bool = False
    """By a test: the platform does not count this as a failure of the function."""
    restore_failed: bool = False
    born_as: str = ""
    """The task id in its arguments and first environment, which are in its snapshot."""
    result: pb.GenericResult | None = None
    """What the entrypoint says of a start that failed."""
    code: int | None = None
    checkpointed: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    process: asyncio.subprocess.Process | None = None
    server: Server | None = None
    timers: dict[str, asyncio.TimerHandle] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.born_as = self.task_id
        self.folder.mkdir(parents=True)

    @property
    def app_id(self) -> str:
        return self.pool.app.app_id

    @property
    def restored(self) -> bool:
        return self.kind == "restored"

    @property
    def pid(self) -> int:
        assert self.process, "a container has no process before it starts"
        return self.process.pid

    @property
    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def alive(self) -> bool:
        return self.state != "gone"

    def note(self, text: str) -> None:
        """A line of the platform's in the log."""
        with (self.folder / "log").open("a") as log:
            log.write(text + "\n")

    # Its process

    async def start(self) -> None:
        self.server, _ = await self.pool.cloud.plane.listen(self.folder / "rpc", self)
        (self.folder / "arguments").write_bytes(self._arguments().SerializeToString())
        niceness = PARKED_NICENESS if self.state == "parked" else 0
        entrypoint = [sys.executable, "-m", "modal._container_entrypoint"]
        with (self.folder / "log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *launcher(niceness), *entrypoint, env=self._environment(), cwd=self.pool.root,
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.started_at = time.time()

    def _arguments(self) -> pb.ContainerArguments:
        function = pb.Function()
        function.CopyFrom(self.pool.function)
        function.is_checkpointing_function = self.kind != "plain"
        return pb.ContainerArguments(
            task_id=self.born_as, function_id=self.pool.function_id, app_id=self.app_id, function_def=function,
            checkpoint_id=self.pool.cloud.plane.new("ch"), environment_name="main",
            app_layout=self.pool.cloud.registry.layout(self.pool.app),
        )  # fmt: skip

    def _environment(self) -> dict[str, str]:
        registry, function = self.pool.cloud.registry, self.pool.function
        found = {name: os.environ[name] for name in KEPT if name in os.environ}
        found.update({name: value for name, value in registry.declared(function).items() if name not in OURS})
        found.update(
            PYTHONPATH=os.pathsep.join(map(str, self.pool.cloud.disk.sources(self.pool.root))), PYTHONUNBUFFERED="1",
            MODAL_SERVER_URL=f"unix:{self.folder / 'rpc'}", MODAL_IS_REMOTE="1", MODAL_TASK_ID=self.born_as,
            MODAL_CONTAINER_ARGUMENTS_PATH=str(self.folder / "arguments"), MODAL_IMAGE_ID=function.image_id,
            MODAL_RESTORE_STATE_PATH=str(self.folder / "restore-state.json"), MODAL_ENVIRONMENT="main",
            MODAL_CLOUD_PROVIDER="CLOUD_PROVIDER_LOCAL", MODAL_REGION="local", MODAL_CONFIG_PATH="/nonexistent.toml",
        )  # fmt: skip
        if self.kind != "plain":
            found["MODAL_ENABLE_SNAP_RESTORE"] = "1"
        if unlinked := self.pool.cloud.disk.link(function):
            found["MODAL_LOCAL_MOUNTS"] = json.dumps(unlinked)
        return found

    def send(self, number: int) -> None:
        if self.process and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    def send_all(self, number: int) -> None:
        if self.process and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended, and nobody has waited for it yet
                os.killpg(self.process.pid, number)

    # Its snapshot

    def freeze(self) -> None:
        """Stands still like the snapshot that it stands for, and costs nothing."""
        self.cancel("freeze")
        self.later("freeze", FREEZE_S, lambda: self.send_all(signal.SIGSTOP))

    def resume(self, task_id: str) -> None:
        """Goes on behind the checkpoint, as `task_id`."""
        self.cancel("freeze")
        self.task_id = task_id
        path = self.folder / "restore-state.json"
        path.with_suffix(".part").write_text(json.dumps({"task_id": task_id}))
        path.with_suffix(".part").rename(path)
        self.send_all(signal.SIGCONT)

    # Its end

    def later(self, name: str, seconds: float, action: Any) -> None:
        self.cancel(name)
        self.timers[name] = asyncio.get_running_loop().call_later(seconds, action)

    def cancel(self, name: str) -> None:
        if timer := self.timers.pop(name, None):
            timer.cancel()

    def stop(self, *, graceful: bool) -> None:
        """Graceful: finishes what it has and takes no more. Else: SIGINT, as the platform does; calls go to others."""
        if not self.alive or (self.draining and graceful):
            return
        fetching = self.state == "serving"
        self.draining, self.state = True, "stopping"
        self.cancel("idle")
        for future in self.waiting:
            if not future.done():
                future.set_result(pb.FunctionGetInputsResponse(inputs=[pb.FunctionGetInputsItem(kill_switch=True)]))
        if not graceful or not fetching:
            self.send(signal.SIGINT)
        if not (graceful and self.running):
            self.later("kill", self.pool.cloud.grace_s, self.kill)

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.send_all(number)

    async def run(self) -> None:
        """From its start to its end. Then it has an exit code, and no timer, socket or process."""
        try:
            await self.start()
            assert self.process
            self.code = await self.process.wait()
        except OSError as error:  # no such folder, no volume at its path
            self.note(f"the local cloud could not start this container: {error}")
            self.result = pb.GenericResult(exception=str(error))
        await self._close()

    async def _close(self) -> None:
        await asyncio.to_thread(end_strays, self.folder)
        self.state, self.finished_at = "gone", time.time()
        for name in list(self.timers):
            self.cancel(name)
        for future in self.waiting:
            future.cancel()
        if self.server:
            self.server.close()
            await self.server.wait_closed()


def strays(folder: Path) -> list[psutil.Process]:
    """Processes of this user that were started, however indirectly, by containers whose files are in `folder`."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("MODAL_CONTAINER_ARGUMENTS_PATH", "").startswith(f"{folder}/"):
                found.append(process)
        except psutil.Error:
            continue
    return found


def end_strays(folder: Path) -> None:
    """A container's end is that of all that it started."""
    found = strays(folder)
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(found, timeout=GONE_S)
