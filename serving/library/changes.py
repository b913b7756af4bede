"""Counts the changes of each collection, whoever makes them, and wakes those who follow one."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Changes:
    """What has changed since this process began. Thread-safe."""

    def __init__(self) -> None:
        self._began = time.time_ns()
        self._counts: Counter[str] = Counter()
        self._followers: dict[object, tuple[str | None, Callable[[], None]]] = {}
        self._lock = threading.Lock()

    def open(self) -> None:
        """Give other versions than each process before, and each that came from the same snapshot."""
        self._began = time.time_ns()

    def note(self, key: str) -> None:
        """Note that a collection has changed; "": that there is a new one, or that any may have changed."""
        with self._lock:
            self._counts[key] += 1
            woken = [wake for wanted, wake in self._followers.values() if not key or wanted is None or wanted == key]
        for wake in woken:
            wake()

    def version(self, key: str) -> str:
        """Return what is another text after each change of the collection; "" has that of none."""
        with self._lock:
            return f"{self._began}-{self._counts['']}-{self._counts[key] if key else 0}"

    @contextmanager
    def follow(self, key: str | None, wake: Callable[[], None]) -> Iterator[None]:
        """Call `wake`, which must return at once, after each change of a collection; None: of any."""
        follower = object()
        with self._lock:
            self._followers[follower] = key, wake
        try:
            yield
        finally:
            with self._lock:
                del self._followers[follower]
