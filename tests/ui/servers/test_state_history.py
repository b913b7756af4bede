"""What a page's server keeps of an engine: its states, and no more of them than it needs."""

from __future__ import annotations

from typing import Any

from tests.support.states import NOW, engine_state
from ui.servers import state
from ui.servers.state_history import SPANS_KEPT, StateHistory, StateSpan, WorkerHistories, classify_state


def test_a_worker_that_counts_its_seconds_is_idle() -> None:
    assert classify_state(engine_state(state="serving", in_flight=1)) == "serving"
    assert classify_state(engine_state(state="serving", scaledown_at=NOW + 30)) == "idle"
    assert classify_state(engine_state(waiting=1)) == "restoring" and classify_state(state.SILENT) == "unknown"


def test_the_past_is_states_and_not_news() -> None:
    past = StateHistory()
    for at in range(5):
        past.record(engine_state(in_flight=at), at, NOW + at)
    assert list(past.spans) == [StateSpan("zero", 0, NOW)]
    past.record(engine_state(state="serving", in_flight=1), 5, NOW + 5)
    for at in range(6, 40):
        past.record(engine_state(state="serving", scaledown_at=NOW + 99), at, NOW)
        past.record(engine_state(state="serving", in_flight=1), at + 0.4, NOW)
    assert [span.state for span in past.spans] == ["zero", "serving"], "waits of a busy server are no idling"
    past.record(engine_state(state="serving", scaledown_at=NOW + 99), 50, NOW)
    past.record(engine_state(state="serving", in_flight=1), 52, NOW)
    assert [span.state for span in past.spans] == ["zero", "serving", "idle", "serving"]


def test_the_past_has_an_end() -> None:
    past = StateHistory()
    for at in range(3 * SPANS_KEPT):
        past.record(engine_state(state="zero" if at % 2 else "failed"), at, NOW + at)
    assert len(past.spans) == SPANS_KEPT and past.spans[-1].began == 3 * SPANS_KEPT - 1


def make_two(first: str, second: str, **changes: Any) -> state.EngineState:
    return engine_state(
        state="serving", workers=[{"number": 0, "state": first}, {"number": 1, "state": second, **changes}]
    )


def test_each_of_several_workers_has_a_past_of_its_own() -> None:
    past = WorkerHistories()
    past.record(engine_state(workers=[{"number": 0, "state": "zero"}]), 0, NOW)
    assert past.lanes == [], "one worker is the server"
    past.record(make_two("serving", "zero"), 1, NOW + 1)
    past.record(make_two("serving", "zero", waiting=2), 2, NOW + 2)
    past.record(make_two("serving", "serving"), 3, NOW + 3)
    past.record(make_two("serving", "serving", scaledown_at=NOW + 60), 4, NOW + 4)
    past.record(state.SILENT, 5, NOW + 5)
    first, second = past.lanes
    assert [span.state for span in first] == ["serving", "unknown"]
    assert [(span.state, span.began) for span in second] == [
        ("zero", 1),
        ("starting", 2),
        ("serving", 3),
        ("idle", 4),
        ("unknown", 5),
    ]
