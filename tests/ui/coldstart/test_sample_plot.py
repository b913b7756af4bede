"""The samples of a run as dots: all are there, those that count are full, and medians are of those alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from markupsafe import escape

from bench.coldstart.figures import REST
from bench.coldstart.result_file import ResultError
from bench.coldstart.sample import Sample
from tests.support.cold_start_results import every_kind, made, sample, written
from tests.support.states import NASTY, text
from ui.coldstart import sample_plot


def drawn(markup: str) -> dict[str, tuple[int, int, str]]:
    """For each row: full dots, hollow dots, and the words beside them."""
    found = {}
    for label, track, said in re.findall(
        r"<li data-kind=\"\w+\"><span>([^<]+)</span><span class=\"track\"[^>]*>(.*?)</span><span>(.*?)</span></li>",
        markup,
    ):
        dots = re.findall(r'class="(dot[^"]*)"', track)
        hollow = sum("hollow" in dot for dot in dots)
        found[label] = (len(dots) - hollow, hollow, text(said))
    return found


def dots(of: Sequence[Sample], going: bool = True) -> str:
    return sample_plot.render_dots(made(of), going)


def kept_warm(count: int, target: str = "builtin criu") -> list[Sample]:
    """Tries that met a process which had answered before."""
    why = "the same process answered before"
    return [
        sample(number, "restored", 9.0, target=target, verified=False, why_not=why) for number in range(1, count + 1)
    ]


def test_every_sample_is_a_dot_in_its_row() -> None:
    assert drawn(dots(every_kind())) == {
        "plain": (3, 1, "1,000 ms median of 3"),
        "restored": (3, 1, "110.0 ms median of 3"),
        "warm": (4, 1, "10.5 ms median of 4"),
        "not counted": (0, 1, "1 not counted"),
    }
    words = text(dots(every_kind()))
    assert "Hollow dots are not counted: made the snapshot 1, not verified 2, failed 1, not sent 1." in words
    assert "Samples so far 15" in words and "Samples 15" in text(dots(every_kind(), going=False))


def test_a_run_that_has_begun() -> None:
    first = dots([sample(1, "plain", 900.0)])
    assert drawn(first) == {
        "plain": (1, 0, "900.0 ms median of 1"), "restored": (0, 0, "none yet"), "warm": (0, 0, "none yet")
    }  # fmt: skip
    assert first.count("dot last") == 1 and "last" not in dots([sample(1, "plain", 900.0)], going=False)


def test_two_ways_of_coming_back_have_medians_of_their_own() -> None:
    ways = [sample(1, "restored", 100.0), sample(2, "restored", 50.0, target="builtin fork")]
    found = drawn(dots([*ways, *kept_warm(1, "builtin fork")]))
    assert found["restored, builtin criu"] == (1, 0, "100.0 ms median of 1")
    assert found["restored, builtin fork"] == (1, 1, "50.0 ms median of 1")


def test_a_logarithmic_axis_holds_all_of_them() -> None:
    assert sample_plot.choose_bounds([]) == (1, 1000) and sample_plot.choose_bounds([10.0]) == (10, 100)
    assert sample_plot.choose_bounds([9.9, 1_761.0]) == (5, 2_000) and sample_plot.choose_bounds([0.0, 0.02]) == (
        0.01,
        0.02,
    )
    assert sample_plot.choose_ticks((5.0, 2_000.0)) == [10, 100, 1_000] and sample_plot.choose_ticks((50.0, 200.0)) == [
        50,
        100,
        200,
    ]
    assert (
        sample_plot.percent_at(100.0, (10.0, 1_000.0)) == pytest.approx(50)
        and sample_plot.percent_at(0.0, (1.0, 10.0)) == 0
    )
    places = [float(x) for x in re.findall(r'class="dot[^"]*" style="--x:([\d.]+)', dots(every_kind()))]
    assert len(places) == 11 + 3 and all(0 <= x <= 100 for x in places)


def test_many_samples_are_a_picture_of_bounded_size() -> None:
    many = [sample(number, "warm", 10.0 + number % 7 / 10) for number in range(1, 2_001)]
    markup = dots(many)
    assert "2,000" not in markup and markup.count('class="dot') < 100 and "median of 2000" in text(markup)


def test_the_latest_cold_start_falls_to_the_time_that_the_client_waited() -> None:
    markup = dots([sample(1, "plain", 1000.0), sample(2, "restored", 110.0), sample(3, "warm", 9.0)])
    fall = markup[markup.index('class="waterfall"') :]
    took = [float(ms) for ms in re.findall(r'data-ms="([\d.]+)"', fall)]
    assert sum(took) == pytest.approx(110.0, abs=1) and 'data-total="110.0"' in fall and escape(REST) in fall
    assert "builtin criu · restored · verified cold" in fall
    assert "waterfall" not in dots([sample(3, "warm", 9.0)])


def test_that_somebody_keeps_it_warm_is_said_while_the_run_goes_on() -> None:
    sentence = (
        "builtin criu: never verified cold in 2 tries (the same process answered before, 2 of 2): someone else may"
        " keep it warm"
    )
    assert sample_plot.find_warnings(made(kept_warm(2)), True) == [sentence]
    assert not sample_plot.find_warnings(made(kept_warm(1)), True), "the first one may have made the snapshot"
    assert "in 1 tries" in sample_plot.find_warnings(made(kept_warm(1)), False)[0]
    assert not sample_plot.find_warnings(made([*kept_warm(2), sample(9, "restored", 100.0)]), True)


def test_a_file_is_read_once_for_each_change(tmp_path: Path) -> None:
    file = written(tmp_path, kept_warm(2))
    first = sample_plot.render_run(file, 1, True)
    assert "cannot be compared" in first.headline and "keep it warm" in first.headline and "dot hollow" in first.dots
    written(tmp_path)
    assert (
        sample_plot.render_run(file, 1, True) is first
        and "9.1x faster" in sample_plot.render_run(file, 2, True).headline
    )
    with pytest.raises(ResultError):
        sample_plot.render_run(Path(__file__), 1, True)


def test_nothing_of_a_server_is_markup(tmp_path: Path) -> None:
    of = [replace(one, target=NASTY) for one in every_kind()] + kept_warm(2, f"two {NASTY}")
    told = sample_plot.render_run(written(tmp_path, of), 1, True)
    markup = told.dots + told.headline
    assert markup.count("&lt;img") > 2 and 'role="note"' in told.headline and "<img" not in markup
    assert not re.search(r'title="[^"]*"&', markup), "a quote would end the attribute"
