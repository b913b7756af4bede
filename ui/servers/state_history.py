"""The states of a server in the last minutes, one after the other.

They are kept by the page's server, so that a reload and a second browser show the same.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

from ui.servers.state import ServerState, StateName, UnknownState, WorkerState

SpanState = StateName | Literal["idle", "unknown"]
"""A worker that serves is `idle` while its seconds are counted down."""
SPANS_KEPT = 1000
"""Ten minutes of a server that is asked, and waits, each second."""
PAUSE_S = 1.0
"""A shorter wait between two requests is not idling: under traffic the history would hold nothing but such waits."""


@dataclass(frozen=True)
class StateSpan:
    """One state; it lasted until the next one began."""

    state: SpanState
    began: float
    """Seconds of the monotonic clock, from which lengths are computed."""
    at: float
    """Unix seconds, which a person is shown."""


class StateHistory:
    """The spans, the oldest first; the last one still lasts. Not thread-safe: its owner locks."""

    def __init__(self) -> None:
        self.spans: deque[StateSpan] = deque(maxlen=SPANS_KEPT)

    def record(self, state: ServerState | WorkerState, monotonic: float, unix: float) -> None:
        spans, name = self.spans, classify_state(state)
        if spans and spans[-1].state == name:
            return
        idled = len(spans) > 1 and (spans[-2].state, spans[-1].state, name) == ("serving", "idle", "serving")
        if idled and monotonic - spans[-1].began < PAUSE_S:
            spans.pop()
        else:
            spans.append(StateSpan(name, monotonic, unix))


class WorkerHistories:
    """The spans of each worker, where a server has several. Not thread-safe: its owner locks."""

    def __init__(self) -> None:
        self._histories: dict[int, StateHistory] = {}

    @property
    def lanes(self) -> list[list[StateSpan]]:
        return [list(history.spans) for _, history in sorted(self._histories.items())]

    def record(self, state: ServerState, monotonic: float, unix: float) -> None:
        if isinstance(state, UnknownState):
            for history in self._histories.values():
                history.record(state, monotonic, unix)
        elif len(state.workers) > 1:
            for worker in state.workers:
                self._histories.setdefault(worker.number, StateHistory()).record(worker, monotonic, unix)


def classify_state(state: ServerState | WorkerState) -> SpanState:
    if isinstance(state, UnknownState):
        return "unknown"
    if isinstance(state, WorkerState):
        if state.has_begun:
            return "starting"
        return "idle" if state.is_up and state.scaledown_at is not None else state.state
    return "idle" if state.shown_state == "serving" and state.seconds_left is not None else state.shown_state
