"""A start phase by phase, each bar beginning where the one before ended, in HTML.

Pure functions; every text that is not ours is escaped. Places are CSS variables in milliseconds, so that the phase that
runs is moved on by the browser alone (`timeline.js`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from ui.components import status_pill
from ui.servers.state import Facts, Going, News, Row, Unknown

LEAST_MS = 0.5
"""Of a row: what takes less would be told as 0 ms."""
STEPS = (1, 2, 5)
TICKS = 6


@dataclass(frozen=True)
class Bar:
    """One row of a waterfall, in milliseconds. `look` is "", running, usual (not come yet), rest or answer."""

    name: str
    at: float
    took: float
    look: str = ""


def waterfall(news: News) -> str:
    """The start that goes on, else the last one."""
    if isinstance(news, Unknown):
        return "<h3>Start, phase by phase</h3><p>Its engine does not tell this page.</p>"
    if news.start is not None:
        return going(news, news.start)
    if news.last_start is None:
        return f"<h3>No start yet</h3><p>{escape(status_pill.awaited(news).capitalize())}.</p>"
    return ended(news.last_start, news.now)


def going(facts: Facts, start: Going) -> str:
    bars, ends = after_each_other(start.phases)
    kind = facts.next.kind if facts.state == "zero" else start.kind
    before = usual_phases(facts.history, kind)
    if start.phase and start.phase not in start.phases:
        so_far = max(0.0, start.elapsed_ms - ends)
        bars.append(Bar(start.phase, ends, so_far, "running"))
        ends += max(so_far, before.get(start.phase, 0.0))
    coming, ends = after_each_other(still_to_come(start, before), ends, "usual")
    usual = status_pill.expected(facts)
    return (
        f"<h3>Start in progress <small>{escape(status_pill.KINDS.get(kind, kind))}</small></h3>"
        f"{falls([*bars, *coming], max(usual or 0.0, ends, 1.0), usual, before.get(start.phase or '', 0.0))}"
        f'<p class="total">{status_pill.elapsed(start.elapsed_ms, usual)}</p>{status_pill.why(start.reason)}'
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
    kind = escape(status_pill.KINDS.get(row.kind, row.kind))
    return (
        f"<h3>Last start <small>{kind}, {status_pill.ago(now - row.at)}</small></h3>{falls(bars, scale)}"
        f'<p class="total" data-total="{row.ready_ms:.1f}">{total}.</p>{status_pill.why(row.reason)}'
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


def falls(bars: Sequence[Bar], scale: float, usual: float | None = None, phase: float = 0.0) -> str:
    """The rows on a linear axis from 0 to `scale` ms, with a line where such starts usually end.

    `phase`: what the running one usually takes; where it takes longer, the browser moves on what is to come.
    """
    rows = "".join(fall(bar) for bar in bars)
    line = f'<u style="--at:{usual:.1f}" title="usual"></u>' if usual else ""
    ticks = "".join(f'<span style="--at:{at:g}">{tick(at, scale)}</span>' for at in marks(scale))
    return (
        f'<div class="falls" data-scale="{scale:.1f}" data-usual="{phase:.1f}" style="--scale:{scale:.1f}">'
        f'<ol>{rows}</ol><div class="scale" aria-hidden="true">{line}{ticks}</div></div>'
    )


def fall(bar: Bar) -> str:
    running = f' data-running="{bar.took:.1f}"' if bar.look == "running" else ""
    took = "…" if bar.look == "running" else f"{bar.took:,.0f} ms"
    looks = f' class="{bar.look}"' if bar.look else ""
    name = escape(status_pill.PHASES.get(bar.name, bar.name))
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
    return f"{value:,.0f}\N{NO-BREAK SPACE}ms"
