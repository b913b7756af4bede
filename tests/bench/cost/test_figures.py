"""The figures of the bill: each bar and point is a number of the bill."""

from __future__ import annotations

import pytest

from bench.cost import prices
from bench.cost.bill import Curve, Point, Usage, compute_bill
from bench.cost.figures import PARTS, draw_bill, draw_curve, format_seconds

BILLED = compute_bill([3600.0 * hour for hour in range(10)], Usage(5, 60, 15), prices.price_machine("L40S"))
POINTS = [Point(2.0, 1.0, 20.0, 1.0), Point(60.0, 5.0, 6.5, 0.25), Point(600.0, 50.0, 5.0, 0.01)]


def test_bars_are_the_parts_of_the_bill_and_its_total_beside_always_on() -> None:
    bars = draw_bill(BILLED).data
    paid = {bar.name.rpartition(" ")[0]: bar.x[0] for bar in bars}
    assert list(paid) == [*(name for name, _, _ in PARTS), "scale to zero", "always on"]
    assert paid["serving"] == pytest.approx(BILLED.serving_s * BILLED.price.per_s)
    assert sum(paid[name] for name, _, _ in PARTS) == pytest.approx(BILLED.total)
    assert paid["scale to zero"] == BILLED.total
    assert paid["always on"] == BILLED.always_on
    assert [bar.name for bar in bars[3:]] == ["scale to zero $13", "always on $1,405"]


def test_parts_differ_in_pattern_and_only_they_are_in_the_legend() -> None:
    bars = draw_bill(BILLED).data
    assert len({bar.marker.pattern.shape for bar in bars[:3]}) == 3
    assert [bar.showlegend for bar in bars] == [True, True, True, False, False]


def test_a_bill_of_nothing_is_drawn() -> None:
    nothing = compute_bill(0.0, Usage(5, 60, 15), prices.price_machine("none"))
    assert [bar.x[0] for bar in draw_bill(nothing).data] == [0, 0, 0, 0, 0]


def test_the_curve_marks_its_knee_and_the_chosen_window() -> None:
    traces = {trace.name: trace for trace in draw_curve(Curve(POINTS, 1), 600.0).data}
    assert list(traces) == ["each window", "knee: a window of 60 s", "yours: 600 s"]
    assert list(traces["each window"].x) == [1, 5, 50] and list(traces["each window"].y) == [20, 6.5, 5]
    assert (traces["knee: a window of 60 s"].x[0], traces["yours: 600 s"].y[0]) == (5, 5)
    assert [list(pair) for pair in traces["each window"].customdata][1] == ["60 s", "25.0%"]


def test_without_a_knee_none_is_marked() -> None:
    figure = draw_curve(Curve(POINTS, None), 61.0)
    assert [trace.name for trace in figure.data] == ["each window", "yours: 61 s"] and not figure.data[1].x


@pytest.mark.parametrize(("seconds", "label"), [(2.81, "2.8 s"), (60.0, "60 s"), (3.0, "3 s"), (12.4, "12 s")])
def test_seconds_as_a_label(seconds: float, label: str) -> None:
    assert format_seconds(seconds) == label
