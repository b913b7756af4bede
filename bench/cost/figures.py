"""Plotly figures of the bill that `bench.cost.bill` computes, in the style of `bench.coldstart.figures`."""

from __future__ import annotations

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from bench.coldstart.figures import apply_layout, build_axis_title, style_bar
from bench.cost.bill import Bill, Curve, Point, format_dollars

PARTS = (("serving", "#009E73", ""), ("idle", "#56B4E9", "/"), ("starting", "#D55E00", "x"))
"""Name, colour and pattern."""
ALWAYS, LINE, KNEE, YOURS = "#999999", "#0072B2", "#D55E00", "#CC79A7"
ROWS = ("what you pay for", "scale to zero", "always on")


def draw_bill(billed: Bill) -> go.Figure:
    """Return bars: above, the month's bill in its parts; below, its total beside always-on, on another scale."""
    figure = make_subplots(rows=2, cols=1, row_heights=[0.36, 0.64], vertical_spacing=0.24)
    seconds = {"serving": billed.serving_s, "idle": billed.idle_s, "starting": billed.starting_s}
    for name, colour, shape in PARTS:
        paid = seconds[name] * billed.price.per_s
        add_bar(figure, 1, ROWS[0], paid, f"{name} {format_dollars(paid)}", colour, shape)
    for label, paid, colour in ((ROWS[1], billed.total, LINE), (ROWS[2], billed.always_on, ALWAYS)):
        add_bar(figure, 2, label, paid, f"{label} {format_dollars(paid)}", colour)
    apply_layout(figure, "", "")
    figure.update_layout(barmode="stack", bargap=0.3, height=300, dragmode=False)
    for row, most in ((1, billed.total), (2, max(billed.total, billed.always_on))):
        figure.update_xaxes(range=[0, most * 1.02 or 1], row=row, col=1)
    figure.update_xaxes(tickprefix="$", nticks=5, fixedrange=True)
    figure.update_xaxes(build_axis_title("dollars a month"), row=2, col=1)
    figure.update_yaxes(showgrid=False, fixedrange=True)
    figure.update_yaxes(categoryorder="array", categoryarray=ROWS[:0:-1], row=2, col=1)
    return figure


def add_bar(figure: go.Figure, row: int, label: str, paid: float, name: str, colour: str, shape: str = "") -> None:
    """Add one horizontal bar to a row; those of the first row are in the legend."""
    bar = go.Bar(x=[paid], y=[label], orientation="h", name=name, showlegend=row == 1)
    bar.update(marker=style_bar(colour, shape), hovertemplate="%{fullData.name} a month<extra></extra>")
    figure.add_trace(bar, row=row, col=1)


def draw_curve(curve: Curve, window_s: float) -> go.Figure:
    """Return the cost and p95 of each window as a line, with the knee and the chosen window marked."""
    points = curve.points
    figure = go.Figure()
    add_points(figure, "each window", points, {"symbol": "circle", "size": 7, "color": LINE}, "lines+markers")
    if curve.knee is not None:
        best = points[curve.knee]
        name = f"knee: a window of {format_seconds(best.window_s)}"
        add_points(figure, name, [best], {"symbol": "star", "size": 17, "color": KNEE})
    yours = [point for point in points if point.window_s == window_s]
    marker = {"symbol": "diamond-open", "size": 14, "color": YOURS, "line": {"width": 3}}
    add_points(figure, f"yours: {format_seconds(window_s)}", yours, marker)
    apply_layout(figure, "dollars a month", "p95 of the answers, s")
    axis = {"rangemode": "tozero", "fixedrange": True}  # a finger on it scrolls the page
    figure.update_layout(xaxis={"tickprefix": "$", "nticks": 6, **axis}, yaxis=axis, dragmode=False)
    return figure


def add_points(
    figure: go.Figure, name: str, points: list[Point], marker: dict[str, object], mode: str = "markers"
) -> None:
    """Add points of a curve, with the window and the share of cold requests beside each."""
    curve = go.Scatter(name=name, mode=mode, marker=marker, line={"color": LINE, "width": 2})
    curve.update(x=[point.dollars for point in points], y=[point.p95_s for point in points])
    curve.customdata = [(format_seconds(point.window_s), f"{point.cold_share:.1%}") for point in points]
    waits = "p95 %{y:.2f} s, %{customdata[1]} wait for a start"
    curve.hovertemplate = "window %{customdata[0]}: $%{x:,.2f} a month,<br>" + waits + "<extra></extra>"
    figure.add_trace(curve)


def format_seconds(value: float) -> str:
    """Return seconds as a label has them: `2.8 s`, `60 s`."""
    return f"{value:.0f} s" if value >= 10 or value == int(value) else f"{value:.1f} s"
