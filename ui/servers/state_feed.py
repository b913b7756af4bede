"""The state of one server for all browsers together, read by one thread; the newest and the last minutes are kept.

Only an engine's events are asked for, and those wake no worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator

import orjson
import requests

from serving.http.event_stream import parse_events
from serving.system.timeouts import GrowingPause
from ui.servers import state
from ui.servers.state import EngineState, ServerState
from ui.servers.state_history import StateHistory, StateSpan, WorkerHistories

CONNECT_S = 5.0
SILENCE_S = 40.0
"""After so long without an event the connection counts as broken: the engine sends something every 15 s."""
PAUSES_S = (0.5, 1.0, 2.0, 5.0, 15.0)
"""Before the first, second, ... try in a row: an engine that was started again answers after two seconds."""
REPEAT_S = 15.0
"""A browser gets the state again after this, so that it knows the connection lives, and ages stay true."""
BROWSERS = 256
"""Open streams at once; more are refused, so that nothing grows without limit."""
log = logging.getLogger(__name__)


class StateRefused(Exception):
    """Something answers but refuses: asking again would change nothing, and might keep it awake."""


class StateFeed:
    """The newest state of one server, for all browsers. Subclasses know where it comes from."""

    engine: Callable[[], tuple[str, str]] | None = None
    """Return the address and admin key of an engine of ours, where there is one."""

    def __init__(self, first: ServerState) -> None:
        self._state = first
        self._published_at = time.monotonic()
        self._history = StateHistory()
        self._workers = WorkerHistories()
        self._lock = threading.Lock()
        self._listeners: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._closing = threading.Event()

    def start(self) -> None:
        """Begin to read; called once, before anybody looks."""

    def close(self) -> None:
        """End the browsers' streams at once."""
        self._closing.set()
        self.publish_again()

    @property
    def state(self) -> ServerState:
        with self._lock:
            newest, age = self._state, time.monotonic() - self._published_at
        return newest.advance(age) if isinstance(newest, EngineState) else newest

    def fetch_state(self) -> EngineState | None:
        """Return the state as it is now, asked for at once; None where there is no engine that answers."""
        return None

    @property
    def history(self) -> list[StateSpan]:
        """The spans of the last minutes, the oldest first."""
        with self._lock:
            return list(self._history.spans)

    @property
    def lanes(self) -> list[list[StateSpan]]:
        """The spans of each worker in the last minutes, where the server has several."""
        with self._lock:
            return self._workers.lanes

    @property
    def is_full(self) -> bool:
        return len(self._listeners) >= BROWSERS

    async def follow(self, changed: asyncio.Event | None = None) -> AsyncGenerator[ServerState, None]:
        """Yield the state now and at each change, until the feed is closed. `changed` is set for another one."""
        changed = changed or asyncio.Event()
        listener = (asyncio.get_running_loop(), changed)
        with self._lock:
            self._listeners.add(listener)
        self._on_viewer()
        try:
            while not self._closing.is_set():
                changed.clear()
                yield self.state
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(REPEAT_S):
                        await changed.wait()
        finally:
            with self._lock:
                self._listeners.discard(listener)

    def publish_again(self) -> None:
        """Send the state to every browser once more, as when something beside it has changed."""
        with self._lock:
            listeners = list(self._listeners)
        for loop, changed in listeners:
            with contextlib.suppress(RuntimeError):  # that loop has ended
                loop.call_soon_threadsafe(changed.set)

    def _on_viewer(self) -> None:
        """Called when somebody begins to look."""

    def _publish(self, found: ServerState) -> None:
        with self._lock:
            before, self._state, self._published_at = self._state, found, time.monotonic()
            self._history.record(found, self._published_at, time.time())
            self._workers.record(found, self._published_at, time.time())
        if before != found:
            self.publish_again()


class EngineStateFeed(StateFeed):
    """The states of an engine, from its own events. Thread-safe."""

    def __init__(self, engine: Callable[[], tuple[str, str]] | None) -> None:
        """`engine` returns address and admin key; with None nobody is asked, and the state is not known.

        It is called for each connection because both may change, and raises OSError if they cannot be had now.
        """
        super().__init__(state.ELSEWHERE if engine is None else state.STARTING)
        self.engine = engine
        # Not waited for at the end: it may be reading from a server elsewhere that sends nothing.
        self._thread = threading.Thread(target=self._run, name="engine events", daemon=True)

    def start(self) -> None:
        """Start the thread. `close` ends it with the engine's next event."""
        if self.engine is not None:
            self._thread.start()

    def fetch_state(self) -> EngineState | None:
        if self.engine is None:
            return None
        try:
            url, key = self.engine()
            with requests.Session() as session:
                session.trust_env = False
                headers = {"X-Admin-Key": key}
                found = session.get(url + "/engine", headers=headers, timeout=CONNECT_S, allow_redirects=False)
            return EngineState.model_validate(found.json()) if found.ok else None
        except (requests.RequestException, OSError, ValueError) as error:
            log.info("the engine does not report its state: %s", type(error).__name__)
            return None

    def _run(self) -> None:
        pause = GrowingPause(PAUSES_S)
        while not self._closing.is_set():
            began = time.monotonic()
            try:
                with contextlib.suppress(requests.RequestException, OSError):
                    for found in self._read_events():
                        self._publish(found)
                self._publish(state.SILENT)
            except StateRefused as refusal:
                log.warning("the engine does not report its state: %s", refusal)
                self._publish(state.REFUSED)
                return
            except ValueError as error:
                log.warning("the engine's report is not understood: %s", error)
                self._publish(state.NOT_UNDERSTOOD)
            if self._closing.wait(pause.next_after(time.monotonic() - began)):
                return

    def _read_events(self) -> Iterator[EngineState]:
        """Raises StateRefused, RequestException, OSError, or ValueError for an answer that is not an engine's."""
        assert self.engine is not None
        url, key = self.engine()
        with requests.Session() as session:
            session.trust_env = False  # a proxy from the environment must not see the key
            with session.get(
                url + "/engine/events",
                headers={"X-Admin-Key": key, "Accept": "text/event-stream"},
                stream=True,
                timeout=(CONNECT_S, SILENCE_S),
                allow_redirects=False,  # the key is for this server and no other
            ) as response:
                if 300 <= response.status_code < 500:
                    raise StateRefused(f"it answered {response.status_code}")
                response.raise_for_status()
                for _, data in parse_events(response.iter_content(None)):
                    if self._closing.is_set():
                        return
                    yield EngineState.model_validate(orjson.loads(data))
