"""How many pages are with one server at once: as many as it takes, and fewer while it refuses or becomes slow.

The limit is that of TCP: halved when the server refuses (429, 503), a quarter less when its answers have become several
times slower, and raised by one for each round of good answers. What was sent before the limit was lowered does not
lower it again. A refused page gives its place away while it waits to be sent again.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from serving.settings import Settings
from ui.servers.target import Target

PLACES_S = 60.0
"""After so long a server is asked again how much it takes: its limit may have been changed meanwhile."""
SLOW = 4.0
"""An answer that takes so many times as long as usual means too much for what is there now."""
QUICK_S = 1.0
"""No answer is slow that takes less: a gap of milliseconds says nothing."""
WINDOW, WINDOWS = 16, 8
"""`usual`: the least median of 16 answers, of the last eight: pages may become larger in the course of a job."""
LEAST_SHARE = 0.25
"""Slow answers alone leave this much of the limit: Modal starts containers only for what waits."""


class Passage:
    """A page on its way. `boot_id`: which container has answered; empty until then."""

    def __init__(self) -> None:
        self.began = 0.0
        self.round = 0
        """How often the limit had been lowered then."""
        self.boot_id = ""


class SendGate:
    """The places of one server. Thread-safe; each thread has one page on its way at most."""

    def __init__(self, most: int, ahead: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`most`: pages with the server; `ahead`: pages that are drawn meanwhile, and wait for a place."""
        self.most = most
        self._ahead = ahead
        self._clock = clock
        self._limit = float(most)
        self._adapts = False
        self._in_flight = 0
        self._taken = 0
        self._round = 0
        self._answers: list[float] = []
        self._medians: deque[float] = deque(maxlen=WINDOWS)
        self._awake: dict[str, float] = {}
        """When each container gave its first answer."""
        self._changed = threading.Condition()
        self._local = threading.local()

    @property
    def limit(self) -> int:
        return max(1, int(self._limit))

    @property
    def in_flight(self) -> int:
        return self._in_flight

    def resize(self, most: int) -> None:
        """Take how many pages the server takes, which it has said itself: from now on refusals change the limit."""
        with self._changed:
            if most > self.most or not self._adapts:
                self._limit = float(most)
            self.most, self._adapts = most, True
            self._limit = min(self._limit, float(most))
            self._changed.notify_all()

    # Pages that are taken in hand

    def claim(self) -> bool:
        """Return whether another page may be taken in hand; then it is the caller's until `free`."""
        with self._changed:
            claimed = self._taken < self.limit + self._ahead
            self._taken += claimed
            return claimed

    def free(self) -> None:
        with self._changed:
            self._taken -= 1

    # Pages on their way

    @contextmanager
    def hold(self) -> Iterator[Passage]:
        """Wait for a place, and hold it while the block runs."""
        passage = self._local.passage = Passage()
        self._enter(passage)
        try:
            yield passage
        finally:
            self._local.passage = None
            self._leave(passage if passage.boot_id else None)

    @contextmanager
    def step_aside(self) -> Iterator[None]:
        """Give the place of this thread's page away while the block runs: the server has refused it."""
        passage: Passage | None = getattr(self._local, "passage", None)
        if passage is None:  # somebody's question, which nobody counts
            yield
            return
        with self._changed:
            if self._adapts and passage.round == self._round:
                self._lower(self._limit / 2, 1.0)
        self._leave(None)
        try:
            yield
        finally:
            self._enter(passage)

    def _enter(self, passage: Passage) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._in_flight < self.limit)
            self._in_flight += 1
            passage.began, passage.round = self._clock(), self._round

    def _leave(self, answered: Passage | None) -> None:
        with self._changed:
            self._in_flight -= 1
            if answered is not None and self._adapts:
                self._judge(answered)
            self._changed.notify_all()

    def _judge(self, passage: Passage) -> None:
        now = self._clock()
        awake = self._awake.setdefault(passage.boot_id, now)
        if passage.began < awake:  # it has waited for its container to start
            return
        seconds = now - passage.began
        if self._medians and seconds > max(QUICK_S, SLOW * min(self._medians)):
            if passage.round == self._round:
                self._lower(0.75 * self._limit, LEAST_SHARE * self.most)
        else:
            self._limit = min(float(self.most), self._limit + 1 / self.limit)
        self._answers.append(seconds)
        if len(self._answers) == WINDOW:
            self._medians.append(statistics.median(self._answers))
            self._answers = []

    def _lower(self, limit: float, least: float) -> None:
        self._limit = max(limit, min(self._limit, max(1.0, least)))
        self._round += 1


class SendGates:
    """The gates of all servers of a page. A server that says nothing of itself gets what this machine draws."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._gates: dict[Target, SendGate] = {}
        self._asked: dict[Target, float] = {}
        self._lock = threading.Lock()
        self._asking = threading.Lock()

    def find(self, target: Target) -> SendGate:
        with self._lock:
            if target not in self._gates:
                # The worker reads one page on each core: one more keeps it busy, and a cancel waits for few.
                ahead = self._settings.pages_ahead
                gate = self._gates[target] = SendGate(ahead + 1, ahead)
                target.client.on_refusal = gate.step_aside
            return self._gates[target]

    def ask(self, target: Target) -> SendGate:
        """Return the gate after asking the server, unless it was asked lately, how many pages it takes at once."""
        gate = self.find(target)
        if not self._asking.acquire(blocking=target not in self._asked):
            return gate
        try:
            now = time.monotonic()
            if now - self._asked.get(target, float("-inf")) >= PLACES_S:
                self._asked[target] = now
                if (places := target.fetch_places()) is not None:
                    gate.resize(min(places, self._settings.max_sending))
        finally:
            self._asking.release()
        return gate

    def count_places(self) -> int:
        """Return how many pages of all servers can be in hand at the same time."""
        with self._lock:
            return sum(gate.most + self._settings.pages_ahead for gate in self._gates.values())
