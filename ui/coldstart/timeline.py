"""Render the engine's last minutes as a strip of its states. Pure functions.

Places are CSS variables in seconds, so that what goes on (the last band, a countdown) is moved on by the browser alone
(`static/timeline.js`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from markupsafe import Markup

from ui.coldstart.waterfall import waterfall
from ui.components import status_pill
from ui.components.templates import render_template
from ui.components.wording import format_duration
from ui.servers.state import CONNECTING, News, Unknown
from ui.servers.state_history import Band, Look

SPANS_S = (60, 120, 300)
"""What the strip shows: the first of these in which all that is known finds room, else the last."""
MOST = 300
"""Bands drawn, the latest: each is an element."""
LISTED = 12
APART = 0.15
"""Of the strip, between two written starts: on a phone that is the width of one."""
WORDS: dict[Look, str] = {
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
"""On the bands; the legend has them in this order."""
COMING_UP = ("restoring", "starting", "snapshotting")


@dataclass(frozen=True)
class Drawn:
    """One band as far as the strip shows it. Seconds; `to` counts back from now."""

    look: Look
    to: float
    took: float


@dataclass(frozen=True)
class Flag:
    """What a start took, written above it: most are too short to be more than a line on the strip."""

    to: float
    way: str
    took: float
    edge: bool
    """So near to now that it would reach out of the strip."""


def frame(news: News = CONNECTING) -> Markup:
    """Render the whole widget, empty; later its parts are replaced."""
    return render_template("coldstart/timeline.html", parts=parts(news, [], 0.0))


def parts(news: News, bands: Sequence[Band], now: float, title: str = "") -> dict[str, Markup]:
    """Render strip, waterfall and table. `now` in the monotonic seconds of the bands; `title` names the server where
    there are several."""
    return {"strip": strip(news, bands, now, title), "fall": waterfall(news), "table": table(bands, now)}


def message(news: News, bands: Sequence[Band], now: float, title: str = "", run: str = "") -> dict[str, Any]:
    """Return what an event for a browser has of this. `run` is the bench run in progress."""
    return {"timeline": parts(news, bands, now, title), "run": run}


# The strip


def strip(news: News, bands: Sequence[Band], now: float, title: str) -> Markup:
    """Render the bands, below the current state as the pill says it."""
    span, rows = span_of(bands, now), drawn(bands, now)
    return render_template(
        "coldstart/strip.html", spanned=spanned(span), title=title, span=span, bands=rows, words=WORDS,
        state=news.title if isinstance(news, Unknown) else status_pill.TITLES[news.look],
        doing=news.why if isinstance(news, Unknown) else status_pill.render_doing(news),
        flags=flags(rows, span), axis=axis(span), totals=totals(rows), in_words=in_words(rows, span),
    )  # fmt: skip


def span_of(bands: Sequence[Band], now: float) -> int:
    known = now - bands[0].began if bands else SPANS_S[-1]
    return next((span for span in SPANS_S if known <= span), SPANS_S[-1])


def spanned(span: int) -> str:
    return f"Last {span // 60} minutes" if span > 60 else "Last minute"


def axis(span: int) -> list[tuple[int, str]]:
    """Return the marks of the axis, five steps back from now or four: seconds and their labels."""
    step = span // (4 if span < SPANS_S[-1] else 5)
    unit, size = ("min", 60) if step >= 60 else ("s", 1)
    back = [(to, f"−{to // size}{f' {unit}' if to == span else ''}") for to in range(span, 0, -step)]
    return [*back, (0, "now")]


def drawn(bands: Sequence[Band], now: float) -> list[Drawn]:
    """Return the bands that reach into the last minutes, the oldest first."""
    oldest = now - span_of(bands, now)
    return [
        Drawn(one.look, now - end, end - max(one.began, oldest)) for one, end in with_ends(bands, now) if end > oldest
    ][-MOST:]


def with_ends(bands: Sequence[Band], now: float) -> list[tuple[Band, float]]:
    """Return the bands with their ends: each ends where the next one begins, the last one now."""
    ends = [*(later.began for later in bands[1:]), now]
    return list(zip(bands, ends, strict=False))  # without a band there is one end too many


def flags(rows: Sequence[Drawn], span: int) -> list[Flag]:
    """Return one flag for each start that is over, unless it is too close to the one before."""
    found: list[Flag] = []
    for coming_up, group in groupby(rows, lambda row: row.look in COMING_UP):
        of = list(group)
        if coming_up and of[-1] is not rows[-1] and (not found or found[-1].to - of[-1].to >= APART * span):
            way = "woke" if all(row.look == "restoring" for row in of) else "started"
            to, took = of[-1].to, sum(row.took for row in of)
            found.append(Flag(to, way, took, edge=to < APART / 2 * span))
    return found


def totals(rows: Sequence[Drawn]) -> dict[Look, tuple[float, int]]:
    """Return seconds and how often for each state, in the order of the legend."""
    return {
        look: (sum(took), len(took))
        for look in WORDS
        if (took := [row.took for row in rows if row.look == look])
    }  # fmt: skip


def in_words(rows: Sequence[Drawn], span: int) -> str:
    """Return the bands as a sentence, for a screen reader."""
    if not rows:
        return ""
    spent = ", ".join(
        f"{WORDS[look]} {format_duration(took)}{f' ({count} times)' if count > 1 else ''}"
        for look, (took, count) in totals(rows).items()
    )
    return f"{spanned(span)}: {spent}. Now {WORDS[rows[-1].look]}."


def table(bands: Sequence[Band], now: float) -> Markup:
    """Render the latest states as a table, the newest first."""
    rows = [
        {"since": f"{datetime.fromtimestamp(one.at, UTC):%H:%M:%S}", "state": WORDS[one.look], "took": end - one.began}
        for one, end in with_ends(bands, now)[-LISTED:]
    ]
    return render_template("coldstart/states.html", rows=rows[::-1])
