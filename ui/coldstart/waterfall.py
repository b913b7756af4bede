"""A start phase by phase, each bar beginning where the one before ended, in HTML. Pure functions.

Places are CSS variables in milliseconds, so that the phase that runs is moved on by the browser alone
(`static/timeline.js`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ui.components import status_pill
from ui.components.templates import render_template
from ui.components.wording import format_age
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

    @property
    def title(self) -> str:
        return status_pill.name_phase(self.name)


@dataclass(frozen=True)
class Axis:
    """Bars on a linear axis from 0 to `scale` ms, with a line where such starts usually end.

    `phase`: what the running one usually takes; where it takes longer, the browser moves on what is to come.
    """

    bars: Sequence[Bar]
    scale: float
    usual: float | None = None
    phase: float = 0.0

    @property
    def ticks(self) -> list[tuple[float, str]]:
        return [(at, tick(at, self.scale)) for at in marks(self.scale)]


def waterfall(news: News) -> Markup:
    """Render the current start, else the last one."""
    if isinstance(news, Unknown):
        return wordless("Start, phase by phase", "Its engine does not report starts to this page.")
    if news.start is not None:
        return going(news, news.start)
    if news.last_start is None:
        return wordless("No start yet", f"{status_pill.describe_next_start(news).capitalize()}.")
    return ended(news.last_start, news.now)


def wordless(title: str, words: str) -> Markup:
    return render_template("coldstart/waterfall.html", title=title, words=words, axis=None)


def going(facts: Facts, start: Going) -> Markup:
    bars, ends = after_each_other(start.phases)
    kind = facts.next.kind if facts.state == "zero" else start.kind
    before = usual_phases(facts.history, kind)
    if start.phase and start.phase not in start.phases:
        so_far = max(0.0, start.elapsed_ms - ends)
        bars.append(Bar(start.phase, ends, so_far, "running"))
        ends += max(so_far, before.get(start.phase, 0.0))
    coming, ends = after_each_other(still_to_come(start, before), ends, "usual")
    usual = status_pill.get_expected_ms(facts)
    axis = Axis([*bars, *coming], max(usual or 0.0, ends, 1.0), usual, before.get(start.phase or "", 0.0))
    return render_template(
        "coldstart/waterfall.html", title="Start in progress", words=status_pill.name_kind(kind), axis=axis,
        going=start, reason=start.reason, )  # fmt: skip


def ended(row: Row, now: float) -> Markup:
    bars, ends = after_each_other(row.phases)
    if row.ready_ms - ends >= LEAST_MS:
        bars.append(Bar("between phases", ends, row.ready_ms - ends, "rest"))
    if row.first_answer_ms is not None and row.first_answer_ms > row.ready_ms:
        bars.append(Bar("first answer", row.ready_ms, row.first_answer_ms - row.ready_ms, "answer"))
    axis = Axis(bars, max(ends, row.ready_ms, row.first_answer_ms or 0.0, 1.0))
    return render_template(
        "coldstart/waterfall.html", title="Last start",
        words=f"{status_pill.name_kind(row.kind)}, {format_age(now - row.at)}", axis=axis, going=None, last=row,
        reason=row.reason,
    )  # fmt: skip


def usual_phases(history: Sequence[Row], kind: str) -> Mapping[str, float]:
    """Return the phases of the latest start of that kind, which is what this one will look like."""
    return next((row.phases for row in history if row.kind == kind and row.outcome != "failed"), {})


def still_to_come(start: Going, usual: Mapping[str, float]) -> dict[str, float]:
    """Return what of `usual` comes after the phases that this start has had."""
    had = [name for name in usual if name in start.phases or name == start.phase]
    names = list(usual)
    behind = names[names.index(had[-1]) + 1 :] if had else names
    return {name: usual[name] for name in behind}


def after_each_other(
    phases: Mapping[str, float], ends: float = 0.0, look: str = ""
) -> tuple[list[Bar], float]:  # fmt: skip
    """Return bars that each begin where the one before ended, and where the last one ends. What took no time has no
    bar."""
    bars = []
    for name, took in phases.items():
        if (found := max(0.0, took)) >= LEAST_MS:
            bars.append(Bar(name, ends, found, look))
        ends += max(0.0, took)
    return bars, ends


def marks(scale: float) -> list[float]:
    """Return round numbers from 0, few enough to be read."""
    step = 1.0
    while not any(scale / (step * factor) < TICKS for factor in STEPS):
        step *= 10
    step *= next(factor for factor in STEPS if scale / (step * factor) < TICKS)
    return [number * step for number in range(int(scale / step) + 1)]


def tick(at: float, scale: float) -> str:
    if not at:
        return "0"
    return f"{at / 1000:g} s" if scale >= 1000 else f"{at:g} ms"
