"""Plotly figures of what scale to zero costs; drawn as `bench.figures` draws, in colours that colour-blind people tell
apart. What is counted is `bench.costs`'s.
"""

from __future__ import annotations

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from bench.costs import Bill, Curve, Point, format_dollars
from bench.figures import GRID, INK, apply_layout, build_axis_title

PARTS = (("serving", "#009E73", ""), ("idle", "#56B4E9", "/"), ("starting", "#D55E00", "x"))
"""Name, colour and pattern: in black and white they differ too."""
ALWAYS, LINE, KNEE, YOURS = "#999999", "#0072B2", "#D55E00", "#CC79A7"
ROWS = ("what you pay for", "scale to zero", "always on")


def draw_bill(billed: Bill) -> go.Figure:
    """Above, the month's bill in its parts; below, the whole of it beside always-on. Each half has its own scale."""
    figure = make_subplots(rows=2, cols=1, row_heights=[0.36, 0.64], vertical_spacing=0.24)
    seconds = {"serving": billed.serving_s, "idle": billed.idle_s, "starting": billed.starting_s}
    for name, colour, shape in PARTS:
        paid = seconds[name] * billed.price.per_s
        add_bar(figure, 1, ROWS[0], paid, colour, shape, f"{name} {format_dollars(paid)}")
    add_bar(figure, 2, ROWS[1], billed.total, LINE, "", f"scale to zero {format_dollars(billed.total)}", legend=False)
    add_bar(
        figure, 2, ROWS[2], billed.always_on, ALWAYS, "", f"always on {format_dollars(billed.always_on)}", legend=False
    )
    for row, names in ((1, ROWS[:1]), (2, ROWS[1:])):
        place = dict.fromkeys(names)
        whole = billed.total if row == 1 else max(billed.total, billed.always_on)
        figure.update_xaxes(range=[0, whole * 1.02 or 1], row=row, col=1)
        figure.update_yaxes(categoryorder="array", categoryarray=list(reversed(place)), row=row, col=1)
    apply_cost_layout(figure, height=300)
    figure.update_layout(barmode="stack", bargap=0.3)
    figure.update_xaxes(tickprefix="$", separatethousands=True, nticks=5)
    figure.update_xaxes(build_axis_title("dollars a month"), row=2, col=1)
    figure.update_yaxes(showgrid=False)
    return figure


def add_bar(
    figure: go.Figure, row: int, label: str, paid: float, colour: str, shape: str, name: str, legend: bool = True
) -> None:  # fmt: skip
    pattern = {"shape": shape, "size": 7, "solidity": 0.15, "fgcolor": "#000", "bgcolor": colour}
    figure.add_bar(
        x=[paid], y=[label], orientation="h", name=name, showlegend=legend,
        marker={"color": colour, "pattern": pattern, "line": {"width": 0}},
        hovertemplate="%{fullData.name} a month<extra></extra>", row=row, col=1,
    )  # fmt: skip


def draw_curve(found: Curve, window_s: float) -> go.Figure:
    """What each window costs a month, and the p95 that it buys; the knee, and the window that was asked for."""
    points = found.points
    figure = go.Figure()
    add_points(figure, "each window", points, {"symbol": "circle", "size": 7, "color": LINE}, "lines+markers")
    if found.knee is not None:
        best = points[found.knee]
        name = f"knee: a window of {format_seconds(best.window_s)}"
        add_points(figure, name, [best], {"symbol": "star", "size": 17, "color": KNEE})
    yours = [point for point in points if point.window_s == window_s]
    marker = {"symbol": "diamond-open", "size": 14, "color": YOURS, "line": {"width": 3}}
    add_points(figure, f"yours: {format_seconds(window_s)}", yours, marker)
    apply_layout(figure, "dollars a month", "p95 of the answers, s")
    whole = {"rangemode": "tozero", "fixedrange": True}  # a finger on it scrolls the page
    figure.update_layout(xaxis={"tickprefix": "$", "nticks": 6, **whole}, yaxis=whole, dragmode=False)
    return figure


def add_points(
    figure: go.Figure, name: str, points: list[Point], marker: dict[str, object], mode: str = "markers"
) -> None:  # fmt: skip
    figure.add_scatter(
        x=[point.dollars for point in points], y=[point.p95_s for point in points], name=name, mode=mode, marker=marker,
        line={"color": LINE, "width": 2},
        customdata=[(format_seconds(point.window_s), f"{point.cold_share:.1%}") for point in points],
        hovertemplate="window %{customdata[0]}: $%{x:,.2f} a month,<br>p95 %{y:.2f} s, %{customdata[1]} wait for a"
        " start<extra></extra>",
    )  # fmt: skip


def format_seconds(value: float) -> str:
    return f"{value:.0f} s" if value >= 10 or value == int(value) else f"{value:.1f} s"


def apply_cost_layout(figure: go.Figure, height: int) -> None:
    """`layout`, which knows one pair of axes, for a figure with more."""
    axes = dict(figure.layout.xaxis.to_plotly_json()), dict(figure.layout.yaxis.to_plotly_json())
    apply_layout(figure, "", "")
    figure.update_layout(xaxis={**axes[0], "title": {"text": ""}}, yaxis={**axes[1], "title": {"text": ""}})
    figure.update_layout(height=height, font={"color": INK}, dragmode=False)
    figure.update_xaxes(gridcolor=GRID, linecolor=GRID, zeroline=False, automargin=True, fixedrange=True)
    figure.update_yaxes(gridcolor=GRID, linecolor=GRID, zeroline=False, automargin=True, fixedrange=True)
