"""Plotly figures of cold-start results.

Start kinds differ in colour (Okabe and Ito's palette, which colour-blind people can tell apart) and in marker and
dash. Backgrounds are transparent and ink is a middle grey, so that one figure serves light and dark pages. Texts from
a file are escaped: Plotly reads markup in labels.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from functools import partial
from html import escape
from itertools import cycle

import plotly.graph_objects as go

from bench.coldstart.result_file import (
    Result,
    Series,
    compare_medians,
    group_uncounted,
    name_result,
    select_headline,
    split_series,
)
from bench.coldstart.sample import BOOT, Sample, select_counted

COLOURS = {"plain": "#D55E00", "restored": "#0072B2", "warm": "#009E73"}
STYLES = {
    "plain": (("circle", "solid"), ("cross", "longdash"), ("hexagram", "5px,2px")),
    "restored": (("diamond", "dash"), ("star", "dashdot"), ("bowtie", "8px,2px,2px,2px")),
    "warm": (("triangle-up", "dot"), ("triangle-down", "longdashdot"), ("hourglass", "2px,6px")),
}
"""Marker and dash of the first series of a kind, its second, its third, and the first again."""
HOLLOW = {
    "made the snapshot": ("square-open", "#CC79A7"),
    "not verified": ("circle-open", "#CC79A7"),
    "failed": ("x-open", "#E69F00"),
    "not sent": ("diamond-tall-open", "#E69F00"),
}
PHASES = {
    "start": "#D55E00",
    "restore": "#0072B2",
    "wake": "#56B4E9",
    "hold": "#CC79A7",
    "queue": "#F0E442",
    "decode": "#E69F00",
    "embed": "#009E73",
}
"""Phases in the order of a request. Others that a server names are drawn grey, after these."""
PATTERNS = ("", "/", "x", "\\", "+", ".", "|", "-")
REST = "rest of the client's time"
INK, GRID, GREY = "#808080", "rgba(128,128,128,.25)", "#999999"
escape_markup = partial(escape, quote=False)
"""Return text that Plotly shows as it is."""
MARKED = 60
"""Samples up to which each is marked on a curve."""


def draw_phases(results: Sequence[Result]) -> go.Figure:
    """Return bars of each series' time: the median of each phase. They need not add up to the median of the whole."""
    rows = split_series(results)
    split = [[split_time(sample) for sample in row.samples] for row in rows]
    names = {name for row in split for one in row for name in one}
    order = [*(name for name in PHASES if name in names), *sorted(names - {*PHASES, REST}), REST]
    titles = [escape_markup(row.title).replace(", ", ",<br>") for row in rows]
    labels = [title.replace(" (n=", "<br>(n=").replace(": ", ":<br>", 1) for title in titles]  # fits on a phone
    figure = go.Figure()
    for number, name in enumerate(order if rows else []):
        medians = [statistics.median(one.get(name, 0.0) for one in row) for row in split]
        bar = go.Bar(y=labels, x=medians, name=escape_markup(name), orientation="h")
        bar.marker = style_bar(PHASES.get(name, GREY), PATTERNS[number % len(PATTERNS)])
        bar.hovertemplate = "%{y}<br>%{fullData.name}: %{x:.1f} ms<extra></extra>"
        figure.add_trace(bar)
    apply_layout(figure, "median, ms", "", rows=len(rows))
    figure.update_layout(barmode="stack", yaxis={"autorange": "reversed", "automargin": True, "showgrid": False})
    return figure


def draw_distribution(results: Sequence[Result]) -> go.Figure:
    """Return curves of the share of answers that came within a time."""
    figure = go.Figure()
    for row, symbol, dash in style_series(results):
        took = sorted(row.ms)
        curve = go.Scatter(x=took, y=[(number + 1) / len(took) for number in range(len(took))])
        curve.update(name=escape_markup(row.title), mode="lines+markers" if len(took) <= MARKED else "lines")
        curve.line = {"shape": "hv", "dash": dash, "color": COLOURS[row.kind], "width": 2}
        curve.marker = {"symbol": symbol, "size": 8}
        curve.hovertemplate = "%{y:.0%} within %{x:.1f} ms<extra>%{fullData.name}</extra>"
        figure.add_trace(curve)
    apply_layout(figure, "client's time, ms (log)", "share of answers")
    figure.update_layout(xaxis=build_log_axis(figure, "x"), yaxis={"range": [0, 1.04], "tickformat": ".0%"})
    return figure


def draw_dots(results: Sequence[Result]) -> go.Figure:
    """Return a dot for each sample in the order of time; hollow if no other figure counts it."""
    figure = go.Figure()
    for row, symbol, _ in style_series(results):
        add_dots(figure, row.title, row.samples, {"symbol": symbol, "color": COLOURS[row.kind], "size": 9})
    groups = [group_uncounted(result) for result in results]
    for why, (symbol, colour) in HOLLOW.items():
        samples = [sample for group in groups for sample in group[why]]
        if samples:
            marker = {"symbol": symbol, "color": colour, "size": 10, "line": {"width": 2}}
            add_dots(figure, f"{why}, not counted (n={len(samples)})", samples, marker)
    apply_layout(figure, "time of the request, UTC", "client's time, ms (log)")
    figure.update_layout(yaxis=build_log_axis(figure, "y"), xaxis={"type": "date"})
    return figure


def render_headline(results: Sequence[Result]) -> str:
    """Return how much faster restored is than plain, for each result, or what is missing. Plain text, not escaped."""
    if len(results) == 1:
        return render_one_headline(results[0])
    words = (f"{name_result(results, n)}: {render_one_headline(result)}" for n, result in enumerate(results, 1))
    return "; ".join(words) or "no result"


def render_one_headline(result: Result) -> str:
    """Return the headline of one result, without its name."""
    plain, restored = select_headline(result, "plain"), select_headline(result, "restored")
    ratio = compare_medians(plain, restored)
    if ratio is None:
        have = {"plain": len(plain), "restored": len(restored)}
        lacking = " and no ".join(kind for kind, n in have.items() if not n)
        rest = "".join(f"; {kind} n={n}" for kind, n in have.items() if n)
        missing = f"restored and plain cannot be compared: no {lacking} start was verified cold{rest}"
        return compare_with_warm(result) or missing
    words, value, low, high = "faster", ratio.value, ratio.low, ratio.high
    if value < 1:
        words, value, low, high = "slower", 1 / value, 1 / high, 1 / low
    within = f"95 % {low:.1f} to {high:.1f}"
    caveat = "" if ratio.low > 1 or ratio.high < 1 else ": no difference is shown"
    several = len({sample.target for sample in select_counted(result.samples, "restored")}) > 1
    target = f" ({result.headline})" if several else ""
    return f"restored{target} {value:.1f}x {words} than plain ({within}), n={len(restored)} and {len(plain)}{caveat}"


def compare_with_warm(result: Result) -> str:
    """Return how much slower a cold start is than a warm answer; empty without both."""
    for kind in ("restored", "plain"):
        cold, warm = select_headline(result, kind), select_headline(result, "warm")
        if (ratio := compare_medians(cold, warm)) is not None:
            median = statistics.median(sample.client_ms for sample in cold)
            within = f"95 % {ratio.low:.1f} to {ratio.high:.1f}), n={len(cold)} and {len(warm)}"
            return f"{kind} in {median:,.0f} ms, {ratio.value:.1f}x a warm answer ({within}"
    return ""


def split_time(sample: Sample) -> dict[str, float]:
    """Return the ms of each phase, without overlaps, and of the rest: together the client's time.

    The engine's `hold` spans the start or restore it waited for, and that spans the wake.
    """
    server = {name: ms for name, ms in sample.server_ms.items() if sample.kind != "warm" or name not in BOOT}
    if "hold" in server:
        start = "restore" if "restore" in server else "start"
        hold = server["hold"]
        server["wake"] = min(server.get("wake", 0.0), hold)
        server[start] = max(0.0, min(server.get(start, 0.0), hold) - server["wake"])
        server["hold"] = hold - server["wake"] - server[start]
    parts, left = {}, sample.client_ms
    for name in sorted(server, key=lambda name: list(PHASES).index(name) if name in PHASES else len(PHASES)):
        if server[name]:
            parts[name] = min(server[name], left)
            left -= parts[name]
    return {**parts, REST: left}


def style_bar(colour: str, shape: str) -> dict[str, object]:
    """Return the marker of a bar in a colour and a pattern: in black and white bars differ too."""
    pattern = {"shape": shape, "size": 7, "solidity": 0.15, "fgcolor": "#000", "bgcolor": colour}
    return {"color": colour, "pattern": pattern, "line": {"width": 0}}


def style_series(results: Sequence[Result]) -> list[tuple[Series, str, str]]:
    styles = {kind: cycle(pairs) for kind, pairs in STYLES.items()}
    return [(row, *next(styles[row.kind])) for row in split_series(results)]


def add_dots(figure: go.Figure, name: str, samples: Sequence[Sample], marker: dict[str, object]) -> None:
    """Draw a dot for each sample. Those that were never sent have no time: they are in the legend alone."""
    dots = go.Scatter(name=escape_markup(name), mode="markers", marker=marker, showlegend=True)
    dots.update(x=[sample.started for sample in samples], y=[sample.client_ms or None for sample in samples])
    dots.customdata = [escape_markup(describe_sample(sample)) for sample in samples]
    dots.hovertemplate = "%{customdata}<br>%{y:.1f} ms<extra></extra>"
    figure.add_trace(dots)


def describe_sample(sample: Sample) -> str:
    """Return what is shown beside a dot: number, target, kind and proof."""
    words = (sample.target, sample.kind.replace("_", " "), sample.start_kind, sample.why_not or "verified cold")
    return f"#{sample.number} " + ", ".join(word for word in dict.fromkeys(words) if word)


def build_log_axis(figure: go.Figure, axis: str) -> dict[str, object]:
    """Return a log axis with ticks at 1, 2 and 5 where times are close together, else at powers of ten."""
    times = [value for trace in figure.data for value in trace[axis] if value] or [1.0]
    low, high = math.floor(math.log10(min(times))), math.ceil(math.log10(max(times)))
    steps = (1, 2, 5) if max(times) / min(times) < 100 else (1,)
    ticks = [step * 10.0**power for power in range(low, high + 1) for step in steps]
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:,.10g}" for tick in ticks]}


def build_axis_title(words: str) -> dict[str, object]:
    return {"title": {"text": words, "font": {"size": 13}, "standoff": 12}}


def apply_layout(figure: go.Figure, x: str, y: str, rows: int = 0) -> None:
    """Style the figure and all its axes, high enough for a phone, where the legend has a line for each trace."""
    axis = {"gridcolor": GRID, "linecolor": GRID, "zeroline": False, "automargin": True}
    font = {"family": "ui-sans-serif, system-ui, sans-serif", "size": 13, "color": INK}
    height = (90 + 80 * rows if rows else 300) + 20 * len(figure.data)
    figure.update_layout(template="none", paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", font=font)
    legend = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "traceorder": "normal"}
    figure.update_layout(legend=legend, showlegend=True, hoverlabel={"bgcolor": "#262a31", "font_color": "#fbfaf7"})
    figure.update_layout(height=height, margin={"l": 8, "r": 12, "t": 8, "b": 8}, bargap=0.35)
    figure.update_xaxes(**axis, **build_axis_title(x), separatethousands=True, exponentformat="none")
    figure.update_yaxes(**axis, **build_axis_title(y))
    if not figure.data:
        figure.add_annotation(text="no sample that counts", showarrow=False, xref="paper", yref="paper")
