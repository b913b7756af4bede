"""What a page's server keeps of an engine: its states, and no more of them than it needs."""

from __future__ import annotations

from tests.support.states import NOW, engine_state
from ui.servers import state
from ui.servers.state_history import SPANS_KEPT, StateHistory, StateSpan, classify_state


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
