"""A cloud on this machine that the real modal client deploys to, and whose containers are Modal's own entrypoint.

    with Cloud() as cloud:
        cloud.secrets["keys"] = {"API_KEY": "..."}
        assert cloud.deploy("app.py", env={"MOUNT": str(tmp_path / "cache")}).returncode == 0
        requests.get(cloud.web_url("app", "web"))

Its loop runs in a thread; everything here may be called from a test's. What it starts ends with it. Files: `plane` is
the service, `registry` what was deployed, `control` and `runner` what clients and containers ask for, `pool` one
function's containers, `door` its address, `disk` what containers find there.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import modal
from grpclib.const import Status
from modal_proto import api_pb2 as pb

from tests.modal.calls import Call
from tests.modal.containers import REPOSITORY, Container, end_strays, launcher
from tests.modal.control import Control
from tests.modal.dicts import Dicts
from tests.modal.disk import Disk
from tests.modal.door import Door
from tests.modal.plane import Fault, Plane, refused
from tests.modal.pool import Pool
from tests.modal.registry import App, Registry, web_configs
from tests.modal.runner import Runner

T = TypeVar("T")
TOKEN = ("ak-local", "as-local")
PROXY_TOKEN = ("wk-local", "ws-local")
START_S = 60
"""The longest a test waits for a container, on a machine that others use, too."""
NO_CONFIG = "/nonexistent/modal.toml"


class Served:
    """A running `modal serve`. Its output is kept in a file."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def stop(self, timeout: float = START_S) -> int:
        """Ctrl-C, and the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            return self.process.wait()


class Cloud:
    def __init__(
        self,
        *,
        snapshots_needed: int = 1,
        redirect_after_s: float = 150,
        grace_s: float = 30,
        creator_keeps_task_id: bool = True,
        retries_lost: bool = True,
        parks_ahead: bool = True,
        uploaded_only: bool = False,
    ) -> None:
        """`snapshots_needed`: starts that create a snapshot before restores begin. `redirect_after_s`: when a request
        without an answer is sent to its result's address. `grace_s`: from a stop to SIGKILL. `retries_lost`: a call
        whose container was lost goes to another one, rather than failing. `parks_ahead`: the process that stands for
        a snapshot is started before it is needed. `uploaded_only`: a container's own files are only what the client
        uploaded; else this repository's are taken from where they are."""
        self.snapshots_needed = snapshots_needed
        self.redirect_after_s = redirect_after_s
        self.grace_s = grace_s
        self.creator_keeps_task_id = creator_keeps_task_id
        self.retries_lost = retries_lost
        self.parks_ahead = parks_ahead
        self.uploaded_only = uploaded_only
        self.broken_restores = 0
        """So many restores from now on fail, and the platform starts plainly instead."""
        self.proxy_tokens: set[tuple[str, str]] = {PROXY_TOKEN}
        self.secrets: dict[str, dict[str, str]] = {}
        self.rates: dict[str, str] = {}
        self.commits: collections.Counter[str] = collections.Counter()
        self.reloads: collections.Counter[str] = collections.Counter()
        self.pools: dict[str, Pool] = {}
        """By function id."""
        self.retired: list[Pool] = []
        """Of earlier versions and stopped apps: their containers finish what they have."""
        self.doors: dict[tuple[str, bool, str, str], Door] = {}
        """By app, whether it is ephemeral, tag and method."""
        self.calls: dict[str, Call] = {}
        self.past: list[Container] = []
        self.url = ""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._served: list[Served] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cloud", daemon=True)

    # Its life

    def __enter__(self) -> Cloud:
        self.folder = Path(tempfile.mkdtemp(prefix="cloud-"))
        self.plane = Plane(TOKEN)
        self.registry = Registry(self.plane, self.folder, self.secrets)
        self.registry.published, self.registry.address = self._published, self._address
        self.disk = Disk(self.folder, self.registry, uploaded_only=self.uploaded_only)
        Runner(self)
        Control(self)
        self.dicts = Dicts(self)
        self._thread.start()
        self._server, self.url = self._do(self.plane.listen())
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for served in self._served:
                served.stop()
            self._do(self._close())
        finally:
            end_strays(self.folder)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(START_S)
            self._loop.close()
            self.disk.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    async def _close(self) -> None:
        for pool in (*self.pools.values(), *self.retired):
            pool.close(graceful=False)
        while alive := self._processes():
            for container in alive:
                container.kill()
            await asyncio.sleep(0.01)
        for door in self.doors.values():
            await door.close()
        self._server.close()
        await self._server.wait_closed()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _processes(self) -> list[Container]:
        parked = [pool.parked for pool in (*self.pools.values(), *self.retired) if pool.parked]
        return [each for each in (*self.running(), *parked) if each.alive]

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(START_S)

    def _call(self, work: Callable[[], T]) -> T:
        async def run() -> T:
            return work()

        return self._do(run())

    def task(self, work: Coroutine[Any, Any, Any]) -> None:
        """Runs beside everything else; kept, because asyncio would not."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # The client

    @property
    def env(self) -> dict[str, str]:
        return {
            "MODAL_SERVER_URL": self.url, "MODAL_TOKEN_ID": TOKEN[0], "MODAL_TOKEN_SECRET": TOKEN[1],
            "MODAL_CONFIG_PATH": NO_CONFIG, "NO_COLOR": "1",
        }  # fmt: skip

    @contextlib.contextmanager
    def client(self) -> Iterator[modal.Client]:
        """Meanwhile the modal client of this process, which `from_name` handles take, talks to this cloud."""
        before = {name: value for name, value in os.environ.items() if name.startswith("MODAL_")}
        for name in before:
            del os.environ[name]
        os.environ.update(self.env)
        client = modal.Client.from_env()
        try:
            yield client
        finally:
            client.close()
            modal.Client._set_env_client(None)
            for name in self.env:
                del os.environ[name]
            os.environ.update(before)

    def _shell(self, env: Mapping[str, str]) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("MODAL_")}
        return {**ours, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "200", **self.env, **env}

    def modal(
        self, *arguments: str, env: Mapping[str, str] = {}, cwd: str | Path = REPOSITORY, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """The real command line."""
        return subprocess.run(
            [sys.executable, "-m", "modal", *arguments], env=self._shell(env), cwd=cwd, timeout=timeout, text=True,
            capture_output=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def deploy(
        self, file: str | Path, *arguments: str, env: Mapping[str, str] = {}, cwd: str | Path = REPOSITORY
    ) -> subprocess.CompletedProcess[str]:
        """`modal deploy FILE`. A failure is in its exit code and output, not raised."""
        return self.modal("deploy", str(file), *arguments, env=env, cwd=cwd)

    def serve(self, file: str | Path, *, env: Mapping[str, str] = {}, cwd: str | Path = REPOSITORY) -> Served:
        """`modal serve FILE`, once its app is up; its exit is not waited for."""
        log = self.folder / f"serve{len(self._served)}.log"
        before = set(self.registry.by_id)
        with log.open("w") as output:
            process = subprocess.Popen(
                [*launcher(), sys.executable, "-m", "modal", "serve", str(file)], env=self._shell(env), cwd=cwd,
                text=True, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        served = Served(process, log)
        self._served.append(served)

        def up() -> bool:
            return any(app.version for app in self._apps() if app.app_id not in before)

        self.until(lambda: process.poll() is not None or self._call(up), lambda: served.output)
        return served

    # What was deployed

    def _apps(self) -> list[App]:
        return list(self.registry.by_id.values())

    def apps(self) -> dict[str, App]:
        """Those that run, by name; a deployed app goes before an ephemeral one of the same name."""
        running = [app for app in self._apps() if app.version and (app.deployed or app.ephemeral)]
        return {app.name: app for app in sorted(running, key=lambda app: app.deployed)}

    def app(self, name: str) -> App:
        found = self.apps()
        assert name in found, f"no app {name!r} runs here; there is: {sorted(found) or 'none'}"
        return found[name]

    def function(self, app: str, tag: str) -> pb.Function:
        return self.app(app).functions[tag]

    @property
    def images(self) -> list[pb.Image]:
        return list(self.registry.images.values())

    def volume(self, name: str) -> Path:
        """A named volume's folder."""
        return self.registry.volume(name)

    @property
    def volumes(self) -> dict[str, Path]:
        return {name: self.registry.volume(name) for name in self.registry.volumes.values()}

    def uploaded(self, app: str, tag: str) -> dict[str, bytes]:
        """What the client uploaded for a function, by path in its container."""
        return self.disk.uploaded(self.function(app, tag))

    def environment(self, app: str, tag: str) -> dict[str, str]:
        """What its image and its secrets give a function's containers."""
        return self.registry.declared(self.function(app, tag))

    def web_url(self, app: str, method: str | None = None) -> str:
        """`method`: a web method's or function's name; not needed if the app has one."""
        key = self.app(app)
        found = [
            door.url for (name, ephemeral, tag, inner), door in self.doors.items()
            if (name, ephemeral) == (app, key.ephemeral) and door.pool and method in (None, inner or tag)
        ]  # fmt: skip
        assert len(found) == 1, f"{app} has {len(found)} web functions of the name {method!r}"
        return found[0]

    def pool(self, app: str, tag: str) -> Pool:
        return self.pools[self.app(app).function_ids[tag]]

    # Containers

    def running(self, app_id: str = "") -> list[Container]:
        """What `modal container list` shows. A process that stands for a snapshot is no container.

        Nor is one that has ended and that its pool, on the loop's own thread, has not yet crossed out.
        """
        found = [each for pool in [*self.pools.values(), *self.retired] for each in list(pool.containers)]
        return [each for each in found if each.alive and app_id in ("", each.app_id)]

    def containers(self, app: str | None = None) -> list[Container]:
        return [each for each in self.running() if app in (None, each.pool.app.name)]

    def stop_containers(self, app: str, *, graceful: bool = False) -> None:
        """Returns when they are gone."""
        stopping = self.containers(app)
        for each in stopping:
            self._call(functools.partial(each.stop, graceful=graceful))
        self.until(lambda: not any(each.alive for each in stopping), lambda: "\n".join(each.log for each in stopping))

    def change_limit(self, app: str, containers: int) -> None:
        """As somebody does by the dashboard."""
        changed = pb.AutoscalerSettings(max_containers=containers)
        for tag in self.app(app).function_ids:
            self._call(functools.partial(self.pool(app, tag).override, changed))

    def discard_snapshots(self, app: str) -> None:
        """As the platform does when it is updated: the next start creates one again."""
        for tag in self.app(app).function_ids:
            self._call(self.pool(app, tag).discard_snapshots)

    def kill(self, task_id: str, signal: int = signal.SIGKILL) -> None:
        found = [each for each in self.containers() if each.task_id == task_id]
        assert found, f"no container {task_id} runs here"
        found[0].killed = True
        self._call(lambda: found[0].kill(signal))

    def until(
        self, condition: Callable[[], object], tell: Callable[[], object] = str, timeout: float = START_S
    ) -> None:
        """Waits for it; fails with what `tell` says."""
        ends = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < ends, f"waited for {timeout} s; {tell()}"
            time.sleep(0.02)

    # Faults

    def fail(self, rpc: str, status: Status, message: str, times: int | None = None) -> None:
        """From now on this call of the control plane is refused, so many times or until `mend`."""
        self.plane.faults[rpc] = Fault(refused(status, message), times)

    def mend(self, rpc: str) -> None:
        self.plane.faults.pop(rpc, None)

    # What parts of the cloud ask it for; on its loop

    def call(self, function_input: pb.FunctionInput) -> Call:
        call = Call(self.plane.new("fc"), self.plane.new("in"), function_input)
        self.calls[call.call_id] = call
        return call

    def _address(self, app: App, tag: str, method: str) -> str:
        """A web function's address stays the same from one deployment to the next."""
        key = (app.name, app.ephemeral, tag, method)
        if key not in self.doors:
            self.doors[key] = Door(self, method)
        return self.doors[key].url

    def _published(self, app: App) -> None:
        """A new version: its containers start anew, without earlier snapshots and overrides."""
        for tag, function_id in app.function_ids.items():
            pool = Pool(self, app, tag, self.disk.root(app, tag))
            if former := self.pools.get(function_id):
                former.hand_over(pool)
                self._retire(former)
            self.pools[function_id] = pool
            for method, config in web_configs(pool.function).items():
                self._address(app, tag, method)
                door = self.doors[app.name, app.ephemeral, tag, method]
                door.pool, door.config = pool, config
            pool.reconcile()
        for function_id, pool in list(self.pools.items()):
            if pool.app is app and function_id not in app.function_ids.values():
                self._retire(self.pools.pop(function_id))

    def _retire(self, pool: Pool) -> None:
        self.retired.append(pool)
        for door in self.doors.values():
            if door.pool is pool:
                door.pool = None
        pool.close(graceful=True)

    def end(self, app: App) -> None:
        app.state, app.stopped_at = pb.APP_STATE_STOPPED, time.time()
        for function_id in app.function_ids.values():
            if pool := self.pools.pop(function_id, None):
                self._retire(pool)
