"""Render a server's last minutes as a strip of its states. Pure functions.

Places are CSS variables in seconds, so that the browser alone moves on the last state and a countdown
(`static/timeline.js`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby

from markupsafe import Markup

from ui.coldstart.waterfall import render_waterfall
from ui.components import status_pill
from ui.components.templates import render_template
from ui.components.wording import format_duration
from ui.servers.state import CONNECTING, ServerState, UnknownState
from ui.servers.state_history import SpanState, StateSpan

LENGTHS_S = (60, 120, 300)
"""The strip shows the first of these that holds the whole history, else the last."""
MAX_SPANS = 300
"""Spans drawn, the latest: each is an element."""
TABLE_ROWS = 12
FLAGS_APART = 0.15
"""The share of the strip between two written starts: on a phone that is the width of one."""
WORDS: dict[SpanState, str] = {
    "serving": "serving",
    "idle": "idle",
    "zero": "asleep",
    "restoring": "waking up",
    "starting": "starting",
    "snapshotting": "saving snapshot",
    "scaling_down": "falling asleep",
    "failed": "failed",
    "unknown": "not known",
}
"""On the spans; the legend has them in this order."""
COMING_UP = ("restoring", "starting", "snapshotting")


@dataclass(frozen=True)
class SpanOnStrip:
    """One span as far as the strip shows it. Seconds; `to` counts back from now."""

    state: SpanState
    to: float
    took: float


@dataclass(frozen=True)
class Flag:
    """The time of a start, written above it: most are too short to be more than a line on the strip."""

    to: float
    way: str
    took: float
    edge: bool
    """Whether it is so near to now that it would reach out of the strip."""


def render_empty() -> Markup:
    """Render the whole widget without a history; later its parts are replaced."""
    return render_template("coldstart/timeline.html", parts=render_parts(CONNECTING, [], 0.0))


def render_parts(
    state: ServerState, spans: Sequence[StateSpan], now: float, title: str = "", lanes: Sequence[list[StateSpan]] = ()
) -> dict[str, Markup]:
    """Render strip, waterfall and table. `now` is in the spans' monotonic seconds; `title` is the server's.

    `lanes`: the spans of each worker, where the server has several.
    """
    return {
        "strip": render_strip(state, spans, now, title, lanes),
        "fall": render_waterfall(state),
        "table": render_table(spans, now),
    }


def render_strip(
    state: ServerState, spans: Sequence[StateSpan], now: float, title: str, lanes: Sequence[list[StateSpan]] = ()
) -> Markup:
    """Render the spans, below the current state in the words of the pill, and a lane for each worker."""
    known = now - spans[0].began if spans else LENGTHS_S[-1]
    length = next((length for length in LENGTHS_S if known <= length), LENGTHS_S[-1])
    shown = place_spans(spans, now, length)
    if isinstance(state, UnknownState):
        state_words, doing = state.title, state.why
    else:
        state_words, doing = status_pill.TITLES[state.shown_state], status_pill.render_doing(state)
    heading = f"Last {length // 60} minutes" if length > 60 else "Last minute"
    took = {name: [span.took for span in shown if span.state == name] for name in WORDS}
    totals = {name: (sum(seconds), len(seconds)) for name, seconds in took.items() if seconds}
    spent = ", ".join(
        f"{WORDS[name]} {format_duration(seconds)}{f' ({count} times)' if count > 1 else ''}"
        for name, (seconds, count) in totals.items()
    )
    in_words = f"{heading}: {spent}. Now {WORDS[shown[-1].state]}." if shown else ""
    told = {"heading": heading, "title": title, "state": state_words, "doing": doing, "words": WORDS}
    each = [place_spans(lane, now, length) for lane in lanes]
    drawn = {
        "flags": place_flags(shown, length),
        "axis": choose_ticks(length),
        "totals": totals,
        "in_words": in_words,
        "lanes": [(number, lane, WORDS[lane[-1].state]) for number, lane in enumerate(each, 1) if lane],
    }
    return render_template("coldstart/strip.html", length=length, spans=shown, **told, **drawn)


def choose_ticks(length: int) -> list[tuple[int, str]]:
    """Return the axis, five steps back from now or four: seconds and their labels."""
    step = length // (4 if length < LENGTHS_S[-1] else 5)
    unit, size = ("min", 60) if step >= 60 else ("s", 1)
    back = [(to, f"−{to // size}{f' {unit}' if to == length else ''}") for to in range(length, 0, -step)]
    return [*back, (0, "now")]


def place_spans(spans: Sequence[StateSpan], now: float, length: int) -> list[SpanOnStrip]:
    """Return the spans that reach into the last `length` seconds, the oldest first."""
    oldest = now - length
    return [
        SpanOnStrip(span.state, now - end, end - max(span.began, oldest))
        for span, end in add_ends(spans, now)
        if end > oldest
    ][-MAX_SPANS:]


def add_ends(spans: Sequence[StateSpan], now: float) -> Iterator[tuple[StateSpan, float]]:
    """Return the spans with their ends: each ends where the next one begins, the last one now."""
    ends = [*(later.began for later in spans[1:]), now]
    return zip(spans, ends, strict=False)  # without a span there is one end too many


def place_flags(shown: Sequence[SpanOnStrip], length: int) -> list[Flag]:
    """Return one flag for each start that is over, unless it is too close to the one before."""
    found: list[Flag] = []
    for coming_up, group in groupby(shown, lambda span: span.state in COMING_UP):
        start = list(group)
        to = start[-1].to
        if coming_up and start[-1] is not shown[-1] and (not found or found[-1].to - to >= FLAGS_APART * length):
            way = "woke" if all(span.state == "restoring" for span in start) else "started"
            found.append(Flag(to, way, sum(span.took for span in start), edge=to < FLAGS_APART / 2 * length))
    return found


def render_table(spans: Sequence[StateSpan], now: float) -> Markup:
    """Render the latest states as a table, the newest first."""
    rows = [
        {"since": f"{datetime.fromtimestamp(one.at, UTC):%H:%M:%S}", "state": WORDS[one.state], "took": end - one.began}
        for one, end in list(add_ends(spans, now))[-TABLE_ROWS:]
    ]
    return render_template("coldstart/states.html", rows=rows[::-1])
