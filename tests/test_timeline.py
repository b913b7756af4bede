"""The last minutes and a start, as text: what is drawn, where, and that nothing of it is markup of somebody else's."""

from __future__ import annotations

import asyncio
import json
import re
from itertools import pairwise
from typing import Any

import pytest

from tests.test_app import until
from tests.test_status import CREATED, NASTY, NOW, RESTORED, elsewhere, engine, start, text
from ui import facts, timeline
from ui.facts import Facts, News, Unknown
from ui.past import KEPT, Band, Past, look_of
from ui.watch import Watch

STATES = ("zero", "restoring", "serving", "idle", "scaling_down", "zero")


def news(**changes: Any) -> Facts:
    return Facts.of(engine(**changes))


def bands(*began: float, looks: tuple[str, ...] = STATES) -> list[Band]:
    return [Band(look, at, NOW + at) for look, at in zip(looks, began, strict=False)]  # type: ignore[arg-type]


def looks(markup: str) -> list[str]:
    """Of the bands, in the order of time."""
    return re.findall(r'<i data-look="(\w+)"[^>]*style', markup)


def bars(markup: str) -> list[tuple[float, float]]:
    """(where it begins, how long it is) of each row of a waterfall, in ms."""
    return [(float(at), float(ms)) for ms, at in re.findall(r'data-ms="([\d.]+)" data-at="([\d.]+)"', markup)]


# What is kept


def test_a_worker_that_counts_its_seconds_is_idle() -> None:
    assert look_of(news(state="serving", in_flight=1)) == "serving"
    assert look_of(news(state="serving", scaledown_at=NOW + 30)) == "idle"
    assert look_of(news(waiting=1)) == "restoring" and look_of(facts.SILENT) == "unknown"


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


# The strip


def test_each_state_is_a_band_with_its_word_and_its_place() -> None:
    markup = timeline.strip(news(), bands(0, 100, 100.2, 101, 160, 161), 200.0, "")
    assert looks(markup) == list(STATES)
    assert 'data-look="restoring" style="--to:99.80;--took:0.20"><b>waking up</b>' in markup
    assert 'data-look="zero" data-now style="--to:0.00;--took:39.00"><b>asleep</b>' in markup
    assert "<span>woke</span> 0.2 s" in markup and "--span:300" in markup
    assert "Last 5 minutes: serving 0.80 s, idle 59 s, asleep 2 min 19 s in 2 times" in markup
    assert "Now asleep." in markup and text(markup).count("asleep") >= 3
    assert "Asleep · wakes in about 0.24 s" in text(markup)


def test_what_was_before_the_strip_is_cut_and_the_span_fits_what_is_known() -> None:
    found = timeline.drawn(bands(0, 500, 1_000), 1_100.0)
    assert [(row.look, row.to, row.took) for row in found] == [("restoring", 100, 200), ("serving", 0, 100)]
    assert [timeline.span_of(bands(0), now) for now in (1.0, 60.0, 61.0, 121.0, 9_999.0)] == [60, 60, 120, 300, 300]
    assert "−60 s" in timeline.ago(60) and "−120 s" in timeline.ago(120) and "−5 min" in timeline.ago(300)
    many = [Band("zero" if at % 2 else "failed", at / 10, NOW) for at in range(1_000)]
    assert len(timeline.drawn(many, 101.0)) == timeline.MOST


def test_starts_close_together_have_one_label() -> None:
    coming = ("restoring", "serving", "restoring", "serving", "restoring", "serving")
    near = timeline.flags(timeline.drawn(bands(0, 1, 2, 3, 200, 201, looks=coming), 300.0), 300)
    assert near.count("woke") == 2
    first = ("starting", "snapshotting", "restoring", "serving")
    created = timeline.flags(timeline.drawn(bands(0, 2, 3, 4, looks=first), 10.0), 60)
    assert "<span>started</span> 4.0 s" in created
    assert not timeline.flags(timeline.drawn(bands(0, looks=first), 10.0), 60), "it is not over"


def test_a_server_that_tells_nothing_has_words_instead() -> None:
    markup = timeline.strip(facts.ELSEWHERE, [], 5.0, "vLLM")
    assert "Runs elsewhere · its state is not known to this page" in text(markup) and "bands" not in markup
    assert "does not tell" in timeline.waterfall(facts.ELSEWHERE)
    assert 'data-part="strip"' in timeline.frame() and "Connecting…" in timeline.frame()


def test_the_same_as_a_table_newest_first() -> None:
    rows = re.findall(r"<td>([^<]*)</td><td>([^<]*)</td><td>([^<]*)</td>", timeline.table(bands(0, 100, 100.2), 130.0))
    assert rows == [
        ("08:01:40", "serving", "30 s so far"),
        ("08:01:40", "waking up", "0.20 s"),
        ("08:00:00", "asleep", "1 min 40 s"),
    ]
    assert timeline.table([], 1.0) == "<p>Nothing was heard of it yet.</p>"
    assert len(re.findall("<tr><td>", timeline.table(bands(0, 1, 2, 3, 4, 5) * 4, 30.0))) == timeline.LISTED
    assert [timeline.lasted(s) for s in (0.144, 12.3, 192, 3_720)] == ["0.14 s", "12 s", "3 min 12 s", "1 h 2 min"]


# The waterfall


def test_the_last_start_falls_to_its_total() -> None:
    markup = timeline.waterfall(news())
    found = bars(markup)
    for (at, took), (after, _) in pairwise(found):
        assert after == pytest.approx(at + took, abs=0.2)
    assert sum(took for _, took in found[:-1]) == pytest.approx(RESTORED["ready_ms"], abs=0.5)
    assert '<li class="rest"><span>between phases</span>' in markup and "<span>4 ms</span>" in markup
    assert found[-1] == (238.8, 18.2) and 'class="answer"' in markup
    assert 'data-total="238.8">Ready after <b>239 ms</b>, first answer after 257 ms.' in markup
    assert "restored, 2 min ago" in markup and "data-running" not in markup


def test_a_start_in_progress_fills_and_shows_what_is_to_come() -> None:
    going = start(kind="restored", phases={"queue": 0.07, "restore": 190.0}, phase="bind", elapsed_ms=195.0,
                  expected_ms=238.8)  # fmt: skip
    markup = timeline.waterfall(news(state="restoring", start=going))
    rows = re.findall(r"<li( class=\"\w+\")?><span>([^<]+)</span>", markup)
    assert rows == [("", "restore"), (' class="running"', "open socket"), (' class="usual"', "check answers")]
    assert 'data-ms="4.9" data-at="190.1" data-running="4.9"' in markup
    assert "Start in progress" in markup and 'data-elapsed="195.0"' in markup and "of about 0.24 s" in markup
    assert '<u style="--at:238.8"' in markup and "<em>usually</em> 27 ms" in markup


def test_the_first_start_of_all_has_nothing_to_come() -> None:
    first = {"history": [], "last_start": None, "next": {"kind": "created", "expected_ms": None}}
    markup = timeline.waterfall(news(state="starting", start=start(expected_ms=None), **first))
    assert "usual" not in markup and "data-running" in markup
    assert "No start yet" in timeline.waterfall(news(**first)) and "Starts with the next search." in timeline.waterfall(
        news(**first)
    )


def test_a_start_that_was_asked_for_shows_the_kind_that_comes() -> None:
    asked = start(kind="plain", phases={"queue": 0.1}, phase=None, elapsed_ms=1.0)
    markup = timeline.waterfall(news(waiting=1, start=asked))
    assert "restored" in markup and markup.count('class="usual"') == 3, "the engine does not know its kind yet"


def test_a_failed_start_says_why_and_is_no_example() -> None:
    failed = {**RESTORED, "outcome": "failed", "reason": NASTY, "first_answer_ms": None}
    markup = timeline.waterfall(news(last_start=failed, history=[failed, CREATED]))
    assert "Failed." in markup and "&lt;img" in markup and 'class="why"' in markup
    assert timeline.usual_phases(news(history=[failed, CREATED]).history, "restored") == {}


def test_axes_have_few_round_marks() -> None:
    for scale in (0.7, 1, 9, 57, 238.8, 999, 2_974, 95_700):
        marks = timeline.marks(scale)
        assert marks[0] == 0 and marks[-1] <= scale and len(marks) <= timeline.TICKS
    assert [timeline.tick(at, 3_000) for at in (0, 500, 2_000)] == ["0", "0.5 s", "2 s"]


def test_nothing_of_the_engine_is_markup() -> None:
    cases: list[News] = [
        Unknown(title=NASTY, why=NASTY),
        news(state="failed", reason=NASTY),
        news(state="starting", start=start(reason=NASTY)),
        news(last_start={**RESTORED, "reason": NASTY}),
    ]
    for found in cases:
        markup = "".join(timeline.parts(found, bands(0, 1), 2.0, NASTY).values())
        assert "<img" not in markup and "&lt;img" in markup


# Where it comes from


def test_a_watch_keeps_what_it_was_told() -> None:
    told = [engine(), engine(waiting=1, start=start()), engine(state="serving", in_flight=1)]
    body = b"".join(b"event: engine\ndata: " + json.dumps(one).encode() + b"\n\n" for one in told)
    with elsewhere(200, body) as (url, _):
        watch = Watch(lambda: (url, "k"))
        assert watch.past == []
        watch.start()
        until(lambda: len(watch.past) >= 4)
        watch.close()
    assert [band.look for band in watch.past][:4] == ["zero", "restoring", "serving", "unknown"]
    message = timeline.message(watch.news, watch.past, watch.past[-1].began + 1, "", "a-run")
    assert looks(message["timeline"]["strip"])[:3] == ["zero", "restoring", "serving"] and message["run"] == "a-run"
    assert "secret" not in json.dumps(message)


def test_browsers_are_told_again_when_a_run_begins() -> None:
    async def test() -> None:
        watch = Watch(None)
        followed = watch.follow()
        await anext(followed)
        asyncio.get_running_loop().call_later(0.05, watch.repeat)
        async with asyncio.timeout(5):
            assert await anext(followed) == facts.ELSEWHERE
        await followed.aclose()

    asyncio.run(test())
