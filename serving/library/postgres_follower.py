"""Hears what any machine changes in a shared database, on a connection of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg

from serving.library.postgres_schema import CHANNEL

POLL_S = 0.5
"""How soon it ends when it is told to."""
PAUSE_S = 1.0
"""Between two tries to reach a server that is gone."""
UNTOLD_S = 5.0
"""Where nothing is told, something may have changed so often."""


class PostgresFollower:
    """A thread that listens until it is closed, and connects again when the connection is lost."""

    def __init__(self, conninfo: str, tell: Callable[[str], None]) -> None:
        self._conninfo = conninfo
        self._tell = tell
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="library changes", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                with psycopg.connect(self._conninfo, autocommit=True) as link:
                    self._listen(link)
            except psycopg.errors.ReadOnlySqlTransaction:  # a server that follows another one tells nothing
                self._tell("")
                self._closing.wait(UNTOLD_S)
            except psycopg.Error:  # who asks the library hears why
                self._closing.wait(PAUSE_S)

    def _listen(self, link: psycopg.Connection[tuple[object, ...]]) -> None:
        link.execute(f"LISTEN {CHANNEL}".encode())
        self._tell("")  # what was missed may be anything
        while not self._closing.is_set():
            for heard in link.notifies(timeout=POLL_S):
                self._tell(heard.payload)
