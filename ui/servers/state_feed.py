"""Reads the engine's events in one thread, for all browsers together; hands on the newest and keeps the last minutes.

Only the engine is asked, and only for its events: those wake no worker. Knows nothing of how the news are shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator

import orjson
import requests

from serving.system.timeouts import GrowingPause
from ui.servers import state
from ui.servers.state import Facts, News
from ui.servers.state_history import Band, Past

CONNECT_S = 5.0
SILENCE_S = 40.0
"""Without a word for so long the connection is taken for broken: the engine says something every 15 s."""
PAUSES_S = (0.5, 1.0, 2.0, 5.0, 15.0)
"""Before the first, second, ... try in a row: an engine that was started again answers after two seconds."""
EVENT_BYTES = 1024 * 1024
REPEAT_S = 15.0
"""A browser is told again after this, so that it knows the connection lives, and that ages stay true."""
BROWSERS = 256
"""Open streams at once; more are refused, so that nothing grows without limit."""
log = logging.getLogger(__name__)


class Refused(Exception):
    """Something answers, but it will not tell: asking again would change nothing, and might keep it awake."""


class Board:
    """The newest news of one server, for all browsers that look. Says nothing of where they come from."""

    engine: Callable[[], tuple[str, str]] | None = None
    """Address and admin key of an engine of ours, where there is one."""

    def __init__(self, news: News) -> None:
        self._news: News = news
        self._told_at = time.monotonic()
        self._past = Past()
        self._lock = threading.Lock()
        self._listeners: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._closing = threading.Event()

    def start(self) -> None:
        """Once, before anybody looks."""

    def close(self) -> None:
        """Ends the browsers' streams at once."""
        self._closing.set()
        self._wake()

    @property
    def news(self) -> News:
        """The newest, as it is now."""
        with self._lock:
            news, age = self._news, time.monotonic() - self._told_at
        return news.aged(age) if isinstance(news, Facts) else news

    @property
    def past(self) -> list[Band]:
        """Its states, the oldest first. Empty where nobody tells."""
        with self._lock:
            return self._past.bands

    def repeat(self) -> None:
        """Tells every browser once more: something beside the engine's state has changed."""
        self._wake()

    @property
    def full(self) -> bool:
        return len(self._listeners) >= BROWSERS

    async def follow(self) -> AsyncGenerator[News, None]:
        """What is known now, and again at each change; ends with `close`."""
        heard = asyncio.Event()
        listener = (asyncio.get_running_loop(), heard)
        with self._lock:
            self._listeners.add(listener)
        self._looked_at()
        try:
            while not self._closing.is_set():
                heard.clear()
                yield self.news
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(REPEAT_S):
                        await heard.wait()
        finally:
            with self._lock:
                self._listeners.discard(listener)

    def _looked_at(self) -> None:
        """Somebody has begun to look."""

    def _tell(self, news: News) -> None:
        with self._lock:
            known, self._news, self._told_at = self._news, news, time.monotonic()
            self._past.note(news, self._told_at, time.time())
        if known != news:
            self._wake()

    def _wake(self) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for loop, heard in listeners:
            with contextlib.suppress(RuntimeError):  # that loop has ended
                loop.call_soon_threadsafe(heard.set)


class Watch(Board):
    """Of an engine of ours. `start` and `close` once; the rest from any thread."""

    def __init__(self, engine: Callable[[], tuple[str, str]] | None) -> None:
        """`engine`: its address and admin key, asked for at each connection because both may change; OSError if they
        cannot be had now. None: nobody is asked, and the state is not known."""
        super().__init__(state.ELSEWHERE if engine is None else state.STARTING)
        self.engine = engine
        # Not waited for at the end: it may be reading from a server elsewhere that says nothing.
        self._thread = threading.Thread(target=self._run, name="engine events", daemon=True)

    def start(self) -> None:
        """`close` ends the thread with its next word from the engine."""
        if self.engine is not None:
            self._thread.start()

    # The thread

    def _run(self) -> None:
        pause = GrowingPause(PAUSES_S)
        while not self._closing.is_set():
            began = time.monotonic()
            try:
                for found in self._events():
                    self._tell(found)
                self._tell(state.SILENT)
            except Refused as refusal:
                log.warning("the engine does not tell its state: %s", refusal)
                self._tell(state.REFUSED)
                return
            except (requests.RequestException, OSError):
                self._tell(state.SILENT)
            except ValueError as error:
                log.warning("what the engine tells is not understood: %s", error)
                self._tell(state.STRANGE)
            if self._closing.wait(pause.next_after(time.monotonic() - began)):
                return

    def _events(self) -> Iterator[Facts]:
        """Raises Refused, RequestException, OSError, or ValueError for what is not an engine's word."""
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
                    raise Refused(f"it answered {response.status_code}")
                response.raise_for_status()
                for data in events(response.iter_content(None)):
                    if self._closing.is_set():
                        return
                    yield Facts.of(orjson.loads(data))


def events(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The data of each server-sent event. Raises ValueError if one has no end."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n\n")
        for event in whole:
            data = [line.removeprefix(b"data:").strip() for line in event.split(b"\n") if line.startswith(b"data:")]
            if data:
                yield b"\n".join(data)
        if len(rest) > EVENT_BYTES:
            raise ValueError("an event without an end")
