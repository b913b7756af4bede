"""The engine's last minutes as a strip, and its start phase by phase as a waterfall, in HTML.

Pure functions; every text that is not ours is escaped. Places are CSS variables in seconds or milliseconds, so that
what goes on (the last band, the running phase, a countdown) is moved on by the browser alone (`timeline.js`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from itertools import groupby
from typing import Any

from ui import status
from ui.facts import CONNECTING, Facts, Going, News, Row, Unknown
from ui.past import Band, Look

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
LEAST_MS = 0.5
"""Of a row: what takes less would be told as 0 ms."""
STEPS = (1, 2, 5)
TICKS = 6


@dataclass(frozen=True)
class Drawn:
    """One band as far as the strip shows it. Seconds; `to` counts back from now."""

    look: Look
    to: float
    took: float


@dataclass(frozen=True)
class Bar:
    """One row of a waterfall, in milliseconds. `look` is "", running, usual (not come yet), rest or answer."""

    name: str
    at: float
    took: float
    look: str = ""


def frame(news: News = CONNECTING) -> str:
    """The whole widget, empty; later its parts are replaced."""
    found = parts(news, [], 0.0)
    return (
        '<div class="timeline" data-part="root">'
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
    rest = status.doing(news)
    return f"<b>{status.TITLES[news.look]}</b>" + (f" · {rest}" if rest else "")


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


# The waterfall


def waterfall(news: News) -> str:
    """The start that goes on, else the last one."""
    if isinstance(news, Unknown):
        return "<h3>Start, phase by phase</h3><p>Its engine does not tell this page.</p>"
    if news.start is not None:
        return going(news, news.start)
    if news.last_start is None:
        return f"<h3>No start yet</h3><p>{escape(status.awaited(news).capitalize())}.</p>"
    return ended(news.last_start, news.now)


def going(facts: Facts, start: Going) -> str:
    bars, ends = after_each_other(start.phases)
    if start.phase and start.phase not in start.phases:
        bars.append(Bar(start.phase, ends, max(0.0, start.elapsed_ms - ends), "running"))
        ends = max(ends, start.elapsed_ms)
    usual = status.expected(facts)
    kind = facts.next.kind if facts.state == "zero" else start.kind
    coming, _ = after_each_other(still_to_come(start, usual_phases(facts.history, kind)), ends, "usual")
    scale = max(usual or 0.0, ends, *(bar.at + bar.took for bar in coming), 1.0)
    return (
        f"<h3>Start in progress <small>{escape(status.KINDS.get(kind, kind))}</small></h3>"
        f"{falls([*bars, *coming], scale, usual)}"
        f'<p class="total">{status.elapsed(start.elapsed_ms, usual)}</p>{status.why(start.reason)}'
    )


def ended(row: Row, now: float) -> str:
    bars, ends = after_each_other(row.phases)
    if row.ready_ms - ends >= LEAST_MS:
        bars.append(Bar("between phases", ends, row.ready_ms - ends, "rest"))
    if row.first_answer_ms is not None and row.first_answer_ms > row.ready_ms:
        bars.append(Bar("first answer", row.ready_ms, row.first_answer_ms - row.ready_ms, "answer"))
    scale = max(ends, row.ready_ms, row.first_answer_ms or 0.0, 1.0)
    answer = "" if row.first_answer_ms is None else f", first answer after {milliseconds(row.first_answer_ms)}"
    total = "Failed" if row.outcome == "failed" else f"Ready after <b>{milliseconds(row.ready_ms)}</b>{answer}"
    kind = escape(status.KINDS.get(row.kind, row.kind))
    return (
        f"<h3>Last start <small>{kind}, {status.ago(now - row.at)}</small></h3>{falls(bars, scale)}"
        f'<p class="total" data-total="{row.ready_ms:.1f}">{total}.</p>{status.why(row.reason)}'
    )


def usual_phases(history: Sequence[Row], kind: str) -> Mapping[str, float]:
    """Of the latest start of that kind, which is what this one will look like."""
    return next((row.phases for row in history if row.kind == kind and row.outcome != "failed"), {})


def still_to_come(start: Going, usual: Mapping[str, float]) -> dict[str, float]:
    """What of `usual` lies behind the phases that this start has had."""
    had = [name for name in usual if name in start.phases or name == start.phase]
    names = list(usual)
    behind = names[names.index(had[-1]) + 1 :] if had else names
    return {name: usual[name] for name in behind}


def after_each_other(
    phases: Mapping[str, float], ends: float = 0.0, look: str = ""
) -> tuple[list[Bar], float]:  # fmt: skip
    """Each beginning where the one before ended, and where the last one ends. What took no time has no row."""
    bars = []
    for name, took in phases.items():
        if (found := max(0.0, took)) >= LEAST_MS:
            bars.append(Bar(name, ends, found, look))
        ends += max(0.0, took)
    return bars, ends


def falls(bars: Sequence[Bar], scale: float, usual: float | None = None) -> str:
    """The rows on a linear axis from 0 to `scale` ms, with a line where such starts usually end."""
    rows = "".join(fall(bar) for bar in bars)
    line = f'<u style="--at:{usual:.1f}" title="usual"></u>' if usual else ""
    ticks = "".join(f'<span style="--at:{at:g}">{tick(at, scale)}</span>' for at in marks(scale))
    return (
        f'<div class="falls" data-scale="{scale:.1f}" style="--scale:{scale:.1f}"><ol>{rows}</ol>'
        f'<div class="scale" aria-hidden="true">{line}{ticks}</div></div>'
    )


def fall(bar: Bar) -> str:
    running = f' data-running="{bar.took:.1f}"' if bar.look == "running" else ""
    took = "…" if bar.look == "running" else f"{bar.took:,.0f} ms"
    looks = f' class="{bar.look}"' if bar.look else ""
    name = escape(status.PHASES.get(bar.name, bar.name))
    return (
        f'<li{looks}><span>{name}</span><span class="track"><i data-ms="{bar.took:.1f}" data-at="{bar.at:.1f}"{running}'
        f' style="--at:{bar.at:.1f};--took:{bar.took:.1f}"></i></span>'
        f"<span>{'<em>usually</em> ' if bar.look == 'usual' else ''}{took}</span></li>"
    )


def marks(scale: float) -> list[float]:
    """Round numbers from 0, few enough to be read."""
    step = 1.0
    while not any(scale / (step * factor) < TICKS for factor in STEPS):
        step *= 10
    step *= next(factor for factor in STEPS if scale / (step * factor) < TICKS)
    return [number * step for number in range(int(scale / step) + 1)]


def tick(at: float, scale: float) -> str:
    if not at:
        return "0"
    return f"{at / 1000:g} s" if scale >= 1000 else f"{at:g} ms"


def milliseconds(value: float) -> str:
    return f"{value:,.0f} ms"
