"""A start phase by phase, as text: where each bar lies, and what it says of itself."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from tests.support.states import CREATED, NASTY, RESTORED, engine_state, start
from ui.coldstart import waterfall
from ui.servers import state


def bars(markup: str) -> list[tuple[float, float]]:
    """(where it begins, how long it is) of each row of a waterfall, in ms."""
    return [(float(at), float(ms)) for ms, at in re.findall(r'data-ms="([\d.]+)" data-at="([\d.]+)"', markup)]


def test_the_last_start_falls_to_its_total() -> None:
    markup = waterfall.render_waterfall(engine_state())
    found = bars(markup)
    for (at, took), (after, _) in pairwise(found):
        assert after == pytest.approx(at + took, abs=0.2)
    assert sum(took for _, took in found[:-1]) == pytest.approx(RESTORED["ready_ms"], abs=0.5)
    assert '<li class="rest"><span>between phases</span>' in markup and "<span>4 ms</span>" in markup
    assert found[-1] == (238.8, 18.2) and 'class="answer"' in markup
    assert 'data-total="238.8">Ready after <b>239\N{NO-BREAK SPACE}ms</b>, first answer' in markup
    assert "restored, 2 min ago" in markup and "data-running" not in markup


def test_a_start_in_progress_fills_and_shows_what_is_to_come() -> None:
    going = start(kind="restored", phases={"queue": 0.07, "restore": 190.0}, phase="bind", elapsed_ms=195.0,
                  expected_ms=238.8)  # fmt: skip
    markup = waterfall.render_waterfall(engine_state(state="restoring", start=going))
    rows = re.findall(r"<li( class=\"\w+\")?><span>([^<]+)</span>", markup)
    assert rows == [("", "restore"), (' class="running"', "open socket"), (' class="usual"', "check answers")]
    assert 'data-ms="4.9" data-at="190.1" data-running="4.9"' in markup
    assert "Start in progress" in markup and 'data-elapsed="195.0"' in markup and "of about 0.24 s" in markup
    assert 'data-usual="11.2"' in markup and 'data-at="201.3"' in markup, "what comes waits for the usual end"
    assert '<u style="--at:238.8"' in markup and "<em>usually</em> 27 ms" in markup


def test_the_first_start_of_all_has_nothing_to_come() -> None:
    first = {"history": [], "last_start": None, "next": {"kind": "created", "expected_ms": None}}
    markup = waterfall.render_waterfall(engine_state(state="starting", start=start(expected_ms=None), **first))
    assert 'class="usual"' not in markup and "data-running" in markup
    assert "No start yet" in waterfall.render_waterfall(
        engine_state(**first)
    ) and "Starts with the next search." in waterfall.render_waterfall(engine_state(**first))


def test_a_start_that_was_asked_for_shows_the_kind_that_comes() -> None:
    asked = start(kind="plain", phases={"queue": 0.1}, phase=None, elapsed_ms=1.0)
    markup = waterfall.render_waterfall(engine_state(waiting=1, start=asked))
    assert "restored" in markup and markup.count('class="usual"') == 3, "the engine does not know its kind yet"


def test_a_failed_start_says_why_and_is_no_example() -> None:
    failed = {**RESTORED, "outcome": "failed", "reason": NASTY, "first_answer_ms": None}
    markup = waterfall.render_waterfall(engine_state(last_start=failed, history=[failed, CREATED]))
    assert "Failed." in markup and "&lt;img" in markup and 'class="why"' in markup
    assert waterfall.find_usual_phases(engine_state(history=[failed, CREATED]).history, "restored") == {}


def test_axes_have_few_round_marks() -> None:
    for scale in (0.7, 1, 9, 57, 238.8, 999, 2_974, 95_700):
        marks = [at for at, _ in waterfall.Axis([], scale).ticks]
        assert marks[0] == 0 and marks[-1] <= scale and len(marks) <= waterfall.TICKS
    assert waterfall.Axis([], 3_000).ticks[:3] == [(0, "0"), (1_000, "1 s"), (2_000, "2 s")]
    assert waterfall.Axis([], 50).ticks[1] == (20, "20 ms")


def test_who_tells_nothing_has_no_start() -> None:
    assert "does not report" in waterfall.render_waterfall(state.ELSEWHERE)
