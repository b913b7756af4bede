"""Render the engine's state: the pill in the masthead and the panel behind it. Pure functions.

A countdown or a running start is marked with `data-left` or `data-elapsed`, and counted on by the browser
(`static/status.js`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ui.components.templates import render_template
from ui.components.wording import format_age, format_seconds
from ui.servers.state import CONNECTING, EngineState, ServerState, UnknownState

TITLES = {
    "zero": "Asleep",
    "starting": "Starting",
    "snapshotting": "Saving a snapshot",
    "restoring": "Waking up",
    "serving": "Awake",
    "scaling_down": "Falling asleep",
    "failed": "Could not start",
}
SAID = {
    "zero": "The embedder is asleep",
    "starting": "The embedder is starting",
    "snapshotting": "The embedder is being saved in a snapshot",
    "restoring": "The embedder is waking up from its snapshot",
    "serving": "The embedder is awake",
    "scaling_down": "The embedder is falling asleep",
    "failed": "The embedder could not start",
}
"""For a screen reader, which reads out a change of state and nothing else."""
NOTHING = "nothing held in memory"
HELD = {"host": "process in memory", "context": "GPU context in memory"}
"""What these tiers keep while the embedder sleeps; the others keep nothing."""
KINDS = {"created": "started and saved", "restored": "restored", "plain": "started in full"}
PHASES = {
    "queue": "wait",
    "platform": "wait for Modal",
    "container": "start a container",
    "start": "start",
    "find": "find snapshot",
    "process": "start a process",
    "import": "import",
    "load": "load models",
    "warm_up": "warm up",
    "settle": "free memory",
    "snapshot": "save snapshot",
    "keep": "store snapshot",
    "restore": "restore",
    "wake": "wake up",
    "weights": "copy weights",
    "bind": "open socket",
    "probe": "check answers",
    "answer": "answer",
}
"""In the order in which they come; a start has some of them."""


@dataclass(frozen=True)
class PhaseBar:
    """A phase of a start, in percent of all of it."""

    name: str
    left: float
    width: float
    figure: str


def render_pill(news: ServerState = CONNECTING) -> Markup:
    """Render the whole widget; later events replace only its parts."""
    return render_template("status/pill.html", state=name_state(news), parts=render_parts(news))


def make_message(news: ServerState) -> dict[str, Any]:
    """Return the state as an event for a browser."""
    return {"state": name_state(news), "said": describe_aloud(news), "parts": render_parts(news)}


def render_parts(news: ServerState) -> dict[str, Markup]:
    """Render icon, words and panel."""
    icon = render_template("status/icon.html", state=name_state(news))
    if isinstance(news, UnknownState):
        words = render_template("status/words.html", title=news.title, doing="", note=news.why, going=None)
        return {"icon": icon, "words": words, "panel": render_template("status/unknown.html", why=news.why)}
    words = render_template(
        "status/words.html", title=TITLES[news.shown_state], doing=render_doing(news), note=describe_backend(news),
        going=news.start, usual=get_expected_ms(news),
    )  # fmt: skip
    return {"icon": icon, "words": words, "panel": render_panel(news)}


def name_state(news: ServerState) -> str:
    return "unknown" if isinstance(news, UnknownState) else news.shown_state


def describe_aloud(news: ServerState) -> str:
    """Return the state as a screen reader reads it out."""
    if isinstance(news, UnknownState):
        return f"{news.title}: {news.why}"
    return f"{SAID[news.shown_state]}: {news.reason}" if news.shown_state == "failed" else SAID[news.shown_state]


# The pill


def render_doing(facts: EngineState) -> Markup:
    """Render what is going on, or what comes next."""
    words, left = "", None
    if facts.shown_state == "zero":
        words = describe_next_start(facts)
    elif facts.shown_state == "serving":
        words = "working" if facts.in_flight else "stays awake" if facts.min_containers else ""
        left = facts.seconds_left
    return render_template("status/doing.html", start=facts.start, usual=get_expected_ms(facts), left=left, words=words)


def describe_next_start(facts: EngineState) -> str:
    verb = "wakes" if facts.next.kind == "restored" else "starts"
    usual = facts.next.expected_ms
    return f"{verb} with the next search" if usual is None else f"{verb} in about {format_seconds(usual)}"


def get_expected_ms(facts: EngineState) -> float | None:
    """Return the milliseconds that the current start, or the next one, should take.

    In the first moment of a start its kind is not known yet: the engine is still at zero.
    """
    return facts.next.expected_ms if facts.start is None or facts.state == "zero" else facts.start.expected_ms


def describe_backend(facts: EngineState) -> str:
    """Return the backend, and what it is doing now."""
    if facts.shown_state == "failed":
        return facts.reason
    backend = f"{facts.backend} is switched off" if facts.disabled else facts.backend
    if facts.start is not None:
        steps = [backend, "from its snapshot" * (facts.shown_state == "restoring"), name_phase(facts.start.phase or "")]
        return " · ".join(step for step in steps if step)
    if facts.shown_state == "serving" and facts.last_start is not None:
        return f"{backend} · {name_kind(facts.last_start.kind)} in {format_seconds(facts.last_start.ready_ms)}"
    return f"{backend} · {describe_memory(facts)}" if facts.shown_state == "zero" else backend


def describe_memory(facts: EngineState) -> str:
    """Return what is kept in memory while the embedder sleeps: nothing before a first start or without a backend."""
    if facts.snapshot is None or facts.disabled:
        return NOTHING
    what = HELD.get(facts.tier, NOTHING)
    if facts.held is None or not facts.held.host_bytes:
        return what
    saved = f", {facts.held.gpu_saved / 1e9:.1f} GB of it from the GPU" if facts.held.gpu_saved else ""
    return f"{what} ({facts.held.host_bytes / 1e9:.1f} GB{saved})"


def name_kind(kind: str) -> str:
    return KINDS.get(kind, kind)


def name_phase(phase: str) -> str:
    return PHASES.get(phase, phase)


# The panel


def render_panel(facts: EngineState) -> Markup:
    """Render the current start, else the last one, phase by phase; the snapshot, and earlier starts."""
    start, last = facts.start, None
    if start is not None:
        phase = start.phase or ""
        bars = make_phase_bars({**start.phases, **({phase: 0.0} if phase and phase not in start.phases else {})}, phase)
    elif facts.last_start is not None:
        last, bars = facts.last_start, make_phase_bars(facts.last_start.phases)
    else:
        bars = []
    earlier = [row for row in facts.history if row != facts.last_start or start is not None]
    return render_template(
        "status/panel.html", facts=facts, held=describe_memory(facts), start=start, last=last, bars=bars,
        snapshot=describe_snapshot(facts), earlier=earlier, kinds=KINDS,
    )  # fmt: skip


def make_phase_bars(phases: Mapping[str, float], running: str = "") -> list[PhaseBar]:
    """Return one bar for each phase, each beginning where the one before ended."""
    total = sum(max(0.0, value) for value in phases.values()) or 1.0
    found, began = [], 0.0
    for name, value in phases.items():
        took = max(0.0, value)
        if took >= 0.5 or name == running:
            figure = "…" if name == running else f"{took:,.0f} ms"
            found.append(PhaseBar(name_phase(name), 100 * began / total, max(0.6, 100 * took / total), figure))
        began += took
    return found


def describe_snapshot(facts: EngineState) -> str:
    if facts.backend == "plain":
        return "None: every start is a full one."
    if facts.backend == "modal":
        return "Modal stores it. The first starts after a deployment create it, later ones are restored from it."
    if facts.disabled:
        return f"{facts.backend} is switched off until the engine starts again: {facts.disabled}"
    if facts.snapshot is None:
        return "None yet: the first start makes one."
    size = f"{facts.snapshot.bytes / 1e6:,.0f} MB on disk" if facts.snapshot.bytes else "a process held in memory"
    return f"{facts.backend}: {size}, made {format_age(facts.snapshot.age_s)}"
