"""Render the engine's state: the pill in the masthead and the panel behind it. Pure functions.

What runs on by itself (a countdown, a start) is marked with `data-left` and `data-elapsed`, and counted in the browser
(`static/status.js`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ui.components.templates import render_template
from ui.components.wording import ago, seconds, sentence
from ui.servers.state import CONNECTING, EngineState, ServerState, Snapshot, UnknownState

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
"""For a screen reader, which hears of a change of state and of nothing else."""
NOTHING = "nothing held in memory"
HELD = {
    "none": NOTHING,
    "disk": NOTHING,
    "host": "process in memory",
    "context": "GPU context in memory",
}
"""What each tier keeps while the embedder sleeps."""
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


def pill(news: ServerState = CONNECTING) -> Markup:
    """Render the whole widget; later only its parts are replaced."""
    return render_template("status/pill.html", state=state(news), parts=parts(news))


def message(news: ServerState) -> dict[str, Any]:
    """Return what an event for a browser has of the state."""
    return {"state": state(news), "said": said(news), "parts": parts(news)}


def parts(news: ServerState) -> dict[str, Markup]:
    """Render icon, words and panel."""
    icon = render_template("status/icon.html", state=state(news))
    if isinstance(news, UnknownState):
        words = render_template("status/words.html", title=news.title, doing="", note=news.why, going=None)
        return {"icon": icon, "words": words, "panel": render_template("status/unknown.html", why=news.why)}
    words = render_template(
        "status/words.html", title=TITLES[news.shown_state], doing=doing(news), note=small(news), going=news.start,
        usual=expected(news),
    )  # fmt: skip
    return {"icon": icon, "words": words, "panel": panel(news)}


def state(news: ServerState) -> str:
    return "unknown" if isinstance(news, UnknownState) else news.shown_state


def said(news: ServerState) -> str:
    """Return the state as a screen reader reads it out."""
    if isinstance(news, UnknownState):
        return f"{news.title}: {news.why}"
    return f"{SAID[news.shown_state]}: {news.reason}" if news.shown_state == "failed" else SAID[news.shown_state]


# The pill


def doing(facts: EngineState) -> Markup:
    """Render what is going on, or what comes next."""
    words, left = "", None
    if facts.shown_state == "zero":
        words = awaited(facts)
    elif facts.shown_state == "serving":
        words = "working" if facts.in_flight else "stays awake" if facts.min_containers else ""
        left = facts.seconds_left
    return render_template("status/doing.html", start=facts.start, usual=expected(facts), left=left, words=words)


def awaited(facts: EngineState) -> str:
    verb = "wakes" if facts.next.kind == "restored" else "starts"
    usual = facts.next.expected_ms
    return f"{verb} with the next search" if usual is None else f"{verb} in about {seconds(usual)}"


def expected(facts: EngineState) -> float | None:
    """Return the milliseconds that the current start should take. In its first moment the engine has not yet said its
    kind."""
    return facts.next.expected_ms if facts.start is None or facts.state == "zero" else facts.start.expected_ms


def small(facts: EngineState) -> str:
    """Return the backend, and what it is doing now."""
    if facts.shown_state == "failed":
        return facts.reason
    backend = f"{facts.backend} is switched off" if facts.disabled else facts.backend
    if facts.start is not None:
        steps = [backend, "from its snapshot" * (facts.shown_state == "restoring"), phase_name(facts.start.phase or "")]
        return " · ".join(step for step in steps if step)
    if facts.shown_state == "serving" and facts.last_start is not None:
        return f"{backend} · {kind_name(facts.last_start.kind)} in {seconds(facts.last_start.ready_ms)}"
    return f"{backend} · {held(facts)}" if facts.shown_state == "zero" else backend


def held(facts: EngineState) -> str:
    """Return what is kept in memory while the embedder sleeps: nothing before a first start, or without a backend."""
    if facts.snapshot is None or facts.disabled:
        return NOTHING
    what = HELD.get(facts.tier, facts.tier)
    if facts.held is None or not facts.held.host_bytes:
        return what
    saved = f", {facts.held.gpu_saved / 1e9:.1f} GB of it from the GPU" if facts.held.gpu_saved else ""
    return f"{what} ({facts.held.host_bytes / 1e9:.1f} GB{saved})"


def kind_name(kind: str) -> str:
    return KINDS.get(kind, kind)


def phase_name(phase: str) -> str:
    return PHASES.get(phase, phase)


# The panel


def panel(facts: EngineState) -> Markup:
    """Render the current start, else the last one, phase by phase; the snapshot, and earlier starts."""
    start, last = facts.start, None
    if start is not None:
        phase = start.phase or ""
        bars = phase_bars({**start.phases, **({phase: 0.0} if phase and phase not in start.phases else {})}, phase)
    elif facts.last_start is not None:
        last, bars = facts.last_start, phase_bars(facts.last_start.phases)
    else:
        bars = []
    earlier = [row for row in facts.history if row != facts.last_start or start is not None]
    return render_template(
        "status/panel.html", lead=lead(facts), start=start, last=last, bars=bars, snapshot=snapshot_words(facts),
        refused=facts.refused, earlier=earlier, now=facts.now, kinds=KINDS,
    )  # fmt: skip


def lead(facts: EngineState) -> str:
    if facts.shown_state == "failed":
        return f"{sentence(facts.reason)} After a short pause, the next search tries again."
    return {
        "zero": f"No embedder is running ({held(facts)}). The next search starts one.",
        "starting": "The embedder is starting. Searches wait for it.",
        "snapshotting": "The embedder is ready. Its memory is being saved, so that later starts are faster.",
        "restoring": "The embedder is being restored from its snapshot. Searches wait for it.",
        "serving": "The embedder is running. After a while without searches it stops and frees its memory.",
        "scaling_down": "The embedder is stopping and frees its memory. The next search starts one.",
    }[facts.shown_state]


def phase_bars(phases: Mapping[str, float], running: str = "") -> list[PhaseBar]:
    """Return one bar for each phase, each beginning where the one before ended."""
    total = sum(max(0.0, value) for value in phases.values()) or 1.0
    found, began = [], 0.0
    for name, value in phases.items():
        took = max(0.0, value)
        if took >= 0.5 or name == running:
            figure = "…" if name == running else f"{took:,.0f} ms"
            found.append(PhaseBar(phase_name(name), 100 * began / total, max(0.6, 100 * took / total), figure))
        began += took
    return found


def snapshot_words(facts: EngineState) -> str:
    if facts.backend == "plain":
        return "None: every start is a full one."
    if facts.backend == "modal":
        return "Modal stores it. The first starts after a deployment create it, later ones are restored from it."
    if facts.disabled:
        return f"{facts.backend} is switched off until the engine starts again: {facts.disabled}"
    if facts.snapshot is None:
        return "None yet: the first start makes one."
    return f"{facts.backend}: {size(facts.snapshot)}, made {ago(facts.snapshot.age_s)}"


def size(snapshot: Snapshot) -> str:
    return (
        f"{snapshot.bytes / 1e6:,.0f} MB on disk"
        if snapshot.bytes
        else "a warmed-up process held in memory, of which workers are copies"
    )
