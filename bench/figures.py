"""Plotly figures of cold-start results: results in, figures out, nothing read or written.

Start kinds differ in colour (Okabe and Ito's palette, which colour-blind people can tell apart) and in marker and
dash. Backgrounds are transparent and ink is a middle grey, so that one figure serves light and dark pages. Texts from
a file are escaped: Plotly reads markup in labels.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go

from bench.measure import BOOT, Sample
from bench.results import Result, Series, counted, headline_of, left_out, named, ratio_of, series

COLOURS = {"plain": "#D55E00", "restored": "#0072B2", "warm": "#009E73"}
SYMBOLS = {
    "plain": ("circle", "cross", "hexagram"),
    "restored": ("diamond", "star", "bowtie"),
    "warm": ("triangle-up", "triangle-down", "hourglass"),
}
DASHES = {
    "plain": ("solid", "longdash", "5px,2px"),
    "restored": ("dash", "dashdot", "8px,2px,2px,2px"),
    "warm": ("dot", "longdashdot", "2px,6px"),
}
"""For each kind: of its first series, its second, and so on around."""
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
"""In the order of a request. What else a server names is drawn grey, after these."""
PATTERNS = ("", "/", "x", "\\", "+", ".", "|", "-")
REST = "rest of the client's time"
INK, GRID, GREY = "#808080", "rgba(128,128,128,.25)", "#999999"
MARKED = 60
"""Samples up to which each is marked on a curve."""


def phases(results: Sequence[Result]) -> go.Figure:
    """Where the time goes: for each series the median of each phase. Medians need not add up to the median."""
    rows = series(results)
    split = [[parts(sample) for sample in row.samples] for row in rows]
    names = {name for row in split for one in row for name in one}
    order = [*(name for name in PHASES if name in names), *sorted(names - {*PHASES, REST}), REST]
    labels = [wrapped(row) for row in rows]
    figure = go.Figure()
    for number, name in enumerate(order if rows else []):
        medians = [statistics.median(one.get(name, 0.0) for one in row) for row in split]
        colour = PHASES.get(name, GREY)
        pattern = {"shape": PATTERNS[number % len(PATTERNS)], "size": 7, "solidity": 0.15, "fgcolor": "#000"}
        figure.add_bar(
            y=labels, x=medians, name=text(name), orientation="h",
            marker={"color": colour, "pattern": {**pattern, "bgcolor": colour}, "line": {"width": 0}},
            hovertemplate="%{y}<br>%{fullData.name}: %{x:.1f} ms<extra></extra>",
        )  # fmt: skip
    layout(figure, "median, ms", "", rows=len(rows))
    figure.update_layout(barmode="stack", yaxis={"autorange": "reversed", "automargin": True, "showgrid": False})
    return figure


def distribution(results: Sequence[Result]) -> go.Figure:
    """Which share of the answers came within a time."""
    figure = go.Figure()
    for row, symbol, dash in styled(results):
        took = sorted(row.ms)
        mode = "lines+markers" if len(took) <= MARKED else "lines"
        figure.add_scatter(
            x=took, y=[(number + 1) / len(took) for number in range(len(took))], name=text(row.titled), mode=mode,
            line={"shape": "hv", "dash": dash, "color": COLOURS[row.kind], "width": 2},
            marker={"symbol": symbol, "size": 8},
            hovertemplate="%{y:.0%} within %{x:.1f} ms<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    layout(figure, "client's time, ms (log)", "share of answers")
    figure.update_layout(xaxis=log_axis(figure, "x"), yaxis={"range": [0, 1.04], "tickformat": ".0%"})
    return figure


def dots(results: Sequence[Result]) -> go.Figure:
    """Every sample in the order of time; hollow if no other figure counts it."""
    figure = go.Figure()
    for row, symbol, _ in styled(results):
        dot_trace(figure, row.titled, row.samples, {"symbol": symbol, "color": COLOURS[row.kind], "size": 9})
    groups = [left_out(result) for result in results]
    for why, (symbol, colour) in HOLLOW.items():
        samples = [sample for group in groups for sample in group[why]]
        if samples:
            marker = {"symbol": symbol, "color": colour, "size": 10, "line": {"width": 2}}
            dot_trace(figure, f"{why}, not counted (n={len(samples)})", samples, marker)
    layout(figure, "time of the request, UTC", "client's time, ms (log)")
    figure.update_layout(yaxis=log_axis(figure, "y"), xaxis={"type": "date"})
    return figure


def headline(results: Sequence[Result]) -> str:
    """How much faster restored is than plain, or what is missing to say so. Plain text, not escaped."""
    if not results:
        return "no result"
    said = [one_headline(result) for result in results]
    if len(results) == 1:
        return said[0]
    return "; ".join(f"{named(results, number)}: {words}" for number, words in enumerate(said, 1))


def one_headline(result: Result) -> str:
    plain, restored = headline_of(result, "plain"), headline_of(result, "restored")
    found = ratio_of(plain, restored)
    if found is None:
        have = {"plain": len(plain), "restored": len(restored)}
        lacking = " and no ".join(kind for kind, n in have.items() if not n)
        rest = "".join(f"; {kind} n={n}" for kind, n in have.items() if n)
        return (
            beside_warm(result) or f"restored and plain cannot be compared: no {lacking} start was verified cold{rest}"
        )
    if found.value >= 1:
        words, value, low, high = "faster", found.value, found.low, found.high
    else:
        words, value, low, high = "slower", 1 / found.value, 1 / found.high, 1 / found.low
    within = f"95 % {low:.1f} to {high:.1f}"
    doubt = "" if found.low > 1 or found.high < 1 else ": no difference is shown"
    way = f" ({result.headline})" if len({s.target for s in counted(result, "restored")}) > 1 else ""
    return f"restored{way} {value:.1f}x {words} than plain ({within}), n={len(restored)} and {len(plain)}{doubt}"


def beside_warm(result: Result) -> str:
    """What a run of one way of coming back can say; empty without both."""
    for kind in ("restored", "plain"):
        cold, warm = headline_of(result, kind), headline_of(result, "warm")
        if (found := ratio_of(cold, warm)) is not None:
            median = statistics.median(sample.client_ms for sample in cold)
            within = f"95 % {found.low:.1f} to {found.high:.1f}), n={len(cold)} and {len(warm)}"
            return f"{kind} in {median:,.0f} ms, {found.value:.1f}x a warm answer ({within}"
    return ""


def parts(sample: Sample) -> dict[str, float]:
    """The client's time in pieces that do not overlap and add up to it, in ms.

    A front's `hold` spans the start or restore it waited for, and that spans the wake.
    """
    told = {name: ms for name, ms in sample.server_ms.items() if sample.kind != "warm" or name not in BOOT}
    if "hold" in told:
        begun = "restore" if "restore" in told else "start"
        waited = told["hold"]
        told["wake"] = min(told.get("wake", 0.0), waited)
        told[begun] = max(0.0, min(told.get(begun, 0.0), waited) - told["wake"])
        told["hold"] = waited - told["wake"] - told[begun]
    found, left = {}, sample.client_ms
    for name in sorted(told, key=lambda name: list(PHASES).index(name) if name in PHASES else len(PHASES)):
        if told[name]:
            found[name] = min(told[name], left)
            left -= found[name]
    return {**found, REST: left}


def styled(results: Sequence[Result]) -> list[tuple[Series, str, str]]:
    """Each series with its marker and dash."""
    seen: Counter[str] = Counter()
    found = []
    for row in series(results):
        number = seen[row.kind] % len(SYMBOLS[row.kind])
        found.append((row, SYMBOLS[row.kind][number], DASHES[row.kind][number]))
        seen[row.kind] += 1
    return found


def dot_trace(figure: go.Figure, name: str, samples: Sequence[Sample], marker: dict[str, object]) -> None:
    """What was never sent has no time; it is then in the legend alone."""
    figure.add_scatter(
        x=[sample.started for sample in samples], y=[sample.client_ms or None for sample in samples],
        name=text(name), mode="markers", marker=marker, customdata=[about(sample) for sample in samples],
        hovertemplate="%{customdata}<br>%{y:.1f} ms<extra></extra>", showlegend=True,
    )  # fmt: skip


def about(sample: Sample) -> str:
    words = (sample.target, sample.kind.replace("_", " "), sample.start_kind, sample.why_not or "verified cold")
    return f"#{sample.number} " + text(", ".join(word for word in dict.fromkeys(words) if word))


def text(words: str) -> str:
    return escape(words, quote=False)


def wrapped(row: Series) -> str:
    """Narrow enough for a phone."""
    return text(row.titled).replace(", ", ",<br>").replace(" (n=", "<br>(n=").replace(": ", ":<br>", 1)


def log_axis(figure: go.Figure, axis: str) -> dict[str, object]:
    """Ticks at 1, 2 and 5 where the times are close together, else at powers of ten; each in full."""
    times = [value for trace in figure.data for value in trace[axis] if value] or [1.0]
    low, high = math.floor(math.log10(min(times))), math.ceil(math.log10(max(times)))
    steps = (1, 2, 5) if max(times) / min(times) < 100 else (1,)
    ticks = [step * 10.0**power for power in range(low, high + 1) for step in steps]
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:,.10g}" for tick in ticks]}


def title(words: str) -> dict[str, object]:
    return {"title": {"text": words, "font": {"size": 13}, "standoff": 12}}


def layout(figure: go.Figure, x: str, y: str, rows: int = 0) -> None:
    """High enough for a phone, where the legend has a line for each trace."""
    axis = {"gridcolor": GRID, "linecolor": GRID, "zeroline": False, "automargin": True}
    font = {"family": "ui-sans-serif, system-ui, sans-serif", "size": 13, "color": INK}
    height = (90 + 80 * rows if rows else 300) + 20 * len(figure.data)
    figure.update_layout(
        template="none", paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", font=font,
        xaxis={**axis, **title(x), "separatethousands": True, "exponentformat": "none"}, yaxis={**axis, **title(y)},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "traceorder": "normal"},
        margin={"l": 8, "r": 12, "t": 8, "b": 8}, height=height, bargap=0.35, showlegend=True,
        hoverlabel={"bgcolor": "#262a31", "font": {"color": "#fbfaf7"}},
    )  # fmt: skip
    if not figure.data:
        words = {"text": "no sample that counts", "showarrow": False, "xref": "paper", "yref": "paper"}
        figure.add_annotation(words)
