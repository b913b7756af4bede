"""Render a start phase by phase, each bar beginning where the one before ended. Pure functions.

Places are CSS variables in milliseconds, so that the browser alone moves on the phase that runs (`static/timeline.js`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ui.components import status_pill
from ui.components.templates import render_template
from ui.components.wording import format_age
from ui.servers.state import EngineState, ServerState, StartInProgress, StartRecord, UnknownState

SHORTEST_MS = 0.5
"""The shortest phase that has a bar; a shorter one would be labelled 0 ms."""
STEPS = (1, 2, 5)
TICKS = 5


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

    `phase`: the usual length of the running one; where it takes longer, the browser moves on the bars after it.
    """

    bars: Sequence[Bar]
    scale: float
    usual: float | None = None
    phase: float = 0.0

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Round numbers from 0, few enough to be read, and their labels."""
        step = 1.0
        while not any(self.scale / (step * factor) < TICKS for factor in STEPS):
            step *= 10
        step *= next(factor for factor in STEPS if self.scale / (step * factor) < TICKS)
        places = [number * step for number in range(int(self.scale / step) + 1)]
        unit, size = ("s", 1000) if self.scale >= 1000 else ("ms", 1)
        return [(at, f"{at / size:g} {unit}" if at else "0") for at in places]


def render_waterfall(state: ServerState) -> Markup:
    """Render the current start, else the last one."""
    if isinstance(state, UnknownState):
        title, words = "Start, phase by phase", "Its engine does not report starts to this page."
    elif state.start is not None:
        return render_start(state, state.start)
    elif state.last_start is not None:
        return render_last_start(state.last_start, state.now)
    else:
        title, words = "No start yet", f"{status_pill.describe_next_start(state).capitalize()}."
    return render_template("coldstart/waterfall.html", title=title, words=words, axis=None)


def render_start(state: EngineState, start: StartInProgress) -> Markup:
    bars, ends = chain_bars(start.phases)
    kind = state.next.kind if state.state == "zero" else start.kind
    earlier = find_usual_phases(state.history, kind)
    if start.phase and start.phase not in start.phases:
        so_far = max(0.0, start.elapsed_ms - ends)
        bars.append(Bar(start.phase, ends, so_far, "running"))
        ends += max(so_far, earlier.get(start.phase, 0.0))
    names = list(earlier)
    had = [name for name in names if name in start.phases or name == start.phase]
    to_come = names[names.index(had[-1]) + 1 :] if had else names
    coming, ends = chain_bars({name: earlier[name] for name in to_come}, ends, "usual")
    usual = status_pill.get_expected_ms(state)
    axis = Axis([*bars, *coming], max(usual or 0.0, ends, 1.0), usual, earlier.get(start.phase or "", 0.0))
    words = status_pill.name_kind(kind)
    return render_template("coldstart/waterfall.html", title="Start in progress", words=words, axis=axis, start=start)


def render_last_start(last: StartRecord, now: float) -> Markup:
    bars, ends = chain_bars(last.phases)
    if last.ready_ms - ends >= SHORTEST_MS:
        bars.append(Bar("between phases", ends, last.ready_ms - ends, "rest"))
    if last.first_answer_ms is not None and last.first_answer_ms > last.ready_ms:
        bars.append(Bar("first answer", last.ready_ms, last.first_answer_ms - last.ready_ms, "answer"))
    axis = Axis(bars, max(ends, last.ready_ms, last.first_answer_ms or 0.0, 1.0))
    words = f"{status_pill.name_kind(last.kind)}, {format_age(now - last.at)}"
    return render_template(
        "coldstart/waterfall.html", title="Last start", words=words, axis=axis, start=None, last=last
    )


def find_usual_phases(history: Sequence[StartRecord], kind: str) -> Mapping[str, float]:
    """Return the phases of the latest start of that kind, which this one will probably repeat."""
    return next((start.phases for start in history if start.kind == kind and start.outcome != "failed"), {})


def chain_bars(phases: Mapping[str, float], ends: float = 0.0, look: str = "") -> tuple[list[Bar], float]:
    """Return bars, each beginning where the one before ended, and the end of the last. No time, no bar."""
    bars = []
    for name, value in phases.items():
        if (took := max(0.0, value)) >= SHORTEST_MS:
            bars.append(Bar(name, ends, took, look))
        ends += took
    return bars, ends
