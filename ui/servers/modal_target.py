"""Servers on Modal, found by the names of their apps: `modal:bigemma3-hf-serve`.

A request to such a server starts a container if there is none, and keeps a running one for another minute. So it is
asked for vectors only: its model and its starts are learned from its answers and remembered (`MemoryFile`), and its
state comes from Modal's counts (`ModalStateFeed`), which wake no container.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from bench.coldstart.modal_target import APPS, WINDOW_S, ModalServer, explain_not_deployed, look_up_function
from serving.client import Answer, EmbeddingClient, ModelInfo
from serving.cloud import modal_account
from serving.cloud.credentials import Keys
from serving.cloud.modal_account import AccountError, ask_modal
from serving.cloud.server_shape import ServerShape, parse_shape
from serving.errors import BadValueError, NotFoundError, NotReadyError, ServingError, UnauthorizedError
from serving.system.files import write_file
from ui.servers.modal_feed import ContainerCounts, ModalStateFeed
from ui.servers.state import StartRecord
from ui.servers.target import ANSWER_S, Target

SCHEME = "modal:"
APP = re.compile(r"[A-Za-z0-9._-]{1,64}")
NOT_ASKED = "not_asked"
UNKNOWN_URL = "https://address-not-known-yet.invalid"
DEADLINE_S = 900.0
"""The first start after a deployment downloads 8.6 GB or compiles, and makes the snapshot: minutes."""
STARTS_KEPT = 20
"""The page expects the median of these of the next start."""
REQUEST_PHASES = ("queue", "decode", "embed")
"""Phases of one request; all others that an answer names belong to the start."""
PHASE_ORDER = ("start", "restore", "wake", "probe")
MOST_CONTAINERS = 10_000
"""As many as the bench simulates."""
log = logging.getLogger(__name__)


class ServerMemory(BaseModel):
    """Facts that one server gave of itself. `version` is its app's, which Modal counts up at each deployment."""

    model_config = ConfigDict(frozen=True)

    version: int = 0
    info: ModelInfo | None = None
    starts: tuple[StartRecord, ...] = ()
    boot_id: str = ""


class MemoryFile:
    """A file of facts about a server, so that the next page knows them without asking. Thread-safe.

    It is read when it is first needed: not before a snapshot of the page was made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._memory: ServerMemory | None = None

    def read(self) -> ServerMemory:
        with self._lock:
            if self._memory is None:
                self._memory = ServerMemory()
                with suppress(OSError, ValueError):
                    self._memory = ServerMemory.model_validate_json(self._path.read_bytes())
            return self._memory

    def update(self, **values: Any) -> None:
        """Change these facts. If they cannot be written, they are learned again."""
        with self._lock:
            self._memory = self.read().model_copy(update=values)
            with suppress(OSError):
                write_file(self._path, self._memory.model_dump_json(exclude={"boot_id"}).encode())


class ModalApp:
    """The app's web function, looked up when it is first needed, and again when it has gone. Wakes no container."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.not_deployed = explain_not_deployed(name)
        self._function: Any = None

    def fetch_url(self) -> str:
        """Raises NotReadyError: not deployed, or Modal cannot be asked."""
        try:
            url = ask_modal(self._look_up().get_web_url, self.not_deployed)
        except AccountError as error:
            raise NotReadyError(str(error), code="not_deployed") from None
        if not url:
            raise NotReadyError(self.not_deployed, code="not_deployed")
        return str(url).rstrip("/")

    def fetch_counts(self) -> ContainerCounts:
        """Raises AccountError."""
        try:
            found = ask_modal(self._look_up().get_current_stats, self.not_deployed)
        except AccountError:
            self._function = None
            raise
        return ContainerCounts(found.backlog, found.num_total_runners, found.num_running_inputs)

    def fetch_shape(self) -> ServerShape | None:
        """Return what it was deployed with; None where an earlier release deployed it. Raises AccountError."""
        return parse_shape(modal_account.read_tags(self.name, self.not_deployed))

    def fetch_limit(self) -> int | None:
        """Return how many containers it may have now; None: as many as it likes. Raises AccountError."""
        limit = self._fetch_scaling().max_containers
        return None if limit is None else int(limit)

    def fetch_window(self) -> int:
        """Return its scaledown window, in seconds. Raises AccountError."""
        return int(self._fetch_scaling().scaledown_window or WINDOW_S)

    def change_limit(self, containers: int) -> None:
        """Let it have so many containers, until the next deployment. Raises AccountError."""
        update = self._look_up().autoscaler.update
        ask_modal(lambda: update(max_containers=containers), self.not_deployed)

    def _fetch_scaling(self) -> Any:
        return ask_modal(self._look_up().autoscaler.settings, self.not_deployed)

    def fetch_version(self) -> int:
        """Raises AccountError."""
        return modal_account.look_up_app(self.name, self.not_deployed).version

    def _look_up(self) -> Any:
        if self._function is None:
            self._function = look_up_function(self.name)
        return self._function


class ModalClient(EmbeddingClient):
    """A client of one app, which finds the app's address and tells the feed of its requests."""

    def __init__(self, app: ModalApp, keys: Keys, feed: ModalStateFeed, on_answer: Callable[[Answer], None]) -> None:
        """`on_answer` is called with each answer that has vectors."""
        super().__init__(UNKNOWN_URL, keys.api, DEADLINE_S, headers=keys.headers)
        self._app = app
        self._feed = feed
        self._on_answer = on_answer

    def _embed(self, body: dict[str, Any]) -> Answer:
        with self._feed.track_request():
            answer = super()._embed(body)
            self._on_answer(answer)
        return answer

    def _call(self, method: str, path: str, body: bytes | None, deadline_s: float) -> tuple[Any, int]:
        if self.url == UNKNOWN_URL:
            self.url = self._app.fetch_url()
        try:
            return super()._call(method, path, body, deadline_s)
        except NotFoundError:  # Modal's edge, for an app that was stopped: each path that we ask for is there
            self.url = UNKNOWN_URL
            raise NotReadyError(self._app.not_deployed, code="not_deployed") from None
        except UnauthorizedError:
            if self.headers:
                raise
            raise UnauthorizedError(
                f"{self._app.name} asks for a proxy token of its workspace: set DORMOUSE_MODAL_KEY and"
                " DORMOUSE_MODAL_SECRET, from `modal workspace proxy-tokens create`"
            ) from None


class ModalTarget(Target):
    """A server on Modal. `app` is looked up when it is first needed, so it may be deployed while the page runs."""

    def __init__(self, name: str, app: str, keys: Keys, folder: Path) -> None:
        """`folder`: where the server's facts are remembered."""
        self.app = app
        self.containers: int | None = None
        """Keep no more of its containers busy than these; None: all that it may have."""
        self.on_answer: Callable[[Answer], None] = lambda _: None
        self._keys = keys
        self.modal = ModalApp(app)
        self._memory = MemoryFile(folder / f"worker-{app}.json")
        feed = ModalStateFeed(self.modal.fetch_counts, lambda: self._memory.read().starts)
        super().__init__(ModalClient(self.modal, keys, feed, self._learn), name or app, feed)

    @property
    def deployment(self) -> str:
        """The bench's name of this kind of server."""
        return "vllm" if "vllm" in self.app else "hf"

    @property
    def known_info(self) -> ModelInfo | None:
        return self._memory.read().info

    def fetch_info(self) -> ModelInfo:
        """Return what came with its last answer: asking it now would start a container. Raises NotReadyError."""
        if (found := self.known_info) is None:
            raise NotReadyError(
                f"{self.name} reports its model with its first answer: it is not asked before, because that would start"
                " a container",
                code=NOT_ASKED,
            )
        return found

    def _fetch_info_again(self) -> ModelInfo:
        """Forget the model if the app was deployed again since: then it may be another. Raises NotReadyError."""
        if self.known_info is None:
            return self.fetch_info()  # nothing to forget, and nothing to ask Modal for
        with suppress(AccountError):
            if self.modal.fetch_version() != self._memory.read().version:
                self._memory.update(info=None)
        return self.fetch_info()

    @property
    def starts(self) -> Sequence[StartRecord]:
        """Its last starts that this folder knows, the newest last."""
        return self._memory.read().starts

    def fetch_places(self) -> int | None:
        """Return how many requests its containers take, all that it may have now; None where Modal does not say."""
        try:
            shape, limit = self.modal.fetch_shape(), self.modal.fetch_limit()
        except Exception as error:  # the client's own as well: uploads go on with what they have
            log.warning("how many containers %s may have cannot be asked: %s", self.app, error)
            return None
        if shape is None:
            return None
        if limit is None:  # no bound of Modal's: then one is what nobody pays for by mistake
            return (self.containers or 1) * shape.requests
        return min(limit, self.containers or limit) * shape.requests

    def use_keys(self, keys: Keys) -> None:
        self._keys = keys
        self.client.key = keys.api
        self.client.headers = dict(keys.headers)

    def open_bench_target(self) -> ModalServer:
        """Return what brings the server to zero. Raises TargetError."""
        return ModalServer(self.deployment, self.app, self._keys)

    def _learn(self, answer: Answer) -> None:
        """Remember the start of a container from its first answer, and the model once a container is awake."""
        self.on_answer(answer)
        known = self._memory.read()
        if answer.boot_requests == 1:
            self._memory.update(starts=(*known.starts, as_start_record(answer))[-STARTS_KEPT:])
        if answer.boot_id == known.boot_id:
            return
        self._memory.update(boot_id=answer.boot_id)
        if known.info is None or known.info.fingerprint != answer.fingerprint or answer.start_kind != "restored":
            threading.Thread(target=self._learn_info, name="model info", daemon=True).start()

    def _learn_info(self) -> None:
        with suppress(ServingError):
            info = self.client.fetch_info(ANSWER_S)
            version = 0
            with suppress(AccountError):
                version = self.modal.fetch_version()
            self._memory.update(info=info, version=version)


def as_start_record(answer: Answer) -> StartRecord:
    """Return the start of the container that gave this answer.

    Time that its server does not account for is Modal's: for a place, for a container. An answer in less time than the
    start took did not wait for it.
    """
    phases = {name: max(0.0, value) for name, value in answer.server_ms.items()}
    total = answer.seconds * 1000
    platform = total - sum(phases.values())
    others = sorted(set(phases) - {*PHASE_ORDER, *REQUEST_PHASES})
    names = [*(name for name in PHASE_ORDER if name in phases), *others]
    start = {"platform": max(0.0, platform), **{name: phases[name] for name in names}}
    return StartRecord(
        at=time.time() - answer.seconds,
        backend="modal",
        kind=answer.start_kind,
        outcome="ok",
        phases=start,
        ready_ms=sum(start.values()),
        first_answer_ms=total if platform >= 0 else None,
    )


def parse_app_name(address: str) -> str | None:
    """Return the app of `modal:APP`, None for another address. Raises BadValueError."""
    if not address.startswith(SCHEME):
        return None
    app = address.removeprefix(SCHEME).strip()
    if not APP.fullmatch(app):
        raise BadValueError(f"{app!r} is no name of a Modal app: give it as in modal:{APPS['hf']}")
    return app
