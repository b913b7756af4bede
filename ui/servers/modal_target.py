"""Servers on Modal, found by the names of their apps: `modal:bigemma3-hf-serve`.

Any request to such a server starts a container if there is none, and keeps it for another minute if there is. So it is
asked for nothing but vectors: what it is and how it came up is learned from its answers and remembered (`Memory`), and
what it does meanwhile from what Modal counts (`ModalWatch`), which wakes nobody.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from bench.coldstart.modal_target import APPS, ModalServer, explain_not_deployed, look_up_function
from serving.client import Answer, EmbeddingClient, ModelInfo
from serving.cloud import modal_account
from serving.cloud.credentials import Keys
from serving.cloud.modal_account import AccountError, ask_modal
from serving.errors import BadValueError, NotFoundError, NotReadyError, ServingError, UnauthorizedError
from serving.library.catalogue import FingerprintError
from serving.library.library import Library
from serving.library.records import CollectionKey
from serving.system.files import write_file
from ui.servers.modal_feed import ModalWatch, Stats
from ui.servers.state import Row
from ui.servers.target import ANSWER_S, Target

SCHEME = "modal:"
NOT_ASKED = "not_asked"
NOT_YET = "https://address-not-known-yet.invalid"
DEADLINE_S = 900.0
"""The first start after a deployment downloads 8.6 GB or compiles, and makes the snapshot: minutes."""
ROWS = 20
"""Starts that are remembered; what the page expects of the next is their median."""
REQUEST = ("queue", "decode", "embed")
"""Phases of one request; what else an answer tells is of the start."""
ORDER = ("start", "restore", "wake", "probe")


@dataclass(frozen=True)
class Known:
    """What one server said of itself. `version` is its app's, counted by Modal at each deployment."""

    version: int = 0
    info: ModelInfo | None = None
    starts: tuple[Row, ...] = ()
    boot_id: str = ""


@dataclass
class Memory:
    """A file of what a server said, so that the next page knows it without asking. From any thread.

    It is read when it is first asked for: not before a snapshot of the page was made.
    """

    path: Path
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)
    _known: Known | None = None

    @property
    def known(self) -> Known:
        with self._lock:
            if self._known is None:
                self._known = read(self.path)
            return self._known

    def change(self, **values: Any) -> None:
        """It is no harm if it cannot be written: it would only be learned again."""
        with self._lock:
            self._known = replace(self.known, **values)
            content = {
                "version": self._known.version,
                "info": None if self._known.info is None else asdict(self._known.info),
                "starts": [row.model_dump() for row in self._known.starts],
            }
            with suppress(OSError):
                write_file(self.path, orjson.dumps(content))


def read(path: Path) -> Known:
    try:
        found = orjson.loads(path.read_bytes())
        info = found["info"]
        if info is not None:
            info = ModelInfo(**{**info, "dimensions": tuple(info["dimensions"])})
        return Known(int(found["version"]), info, tuple(Row.model_validate(row) for row in found["starts"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Known()


class Lookup:
    """The app's web function, looked up when it is first needed, and again when it has gone. Wakes nobody."""

    def __init__(self, app: str) -> None:
        self.app = app
        self._found: Any = None

    def url(self) -> str:
        """Raises NotReadyError: not deployed, or Modal cannot be asked."""
        try:
            url = ask_modal(self._function().get_web_url, explain_not_deployed(self.app))
        except AccountError as error:
            raise NotReadyError(str(error), code="not_deployed") from None
        if not url:
            raise NotReadyError(explain_not_deployed(self.app), code="not_deployed")
        return str(url).rstrip("/")

    def stats(self) -> Stats:
        """Raises AccountError."""
        try:
            found = ask_modal(self._function().get_current_stats, explain_not_deployed(self.app))
        except AccountError:
            self._found = None
            raise
        return Stats(found.backlog, found.num_total_runners, found.num_running_inputs)

    def version(self) -> int:
        """Counted up by each deployment. Raises AccountError."""
        return modal_account.look_up_app(self.app, explain_not_deployed(self.app)).version

    def _function(self) -> Any:
        if self._found is None:
            self._found = look_up_function(self.app)
        return self._found


class ModalClient(EmbeddingClient):
    def __init__(self, lookup: Lookup, access: Keys, watch: ModalWatch, answered: Callable[[Answer], None]) -> None:
        """`answered` hears of each answer with vectors."""
        super().__init__(NOT_YET, access.api, DEADLINE_S, headers=access.headers)
        self._lookup = lookup
        self._watch = watch
        self._answered = answered

    def _embed(self, body: dict[str, Any]) -> Answer:
        with self._watch.asking():
            answer = super()._embed(body)
            self._answered(answer)
        return answer

    def _call(self, method: str, path: str, body: bytes | None, deadline_s: float) -> tuple[Any, int]:
        if self.url == NOT_YET:
            self.url = self._lookup.url()
        try:
            return super()._call(method, path, body, deadline_s)
        except NotFoundError:  # Modal's edge, for an app that was stopped: each path that we ask for is there
            self.url = NOT_YET
            raise NotReadyError(explain_not_deployed(self._lookup.app), code="not_deployed") from None
        except UnauthorizedError:
            if self.headers:
                raise
            raise UnauthorizedError(
                f"{self._lookup.app} asks for a proxy token of its workspace: set DORMOUSE_MODAL_KEY and"
                " DORMOUSE_MODAL_SECRET, from `modal workspace proxy-tokens create`"
            ) from None


class ModalTarget(Target):
    """`app` is looked up when it is first needed, so it may be deployed while the page runs."""

    def __init__(self, name: str, app: str, access: Keys, folder: Path) -> None:
        """`folder`: where what it says is remembered."""
        self.app = app
        self._access = access
        self._lookup = Lookup(app)
        self._memory = Memory(folder / f"worker-{app}.json")
        watch = ModalWatch(self._lookup.stats, lambda: self._memory.known.starts)
        super().__init__(ModalClient(self._lookup, access, watch, self._learn), name or app, watch)

    @property
    def title(self) -> str:
        return self.name

    @property
    def local(self) -> bool:
        return False

    @property
    def deployment(self) -> str:
        """What the bench calls it."""
        found = {app: name for name, app in APPS.items()}
        return found.get(self.app, "vllm" if "vllm" in self.app else "hf")

    @property
    def known(self) -> ModelInfo | None:
        return self._memory.known.info

    def info(self) -> ModelInfo:
        """What it said with its last answer: asking it now would start a container. Raises NotReadyError."""
        if (found := self.known) is None:
            raise NotReadyError(
                f"{self.name} says what it is with its first answer: it is not asked before, because that would start"
                " a container",
                code=NOT_ASKED,
            )
        return found

    def check(self, library: Library, collection: CollectionKey) -> None:
        """Raises FingerprintError, unless it was deployed again since it told its fingerprint: then it may answer."""
        if (found := self.known) is None or library.catalogue.read_collection(collection).fingerprint is None:
            return
        try:
            library.catalogue.check_fingerprint(collection, found.fingerprint)
        except FingerprintError:
            with suppress(AccountError):
                if self._lookup.version() != self._memory.known.version:
                    self._memory.change(info=None)
                    return
            raise

    def use(self, access: Keys) -> None:
        """From now on."""
        self._access = access
        self.client.key = access.api
        self.client.headers = dict(access.headers)

    def bench_target(self) -> ModalServer:
        """To bring it to zero. Raises TargetError."""
        return ModalServer(self.deployment, self.app, self._access)

    def _learn(self, answer: Answer) -> None:
        """From an answer: how its container came up, if it is the first of it; and what it is, now that it is awake."""
        known = self._memory.known
        if answer.boot_requests == 1:
            self._memory.change(starts=(*known.starts, row(answer))[-ROWS:])
        if answer.boot_id == known.boot_id:
            return
        self._memory.change(boot_id=answer.boot_id)
        if known.info is None or known.info.fingerprint != answer.fingerprint or answer.start_kind != "restored":
            threading.Thread(target=self._introduce, name="introduction", daemon=True).start()

    def _introduce(self) -> None:
        with suppress(ServingError):
            info = self.client.fetch_info(ANSWER_S)
            version = 0
            with suppress(AccountError):
                version = self._lookup.version()
            self._memory.change(info=info, version=version)


def row(answer: Answer) -> Row:
    """The start of the container that gave this answer. What its server does not tell is Modal's part: a place, a
    container. An answer in less time than the start took did not wait for it."""
    told = {name: max(0.0, value) for name, value in answer.server_ms.items()}
    names = sorted(set(told) - set(REQUEST), key=lambda name: (ORDER.index(name) if name in ORDER else 99, name))
    start = {name: told[name] for name in names}
    whole = answer.seconds * 1000
    platform = whole - sum(told.values())
    phases = {"platform": max(0.0, platform), **start}
    return Row(
        at=time.time() - answer.seconds, backend="modal", kind=answer.start_kind, outcome="ok", phases=phases,
        ready_ms=sum(phases.values()), first_answer_ms=whole if platform >= 0 else None,
    )  # fmt: skip


def app_name(address: str) -> str | None:
    """Of `modal:APP`; None for another address. Raises BadValueError."""
    if not address.startswith(SCHEME):
        return None
    app = address.removeprefix(SCHEME).strip()
    if not app or len(app) > 64 or not all(char.isascii() and (char.isalnum() or char in "._-") for char in app):
        raise BadValueError(f"{app!r} is no name of a Modal app: give it as in modal:{APPS['hf']}")
    return app
