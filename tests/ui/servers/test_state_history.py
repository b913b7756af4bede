"""What a page's server keeps of an engine: its states, and no more of them than it needs."""

from __future__ import annotations

from tests.support.states import NOW, news
from ui.servers import state
from ui.servers.state_history import KEPT, Band, Past, look_of


def test_a_worker_that_counts_its_seconds_is_idle() -> None:
    assert look_of(news(state="serving", in_flight=1)) == "serving"
    assert look_of(news(state="serving", scaledown_at=NOW + 30)) == "idle"
    assert look_of(news(waiting=1)) == "restoring" and look_of(state.SILENT) == "unknown"


def test_the_past_is_states_and_not_news() -> None:
    past = Past()
    for at in range(5):
        past.note(news(in_flight=at), at, NOW + at)
    assert past.bands == [Band("zero", 0, NOW)]
    past.note(news(state="serving", in_flight=1), 5, NOW + 5)
    for at in range(6, 40):
        past.note(news(state="serving", scaledown_at=NOW + 99), at, NOW)
        past.note(news(state="serving", in_flight=1), at + 0.4, NOW)
    assert [band.look for band in past.bands] == ["zero", "serving"], "waits of a busy server are no idling"
    past.note(news(state="serving", scaledown_at=NOW + 99), 50, NOW)
    past.note(news(state="serving", in_flight=1), 52, NOW)
    assert [band.look for band in past.bands] == ["zero", "serving", "idle", "serving"]


def test_the_past_has_an_end() -> None:
    past = Past()
    for at in range(3 * KEPT):
        past.note(news(state="zero" if at % 2 else "failed"), at, NOW + at)
    assert len(past.bands) == KEPT and past.bands[-1].began == 3 * KEPT - 1
