"""The life of a worker in a container that its platform saves and brings back by itself, such as Modal's.

```
prepare   weights, load, warm up, probe, the app, sleep     once; all of it is in the snapshot
begin     settings, random state, boot id, wake, probe      in each container, created or restored
end       the embedder's processes                          once in each container
```

Knows of the platform two names in the environment, nothing else: what it has to do for us (keep files, send no more
requests) are functions that it is given. What a start is called is in `start_kind`.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp

from serving import embedders, logs
from serving.app import create_app
from serving.deadlines import in_background, ms_since, timed, within
from serving.embedders import Embedder
from serving.embedders.checkpoint import WeightsError
from serving.embedders.gemma import Gemma
from serving.errors import ServingError, UnauthorizedError
from serving.fetch import fetched
from serving.memory import give_back_memory
from serving.probe import difference, unusable
from serving.rehearsal import Calls, rehearse
from serving.settings import Settings
from serving.worker import StartKind, Worker
from serving.worker_process import in_a_thread, new_random_state

SNAPSHOTS = "MODAL_ENABLE_SNAP_RESTORE"
"""1 in a container that makes a snapshot, or came from one."""
TASK = "MODAL_TASK_ID"
"""Of this container; a restored one has another than the one that was saved."""
QUIET_S = 0.5
"""After the last answer was given to the platform, for the platform to hand it on."""
WITHOUT_ANSWER_S = 30.0
"""For a worker that is given up to let its memory go."""
log = logging.getLogger(__name__)


class LifeError(ServingError):
    """The container cannot serve and has to end; the message says what to do."""

    code = "life"


@dataclass
class Built:
    """An embedder that was loaded and warmed up, behind its worker and app. `probe` is float[n][dimension]."""

    embedder: Embedder
    worker: Worker
    app: Calls
    probe: list[list[float]]


def nothing() -> None: ...


class Life:
    """`prepare`, `begin`, `end`, each from the container's main thread; `app` after `begin`."""

    def __init__(
        self,
        embedder: str,
        *,
        sleeps: bool = False,
        revision: str = "",
        advice: str = "",
        bring_files: Callable[[], None] = nothing,
        keep_files: Callable[[], None] = nothing,
        stop: Callable[[], None] = nothing,
    ) -> None:
        """`embedder` is a name of `embedders.NAMES` or `package.module:Class`.

        `sleeps`: it gives its memory back before a snapshot and takes it again in each life.
        `revision`: of the weights on the hub; empty: the newest at the first download.
        `advice`: what to do about weights that cannot be had, in the platform's own words.
        `bring_files`, `keep_files`: what earlier containers compiled is here when it returns, and what this one
        downloaded and compiled outlives it. Neither is needed for serving: one that fails is told, no more.
        `stop`: the platform sends this container nothing more, and ends it after its last answer.
        """
        self._name = embedder
        self._sleeps = sleeps
        self._revision = revision
        self._advice = advice
        self._bring_files = bring_files
        self._keep_files = keep_files
        self._stop = stop
        self._given: dict[str, Any] = {}
        self._built: Built | None = None
        self._start_ms = 0.0
        self._asleep = False
        self._task = ""
        self._saved_at = 0.0

    @property
    def app(self) -> ASGIApp:
        return self._here.app

    @property
    def worker(self) -> Worker:
        return self._here.worker

    @property
    def _here(self) -> Built:
        if self._built is None:
            raise LifeError("there is no worker: prepare first")
        return self._built

    def prepare(self) -> None:
        """Everything that is in the snapshot. Raises ServingError, and whatever the embedder raises."""
        tell_on_stderr()
        began = time.perf_counter()
        settings = self._settings()
        check_access(settings)
        tried(self._bring_files, "what earlier containers compiled is not here, it is compiled again")
        self._built = self._build(settings)
        self._start_ms = ms_since(began)
        tried(self._keep_files, "what was downloaded and compiled is not kept, later starts do it again")
        self._task, self._saved_at = os.environ.get(TASK, ""), time.time()
        log.info("%s is loaded and warmed up in %.1f s", self._here.embedder.title, self._start_ms / 1000)
        if self._sleeps and os.environ.get(SNAPSHOTS) == "1":
            try:
                self._here.embedder.sleep()
            except BaseException:
                self.end()
                raise
            self._asleep = True
        gc.collect()
        give_back_memory()
        gc.freeze()  # a collection after a restore would fetch every page of what was loaded

    def begin(self) -> None:
        """A new life. Raises LifeError if there is no worker that computes what it should."""
        began = time.perf_counter()
        kind = start_kind(os.environ, self._task)
        settings = self._settings()
        new_random_state()
        self.worker.renew(settings, kind, "none" if kind == "plain" else "disk")
        phases: dict[str, float] = {} if kind == "restored" else {"start": self._start_ms}
        reason = None if kind == "plain" and not self._asleep else self._came_back(settings, phases)
        if reason is not None:
            self._start_again(reason, settings, phases)
        if self.worker.boot.kind != "plain":  # of a restore, this process sees only its own part
            phases["restore"] = ms_since(began) - phases.get("wake", 0.0) - phases["probe"]
        self.worker.boot.phases.update(phases)
        self._tell(kind, phases)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, lambda *_: in_background(self._leave))

    def end(self) -> None:
        """Ends the embedder's processes; what it answers in between is finished by then."""
        if self._built is not None:
            self._built.embedder.close()

    def _settings(self) -> Settings:
        """As the environment has them now: the platform changes it when it restores."""
        return Settings(**self._given)

    def _build(self, settings: Settings) -> Built:
        kind = embedders.of(self._name)
        if isinstance(kind, type) and issubclass(kind, Gemma):
            self._given = {"weights": self._weights(settings)}
            settings = self._settings()
        embedder = kind(settings)
        try:
            in_a_thread(embedder.load)
            in_a_thread(embedder.warm_up)
            probe = in_a_thread(embedder.probe).tolist()
            reason = unusable(probe)
            if reason is not None:
                raise LifeError(f"{embedder.title} cannot be served: {reason}")
        except BaseException:
            embedder.close()
            raise
        worker = Worker(embedder, settings)
        app = Calls(create_app(worker, lambda: worker.settings.admin_key.get_secret_value(), self._stop_soon))
        rehearse(app)
        return Built(embedder, worker, app, probe)

    def _weights(self, settings: Settings) -> str:
        try:
            return fetched(settings.weights, self._revision)
        except WeightsError as error:
            raise WeightsError(f"{error.message}. {self._advice}" if self._advice else error.message) from None

    def _came_back(self, settings: Settings, phases: dict[str, float]) -> str | None:
        """Why this worker may not serve: it did not wake up in time, or computes something else than before."""
        here = self._here
        try:
            if self._asleep:
                with timed(phases, "wake"):
                    within(settings.restore_timeout_s, here.embedder.wake)
                self._asleep = False
            with timed(phases, "probe"):
                after = within(settings.restore_timeout_s, here.embedder.probe)
        except TimeoutError:
            return f"it did not wake up within {settings.restore_timeout_s:g} s"
        except Exception as error:
            log.exception("the worker did not wake up")
            return f"{type(error).__name__}: {error}"
        return difference(here.probe, after.tolist(), exact=here.embedder.device == "cpu")

    def _start_again(self, reason: str, settings: Settings, phases: dict[str, float]) -> None:
        """In full, in this process. Raises LifeError."""
        log.error("what came back from the snapshot is not used, starting in full instead: %s", reason)
        began = time.perf_counter()
        self._take_apart()
        try:
            self._built = self._build(settings)
        except Exception as error:
            raise LifeError(
                f"what came back from the snapshot cannot be used ({reason}), and starting in full failed as well"
                f" ({type(error).__name__}: {error}): deploy again, which makes a new snapshot"
            ) from error
        self.worker.renew(self._settings(), "plain", "none")
        phases["start"] = ms_since(began)

    def _take_apart(self) -> None:
        """The memory of the worker that is not used goes to the next one."""
        embedder, self._built = self._here.embedder, None
        for give_back in (embedder.sleep, embedder.close):
            with suppress(Exception):
                within(WITHOUT_ANSWER_S, give_back)
        del embedder, give_back
        self._asleep = False
        gc.unfreeze()
        gc.collect()

    def _stop_soon(self) -> None:
        """Called on the event loop, which must not wait for the platform."""
        in_background(self._stop_fetching)

    def _stop_fetching(self) -> None:
        tried(self._stop, "the platform did not take the request to stop: the container goes when it is idle")

    def _leave(self) -> None:
        """After SIGTERM: no more requests, those in flight are finished, then the platform's own way of ending."""
        self._stop_fetching()
        ends = time.monotonic() + self.worker.settings.drain_s
        quiet_since = time.monotonic()
        while time.monotonic() < ends and time.monotonic() - quiet_since < QUIET_S:
            if self._here.app.in_flight:
                quiet_since = time.monotonic()
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    def _tell(self, kind: StartKind, phases: Mapping[str, float]) -> None:
        """All that a start kind was concluded from, so that it can be judged from the log."""
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
        log.info("a life begins: %s", json.dumps(seen))


def tried(work: Callable[[], None], otherwise: str) -> None:
    try:
        work()
    except Exception:
        log.exception(otherwise)


def start_kind(environment: Mapping[str, str], task_of_snapshot: str) -> StartKind:
    if environment.get(SNAPSHOTS) != "1":
        return "plain"
    return "created" if environment.get(TASK, "") == task_of_snapshot else "restored"


def check_access(settings: Settings) -> None:
    """Raises UnauthorizedError: a container that could only refuse everybody is not worth a GPU."""
    if not settings.keys and not settings.open_access:
        raise UnauthorizedError(
            "this server has no keys, and nothing else asks who is calling: set DORMOUSE_API_KEYS in its secret, or"
            " deploy with DORMOUSE_MODAL_ACCESS=proxy (the platform asks for its own tokens) or =open (for everybody)"
        )


def tell_on_stderr() -> None:
    """Our own lines, in the container's log; those of libraries stay as the platform has them."""
    ours = logging.getLogger("serving")
    if not ours.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(logs.FORMAT))
        ours.addHandler(handler)
        ours.setLevel(logging.INFO)
        ours.propagate = False
