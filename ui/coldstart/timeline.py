"""The engine's last minutes as a strip of its states, in HTML; what an event for a browser has of them.

Pure functions; every text that is not ours is escaped. Places are CSS variables in seconds, so that
what goes on (the last band, a countdown) is moved on by the browser alone (`timeline.js`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from itertools import groupby
from typing import Any

from ui.coldstart.waterfall import waterfall
from ui.components import status_pill
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


def frame(news: News = CONNECTING) -> str:
    """The whole widget, empty; later its parts are replaced."""
    found = parts(news, [], 0.0)
    return (
        '<div class="timeline" data-part="root"><h2 class="unseen">Cold starts</h2>'
        f'<section class="strip" aria-label="State of the server" data-part="strip">{found["strip"]}</section>'
        f'<section class="waterfall" aria-label="Start, phase by phase" data-part="fall">{found["fall"]}</section>'
        '<details class="told"><summary>The same as a table</summary>'
        f'<div data-part="table">{found["table"]}</div></details></div>'
    )


def parts(news: News, bands: Sequence[Band], now: float, title: str = "") -> dict[str, str]:
    """`now` in the monotonic seconds of the bands; `title` names the server where there are several."""
    return {"strip": strip(news, bands, now, title), "fall": waterfall(news), "table": table(bands, now)}


def message(news: News, bands: Sequence[Band], now: float, title: str = "", run: str = "") -> dict[str, Any]:
    """What an event for a browser has of this. `run` is the bench run that goes on."""
    return {"timeline": parts(news, bands, now, title), "run": run}


# The strip


def strip(news: News, bands: Sequence[Band], now: float, title: str) -> str:
    span = span_of(bands, now)
    of = f" <small>{escape(title)}</small>" if title else ""
    head = f"<h3>{spanned(span)}{of}</h3><p>{said(news)}</p>"
    rows = drawn(bands, now)
    if not rows:
        return head
    painted = "".join(band(row, last=row is rows[-1]) for row in rows)
    return (
        f'{head}<div style="--span:{span}"><div class="flags" aria-hidden="true">{flags(rows, span)}</div>'
        f'<div class="bands" role="img" aria-label="{escape(in_words(rows, span), quote=True)}">{painted}</div>'
        f'<div class="axis" aria-hidden="true">{ago(span)}</div></div>{legend(rows)}'
    )


def span_of(bands: Sequence[Band], now: float) -> int:
    known = now - bands[0].began if bands else SPANS_S[-1]
    return next((span for span in SPANS_S if known <= span), SPANS_S[-1])


def spanned(span: int) -> str:
    return f"Last {span // 60} minutes" if span > 60 else "Last minute"


def ago(span: int) -> str:
    """The axis: five steps back, or four."""
    step = span // (4 if span < SPANS_S[-1] else 5)
    unit, size = ("min", 60) if step >= 60 else ("s", 1)
    marks = [f'<span style="--to:{to}">−{to // size}{f" {unit}" if to == span else ""}</span>'
             for to in range(span, 0, -step)]  # fmt: skip
    return "".join([*marks, '<span style="--to:0">now</span>'])


def said(news: News) -> str:
    """As the pill says it. Markup."""
    if isinstance(news, Unknown):
        return f"<b>{escape(news.title)}</b> · {escape(news.why)}"
    rest = status_pill.doing(news)
    return f"<b>{status_pill.TITLES[news.look]}</b>" + (f" · {rest}" if rest else "")


def drawn(bands: Sequence[Band], now: float) -> list[Drawn]:
    """The bands that reach into the last minutes, the oldest first."""
    oldest = now - span_of(bands, now)
    return [
        Drawn(one.look, now - end, end - max(one.began, oldest)) for one, end in with_ends(bands, now) if end > oldest
    ][-MOST:]


def with_ends(bands: Sequence[Band], now: float) -> list[tuple[Band, float]]:
    """Each ends where the next one begins, the last one now."""
    ends = [*(later.began for later in bands[1:]), now]
    return list(zip(bands, ends, strict=False))  # without a band there is one end too many


def band(row: Drawn, *, last: bool) -> str:
    now = " data-now" if last else ""
    return (
        f'<i data-look="{row.look}"{now} style="--to:{row.to:.2f};--took:{row.took:.2f}"><b>{WORDS[row.look]}</b></i>'
    )


def flags(rows: Sequence[Drawn], span: int) -> str:
    """What each start took, above it: most are too short to be more than a line on the strip."""
    found: list[tuple[float, str]] = []
    for coming_up, group in groupby(rows, lambda row: row.look in COMING_UP):
        of = list(group)
        if coming_up and of[-1] is not rows[-1] and (not found or found[-1][0] - of[-1].to >= APART * span):
            took = sum(row.took for row in of)
            way = "woke" if all(row.look == "restoring" for row in of) else "started"
            found.append((of[-1].to, f"<span>{way}</span> {took:.1f} s"))
    return "".join(
        f'<span{" data-edge" if to < APART / 2 * span else ""} style="--to:{to:.2f}">{text}</span>'
        for to, text in found
    )


def totals(rows: Sequence[Drawn]) -> dict[Look, tuple[float, int]]:
    """Seconds and how often, in the order of the legend."""
    return {
        look: (sum(took), len(took))
        for look in WORDS
        if (took := [row.took for row in rows if row.look == look])
    }  # fmt: skip


def legend(rows: Sequence[Drawn]) -> str:
    listed = "".join(
        f'<li><i data-look="{look}"></i>{WORDS[look]} <small>{lasted(took)}{f", {count}×" if count > 1 else ""}'
        "</small></li>"
        for look, (took, count) in totals(rows).items()
    )
    return f'<ul class="legend">{listed}</ul>'


def in_words(rows: Sequence[Drawn], span: int) -> str:
    spent = ", ".join(
        f"{WORDS[look]} {lasted(took)}{f' in {count} times' if count > 1 else ''}"
        for look, (took, count) in totals(rows).items()
    )
    return f"{spanned(span)}: {spent}. Now {WORDS[rows[-1].look]}."


def table(bands: Sequence[Band], now: float) -> str:
    """The latest states, the newest first."""
    latest = bands[-1] if bands else None
    rows = [
        f"<tr><td>{datetime.fromtimestamp(one.at, UTC):%H:%M:%S}</td><td>{WORDS[one.look]}</td>"
        f"<td>{lasted(end - one.began)}{' so far' if one is latest else ''}</td></tr>"
        for one, end in with_ends(bands, now)[-LISTED:]
    ]
    if not rows:
        return "<p>Nothing was heard of it yet.</p>"
    heads = "".join(f'<th scope="col">{name}</th>' for name in ("Since (UTC)", "State", "Lasted"))
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(reversed(rows))}</tbody></table>"


def lasted(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
