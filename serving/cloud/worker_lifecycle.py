"""The lifecycle of a worker in a container that its platform snapshots and restores by itself, such as Modal's.

```
prepare   weights, load, warm up, probe, the app, sleep     once; all of it is in the snapshot
begin     settings, random state, boot id, wake, probe      in each container, created or restored
end       stop the embedder's processes                     once in each container
```

Knows two environment variables of the platform and nothing else of it: callers pass functions for the rest (keep files,
send no more requests). `classify_start` decides what a start is called.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any

from PIL import Image
from starlette.types import ASGIApp, Message, Scope

from serving.embedders import base
from serving.embedders.bigemma3.base import BiGemma3Base
from serving.embedders.bigemma3.download import ensure_downloaded
from serving.embedders.gpu.weight_arena import WeightsError
from serving.embedders.probe import describe_difference, why_unusable
from serving.errors import ServingError, UnauthorizedError
from serving.http.access import RequestGuard
from serving.http.responses import StartKind
from serving.settings import Settings
from serving.system import log as logs
from serving.system.processes import give_back_memory
from serving.system.timeouts import ms_since, run_in_background, run_with_deadline, time_phase
from serving.worker.process import reseed_random, run_in_thread
from serving.worker.routes import create_app
from serving.worker.worker import Worker

SNAPSHOTS = "MODAL_ENABLE_SNAP_RESTORE"
"""1 in a container that makes a snapshot, or came from one."""
TASK = "MODAL_TASK_ID"
"""Id of this container; a restored container has another id than the one that was saved."""
QUIET_S = 0.5
"""Wait after the last answer, for the platform to deliver it."""
WITHOUT_ANSWER_S = 30.0
"""Time limit for a discarded worker to give its memory back."""
PLATFORM_IMPORTS = ("aiohttp",)
"""Imported by Modal's client when an app is first served: half a second of each restore if it is not there by then."""
log = logging.getLogger(__name__)


class LifecycleError(ServingError):
    """The container cannot serve and has to end; the message says what to do."""

    code = "lifecycle"


@dataclass
class LoadedWorker:
    """A worker with a warmed-up embedder, and its app. `probe` is float[n][dimension]."""

    worker: Worker
    app: RequestGuard
    probe: list[list[float]]


def do_nothing() -> None: ...


@dataclass(eq=False)
class ContainerLifecycle:
    """Takes a container from import to exit: `prepare`, `begin`, `end` in its main thread; `app` after `begin`."""

    name: str
    """A name of `embedders.EMBEDDERS` or `package.module:Class`."""
    _: KW_ONLY
    sleeps: bool = False
    """Gives the memory back before a snapshot and takes it again after each restore."""
    revision: str = ""
    """Revision of the weights on the hub; empty: the newest at the first download."""
    advice: str = ""
    """Says what to do if the weights cannot be downloaded, in the platform's terms."""
    restore_files: Callable[[], None] = do_nothing
    """Copies compiled code of earlier containers here. Serving does not need it: a failure is only logged."""
    keep_files: Callable[[], None] = do_nothing
    """Keeps what this container has downloaded and compiled, likewise."""
    stop: Callable[[], None] = do_nothing
    """Asks the platform to send this container no more requests and to end it after its last answer."""

    def __post_init__(self) -> None:
        self._given: dict[str, Any] = {}
        self._built: LoadedWorker | None = None
        self._start_ms = 0.0
        self._asleep = False
        self._task = ""
        self._saved_at = 0.0

    @property
    def app(self) -> ASGIApp:
        return self._loaded.app

    @property
    def worker(self) -> Worker:
        return self._loaded.worker

    @property
    def _loaded(self) -> LoadedWorker:
        if self._built is None:
            raise LifecycleError("there is no worker: prepare first")
        return self._built

    def prepare(self) -> None:
        """Build everything that is in the snapshot. Raises ServingError, and whatever the embedder raises."""
        log_own_lines()
        began = time.perf_counter()
        settings = Settings()
        check_access(settings)
        run_optional(self.restore_files, "code that earlier containers compiled is missing: it is compiled again")
        self._built = self._build(settings)
        self._start_ms = ms_since(began)
        run_optional(self.keep_files, "downloads and compiled code are not kept: later starts repeat them")
        self._task, self._saved_at = os.environ.get(TASK, ""), time.time()
        log.info("%s is loaded and warmed up in %.1f s", self.worker.embedder.title, self._start_ms / 1000)
        if self.sleeps and os.environ.get(SNAPSHOTS) == "1":
            try:
                self.worker.embedder.sleep()
            except BaseException:
                self.end()
                raise
            self._asleep = True
        gc.collect()
        give_back_memory()
        gc.freeze()  # a collection after a restore would fetch every page of what was loaded

    def begin(self) -> None:
        """Serve from this container, created or restored. Raises LifecycleError without a worker that answers right."""
        began = time.perf_counter()
        kind = classify_start(os.environ, self._task)
        settings = Settings(**self._given)  # the platform changes the environment when it restores
        reseed_random()
        self.worker.start_boot(settings, kind, "none" if kind == "plain" else "disk")
        phases: dict[str, float] = {} if kind == "restored" else {"start": self._start_ms}
        reason = None if kind == "plain" and not self._asleep else self._check_restored(settings, phases)
        if reason is not None:
            self._start_in_full(reason, settings, phases)
        if self.worker.boot.kind != "plain":  # of a restore, this process sees only its own part
            phases["restore"] = ms_since(began) - phases.get("wake", 0.0) - phases["probe"]
        self.worker.boot.phases.update(phases)
        self._log_start(kind, phases)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, lambda *_: run_in_background(self._drain_and_exit))

    def end(self) -> None:
        """End the embedder's processes; requests in flight are finished by then."""
        if self._built is not None:
            self._built.worker.embedder.close()

    def _build(self, settings: Settings) -> LoadedWorker:
        kind = base.find_embedder_class(self.name)
        if isinstance(kind, type) and issubclass(kind, BiGemma3Base):
            self._given = {"weights": self._weights(settings)}
            settings = Settings(**self._given)
        embedder = kind(settings)
        try:
            run_in_thread(embedder.load)
            run_in_thread(embedder.warm_up)
            probe = run_in_thread(embedder.probe).tolist()
            reason = why_unusable(probe)
            if reason is not None:
                raise LifecycleError(f"{embedder.title} cannot be served: {reason}")
        except BaseException:
            embedder.close()
            raise
        worker = Worker(embedder, settings)
        # Stops in the background: the event loop must not wait for the platform.
        stop = partial(run_in_background, self._stop_fetching)
        app = create_app(worker, lambda: worker.settings.admin_key.get_secret_value(), stop)
        prewarm_app(app)
        return LoadedWorker(worker, app, probe)

    def _weights(self, settings: Settings) -> str:
        try:
            return ensure_downloaded(settings.weights, self.revision)
        except WeightsError as error:
            raise WeightsError(f"{error.message}. {self.advice}" if self.advice else error.message) from None

    def _check_restored(self, settings: Settings, phases: dict[str, float]) -> str | None:
        """Return why this worker may not serve (no wake-up in time, another probe vector), or None if it may."""
        here = self._loaded
        try:
            if self._asleep:
                with time_phase(phases, "wake"):
                    run_with_deadline(settings.restore_timeout_s, here.worker.embedder.wake)
                self._asleep = False
            with time_phase(phases, "probe"):
                after = run_with_deadline(settings.restore_timeout_s, here.worker.embedder.probe)
        except TimeoutError:
            return f"it did not wake up within {settings.restore_timeout_s:g} s"
        except Exception as error:
            log.exception("the worker did not wake up")
            return f"{type(error).__name__}: {error}"
        return describe_difference(here.probe, after.tolist(), exact=here.worker.embedder.device == "cpu")

    def _start_in_full(self, reason: str, settings: Settings, phases: dict[str, float]) -> None:
        """Replace the worker by one started in full in this process. Raises LifecycleError."""
        log.error("the restored worker is not used, starting in full instead: %s", reason)
        began = time.perf_counter()
        self._discard_worker()
        try:
            self._built = self._build(settings)
        except Exception as error:
            raise LifecycleError(
                f"the restored worker cannot be used ({reason}), and starting in full failed as well"
                f" ({type(error).__name__}: {error}): deploy again, which makes a new snapshot"
            ) from error
        self.worker.start_boot(Settings(**self._given), "plain", "none")
        phases["start"] = ms_since(began)

    def _discard_worker(self) -> None:
        """Free the memory of the worker that is not used."""
        embedder, self._built = self.worker.embedder, None
        for give_back in (embedder.sleep, embedder.close):
            with suppress(Exception):
                run_with_deadline(WITHOUT_ANSWER_S, give_back)
        del embedder, give_back
        self._asleep = False
        gc.unfreeze()
        gc.collect()

    def _stop_fetching(self) -> None:
        run_optional(self.stop, "the platform did not accept the request to stop: the container ends when it is idle")

    def _drain_and_exit(self) -> None:
        """End after SIGTERM: take no more requests, finish those in flight, then end the platform's way (SIGINT)."""
        self._stop_fetching()
        ends = time.monotonic() + self.worker.settings.drain_s
        quiet_since = time.monotonic()
        while time.monotonic() < ends and time.monotonic() - quiet_since < QUIET_S:
            if self._loaded.app.in_flight:
                quiet_since = time.monotonic()
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    def _log_start(self, kind: StartKind, phases: Mapping[str, float]) -> None:
        """Log everything that the start kind was concluded from, so that it can be checked."""
        boot = self.worker.boot
        seen = {
            "boot_id": boot.id,
            "kind": boot.kind,
            "seen_as": kind,
            "snapshots": os.environ.get(SNAPSHOTS, ""),
            "task": os.environ.get(TASK, ""),
            "task_of_snapshot": self._task,
            "age_of_snapshot_s": round(time.time() - self._saved_at, 3),
            "ms": {name: round(value, 1) for name, value in phases.items()},
        }
        log.info("a container begins to serve: %s", json.dumps(seen))


def run_optional(work: Callable[[], None], otherwise: str) -> None:
    """Run work that serving does not need; a failure is logged as `otherwise`."""
    try:
        work()
    except Exception:
        log.exception(otherwise)


def prewarm_app(app: ASGIApp) -> None:
    """Answer one request inside the process, so that all that a request imports and builds is in the snapshot."""
    for name in PLATFORM_IMPORTS:
        with suppress(ImportError):
            importlib.import_module(name)
    Image.init()
    scope: Scope = {"type": "http", "method": "GET", "path": "/health", "query_string": b"", "headers": []}

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: Message) -> None: ...

    async def call() -> None:
        await app(scope, receive, send)

    run_in_thread(lambda: asyncio.run(call()))


def classify_start(environment: Mapping[str, str], task_of_snapshot: str) -> StartKind:
    """Return the start kind by the platform's variables. `task_of_snapshot`: id of the container that was saved."""
    if environment.get(SNAPSHOTS) != "1":
        return "plain"
    return "created" if environment.get(TASK, "") == task_of_snapshot else "restored"


def check_access(settings: Settings) -> None:
    """Raise UnauthorizedError if nobody could be let in: such a container is not worth a GPU."""
    if not settings.keys and not settings.open_access:
        raise UnauthorizedError(
            "this server has no keys, and nothing else asks who is calling: set DORMOUSE_API_KEYS in its secret, or"
            " deploy with DORMOUSE_MODAL_ACCESS=proxy (the platform asks for its own tokens) or =open (for everybody)"
        )


def log_own_lines() -> None:
    """Write our own log lines to the container's log; those of libraries stay as the platform has them."""
    ours = logging.getLogger("serving")
    if not ours.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(logs.FORMAT))
        ours.addHandler(handler)
        ours.setLevel(logging.INFO)
        ours.propagate = False
