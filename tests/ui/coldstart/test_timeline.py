"""The last minutes and a start, as text: what is drawn, where, and that nothing of it is markup of somebody else's."""

from __future__ import annotations

import re

from tests.support.states import NASTY, NOW, RESTORED, engine_state, start, text
from ui.coldstart import timeline
from ui.components import wording
from ui.servers import state
from ui.servers.state import ServerState, UnknownState
from ui.servers.state_history import StateSpan

STATES = ("zero", "restoring", "serving", "idle", "scaling_down", "zero")


def bands(*began: float, looks: tuple[str, ...] = STATES) -> list[StateSpan]:
    return [StateSpan(look, at, NOW + at) for look, at in zip(looks, began, strict=False)]  # type: ignore[arg-type]


def looks(markup: str) -> list[str]:
    """Of the bands, in the order of time."""
    return re.findall(r'<i data-look="(\w+)"[^>]*style', markup)


def test_each_state_is_a_band_with_its_word_and_its_place() -> None:
    markup = timeline.render_strip(engine_state(), bands(0, 100, 100.2, 101, 160, 161), 200.0, "")
    assert looks(markup) == list(STATES)
    assert 'data-look="restoring" style="--to:99.80;--took:0.20"><b>waking up</b>' in markup
    assert 'data-look="zero" data-now style="--to:0.00;--took:39.00"><b>asleep</b>' in markup
    assert "<span>woke</span> 0.2 s" in markup and "--span:300" in markup
    assert "Last 5 minutes: serving 0.80 s, idle 59 s, asleep 2 min 19 s (2 times)" in markup
    assert "Now asleep." in markup and text(markup).count("asleep") >= 3
    assert "Asleep · wakes in about 0.24 s" in text(markup)


def test_what_was_before_the_strip_is_cut_and_the_span_fits_what_is_known() -> None:
    found = timeline.place_spans(bands(0, 500, 1_000), 1_100.0, 300)
    assert [(row.state, row.to, row.took) for row in found] == [("restoring", 100, 200), ("serving", 0, 100)]
    lengths = [
        re.findall(r"--span:(\d+)", timeline.render_strip(engine_state(), bands(0), now, ""))
        for now in (1.0, 60.0, 61.0, 121.0, 9_999.0)
    ]
    assert lengths == [["60"], ["60"], ["120"], ["300"], ["300"]]
    assert timeline.choose_ticks(60) == [(60, "−60 s"), (45, "−45"), (30, "−30"), (15, "−15"), (0, "now")]
    assert timeline.choose_ticks(120)[0] == (120, "−120 s") and timeline.choose_ticks(300)[0] == (300, "−5 min")
    many = [StateSpan("zero" if at % 2 else "failed", at / 10, NOW) for at in range(1_000)]
    assert len(timeline.place_spans(many, 101.0, 120)) == timeline.MAX_SPANS


def test_starts_close_together_have_one_label() -> None:
    coming = ("restoring", "serving", "restoring", "serving", "restoring", "serving")
    near = timeline.place_flags(timeline.place_spans(bands(0, 1, 2, 3, 200, 201, looks=coming), 300.0, 300), 300)
    assert [flag.way for flag in near] == ["woke", "woke"]
    first = ("starting", "snapshotting", "restoring", "serving")
    created = timeline.place_flags(timeline.place_spans(bands(0, 2, 3, 4, looks=first), 10.0, 60), 60)
    assert [(flag.way, flag.took, flag.edge) for flag in created] == [("started", 4.0, False)]
    assert not timeline.place_flags(timeline.place_spans(bands(0, looks=first), 10.0, 60), 60), "it is not over"


def test_a_server_that_tells_nothing_has_words_instead() -> None:
    markup = timeline.render_strip(state.ELSEWHERE, [], 5.0, "vLLM")
    assert "Runs elsewhere · its state is not known to this page" in text(markup) and "bands" not in markup
    assert 'data-part="strip"' in timeline.render_empty() and "Connecting…" in timeline.render_empty()


def test_the_same_as_a_table_newest_first() -> None:
    rows = re.findall(
        r"<td>([^<]*)</td><td>([^<]*)</td><td>([^<]*)</td>", timeline.render_table(bands(0, 100, 100.2), 130.0)
    )
    assert rows == [
        ("08:01:40", "serving", "30 s so far"),
        ("08:01:40", "waking up", "0.20 s"),
        ("08:00:00", "asleep", "1 min 40 s"),
    ]
    assert timeline.render_table([], 1.0) == "<p>No states recorded yet.</p>"
    assert len(re.findall("<tr><td>", timeline.render_table(bands(0, 1, 2, 3, 4, 5) * 4, 30.0))) == timeline.TABLE_ROWS
    assert [wording.format_duration(s) for s in (0.144, 12.3, 192, 3_720)] == [
        "0.14 s",
        "12 s",
        "3 min 12 s",
        "1 h 2 min",
    ]


def test_nothing_of_the_engine_is_markup() -> None:
    cases: list[ServerState] = [
        UnknownState(title=NASTY, why=NASTY),
        engine_state(state="failed", reason=NASTY),
        engine_state(state="starting", start=start(reason=NASTY)),
        engine_state(last_start={**RESTORED, "reason": NASTY}),
    ]
    for found in cases:
        markup = "".join(timeline.render_parts(found, bands(0, 1), 2.0, NASTY).values())
        assert "<img" not in markup and "&lt;img" in markup


def test_each_worker_has_a_lane_below() -> None:
    lanes = [bands(0, looks=("serving",)), bands(0, 30, 31, looks=("zero", "restoring", "serving"))]
    markup = timeline.render_parts(engine_state(state="serving"), bands(0, looks=("serving",)), 40.0, "", lanes)[
        "strip"
    ]
    assert markup.count('class="bands lane"') == 2 and 'aria-label="Worker 2: serving"' in markup
    assert looks(markup) == ["serving", "serving", "zero", "restoring", "serving"]
    assert "lane" not in timeline.render_parts(engine_state(), bands(0, looks=("zero",)), 40.0)["strip"]
