"""What can be seen of a server on Modal from outside: what Modal counts. Looking wakes nobody and keeps nobody awake.

It looks each second while a question waits, each quarter of a minute while somebody has the page open, and not at all
otherwise. How a start went is known once its answer is there; until then: queued, a container starts, it answers.
"""

from __future__ import annotations

import logging
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from serving.cloud.modal_account import AccountError
from ui.servers.state import STARTS, Facts, Going, News, Next, Row, State, Unknown
from ui.servers.state_feed import Board

ASKED_S = 1.0
"""Between two looks while a question waits."""
OPEN_S = 15.0
"""Between two looks while somebody has the page open."""
FRESH_S = 3.0
"""A look is not repeated for another tab that opens so soon after it."""
BACKEND = "modal"
WAITING = Unknown(title="On Modal", why="waiting for Modal's container counts")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stats:
    """`runners`: containers that start, serve or idle. `running`: requests that they work on; `backlog`: that wait."""

    backlog: int
    runners: int
    running: int


@dataclass
class Flight:
    """The questions that wait now. `phases`: milliseconds of those that have ended, of the one that waits longest."""

    began: float
    count: int = 1
    phase: str = "queue"
    phase_began: float = 0.0
    seen: bool = False
    """Whether Modal was looked at since it began."""
    starts: bool = False
    """Whether it met no container that was ready then: one that is takes a question at once."""
    phases: dict[str, float] = field(default_factory=dict)

    def see(self, stats: Stats, now: float) -> None:
        phase = "answer" if stats.running else "container" if stats.runners else "queue"
        if not self.seen:
            self.seen, self.starts = True, phase != "answer"
        if phase != self.phase:
            self.phases[self.phase] = 1000 * (now - self.phase_began)
            self.phase, self.phase_began = phase, now


class ModalWatch(Board):
    """`start` and `close` once; the rest from any thread."""

    def __init__(self, look: Callable[[], Stats], starts: Callable[[], Sequence[Row]]) -> None:
        """`look` raises AccountError. `starts` are those that are remembered, the newest last."""
        super().__init__(WAITING)
        self._look = look
        self._starts = starts
        self._stats: Stats | None = None
        self._looked = 0.0
        self._failure = ""
        self._flight: Flight | None = None
        self._poke = threading.Event()
        self._thread = threading.Thread(target=self._run, name="modal stats", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        super().close()
        self._poke.set()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Around a question to the server."""
        now = time.monotonic()
        with self._lock:
            if self._flight is None:
                self._flight = Flight(now, phase_began=now)
            else:
                self._flight.count += 1
        self._poke.set()
        answered = False
        try:
            yield
            answered = True
        finally:
            with self._lock:
                assert self._flight is not None
                self._flight.count -= 1
                if self._flight.count == 0:
                    self._flight = None
                if answered:
                    self._stats, self._failure = Stats(0, max(1, self._stats.runners if self._stats else 1), 0), ""
            self._compose()
            self._poke.set()

    @property
    def news(self) -> News:
        """The newest; a call without a stream finds newer ones the next time."""
        self._looked_at()
        return super().news

    def _looked_at(self) -> None:
        if time.monotonic() - self._looked > FRESH_S:
            self._poke.set()

    # The thread

    def _run(self) -> None:
        while not self._closing.is_set():
            asked = self._poke.wait(self._pause())
            self._poke.clear()
            if self._closing.is_set():
                return
            if asked or self._flight is not None or self._listeners:
                self._ask()
                self._compose()

    def _pause(self) -> float | None:
        """Seconds until the next look; None: until somebody asks or looks."""
        if self._flight is not None:
            return ASKED_S
        return OPEN_S if self._listeners else None

    def _ask(self) -> None:
        try:
            stats, failure = self._look(), ""
        except AccountError as error:
            stats, failure = None, str(error)
        except Exception as error:  # the client's own: a watch that ends would tell an old state for ever
            log.exception("Modal's counts could not be read")
            stats, failure = None, f"{type(error).__name__}: {error}"
        now = self._looked = time.monotonic()
        with self._lock:
            self._stats, self._failure = stats, failure
            if self._flight is not None and stats is not None:
                self._flight.see(stats, now)

    def _compose(self) -> None:
        with self._lock:
            stats, failure, flight = self._stats, self._failure, self._flight
            going = self._going(flight) if flight is not None and flight.starts else None
            count = 0 if flight is None else flight.count
        if stats is None and going is None:
            self._tell(Unknown(title="State not known", why=failure) if failure else WAITING)
            return
        rows = list(self._starts())
        expected = upcoming(rows)
        state: State = "serving" if stats is not None and stats.runners else "zero"
        if going is not None:
            state = "restoring" if expected.kind == "restored" else "starting"
        self._tell(
            Facts(
                state=state,
                now=time.time(),
                in_flight=count,
                waiting=0 if stats is None else stats.backlog,
                backend=BACKEND,
                tier="none",
                start=going,
                next=expected,
                last_start=rows[-1] if rows else None,
                history=rows[::-1][:STARTS],
            )
        )

    def _going(self, flight: Flight) -> Going:
        expected = upcoming(self._starts())
        return Going(
            kind=expected.kind, phases=dict(flight.phases), phase=flight.phase,
            elapsed_ms=1000 * (time.monotonic() - flight.began), expected_ms=expected.expected_ms,
        )  # fmt: skip


def upcoming(rows: Sequence[Row]) -> Next:
    """What a question at zero would meet: a restore once there is a snapshot, in the time that such starts took."""
    kind = "created" if not rows else "plain" if rows[-1].kind == "plain" else "restored"
    took = [row.first_answer_ms for row in rows if row.kind == kind and row.first_answer_ms is not None]
    return Next(kind=kind, expected_ms=statistics.median(took) if took else None)
