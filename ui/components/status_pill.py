"""Render the engine's state: the pill in the header and the panel behind it. Pure functions.

A countdown or a running start is marked with `data-left` or `data-elapsed`, and counted on by the browser
(`static/status.js`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ui.components.templates import render_template
from ui.components.wording import format_age, format_seconds
from ui.servers.state import CONNECTING, EngineState, ServerState, UnknownState, WorkerState

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
"""What these tiers keep while the embedder sleeps; `none` and `disk` keep nothing."""
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


def render_pill(state: ServerState = CONNECTING) -> Markup:
    """Render the whole widget; later events replace only its parts."""
    return render_template("status/pill.html", state=name_state(state), parts=render_parts(state))


def make_message(state: ServerState) -> dict[str, Any]:
    """Return the state as an event for a browser."""
    return {"state": name_state(state), "said": describe_aloud(state), "parts": render_parts(state)}


def render_parts(state: ServerState) -> dict[str, Markup]:
    icon = render_template("status/icon.html", state=name_state(state))
    if isinstance(state, UnknownState):
        words = render_template("status/words.html", title=state.title, doing="", note=state.why, going=None)
        return {"icon": icon, "words": words, "panel": render_template("status/unknown.html", why=state.why)}
    told = {"title": TITLES[state.shown_state], "doing": render_doing(state), "note": describe_backend(state)}
    words = render_template("status/words.html", going=state.start, usual=get_expected_ms(state), **told)
    return {"icon": icon, "words": words, "panel": render_panel(state)}


def name_state(state: ServerState) -> str:
    return "unknown" if isinstance(state, UnknownState) else state.shown_state


def describe_aloud(state: ServerState) -> str:
    """Return the state as a screen reader reads it out."""
    if isinstance(state, UnknownState):
        return f"{state.title}: {state.why}"
    return f"{SAID[state.shown_state]}: {state.reason}" if state.shown_state == "failed" else SAID[state.shown_state]


# The pill


def render_doing(engine: EngineState) -> Markup:
    """Render what is going on, or what comes next."""
    words, left = "", None
    if engine.shown_state == "zero":
        words = describe_next_start(engine)
    elif engine.shown_state == "serving":
        words = "working" if engine.in_flight else "stays awake" if engine.min_containers else ""
        left = engine.seconds_left
    return render_template(
        "status/doing.html", start=engine.start, usual=get_expected_ms(engine), left=left, words=words
    )


def describe_next_start(engine: EngineState) -> str:
    verb = "wakes" if engine.next.kind == "restored" else "starts"
    usual = engine.next.expected_ms
    return f"{verb} with the next search" if usual is None else f"{verb} in about {format_seconds(usual)}"


def get_expected_ms(engine: EngineState) -> float | None:
    """Return what the current start should take, or the next: at first a start's kind is not known."""
    return engine.next.expected_ms if engine.start is None or engine.state == "zero" else engine.start.expected_ms


def describe_backend(engine: EngineState) -> str:
    """Return the backend, and what it is doing now."""
    if engine.shown_state == "failed":
        return engine.reason
    backend = f"{engine.backend} is switched off" if engine.disabled else engine.backend
    if engine.start is not None:
        steps = [
            backend,
            "from its snapshot" * (engine.shown_state == "restoring"),
            name_phase(engine.start.phase or ""),
        ]
        return " · ".join(step for step in steps if step)
    if engine.shown_state == "serving" and len(engine.workers) > 1:
        up = sum(worker.is_up for worker in engine.workers)
        return f"{backend} · {up} of {len(engine.workers)} workers"
    if engine.shown_state == "serving" and engine.last_start is not None:
        return f"{backend} · {name_kind(engine.last_start.kind)} in {format_seconds(engine.last_start.ready_ms)}"
    return f"{backend} · {describe_memory(engine)}" if engine.shown_state == "zero" else backend


def describe_memory(engine: EngineState) -> str:
    """Return what is kept in memory while the embedder sleeps: nothing before a first start or without a backend."""
    if engine.snapshot is None or engine.disabled:
        return NOTHING
    what = NOTHING if engine.tier in ("none", "disk") else HELD.get(engine.tier, engine.tier)
    if engine.held is None or not engine.held.host_bytes:
        return what
    saved = f", {engine.held.gpu_saved / 1e9:.1f} GB of it from the GPU" if engine.held.gpu_saved else ""
    return f"{what} ({engine.held.host_bytes / 1e9:.1f} GB{saved})"


def name_kind(kind: str) -> str:
    return KINDS.get(kind, kind)


def name_phase(phase: str) -> str:
    return PHASES.get(phase, phase)


# The panel


def render_panel(engine: EngineState) -> Markup:
    """Render the current start, else the last one, phase by phase; the snapshot, and earlier starts."""
    start, last = engine.start, None
    if start is not None:
        phase = start.phase or ""
        bars = make_phase_bars({**start.phases, **({phase: 0.0} if phase and phase not in start.phases else {})}, phase)
    elif engine.last_start is not None:
        last, bars = engine.last_start, make_phase_bars(engine.last_start.phases)
    else:
        bars = []
    earlier = [row for row in engine.history if row != engine.last_start or start is not None]
    told = {"held": describe_memory(engine), "snapshot": describe_snapshot(engine), "kinds": KINDS}
    workers = [(worker.number + 1, describe_worker(worker, engine.now)) for worker in engine.workers]
    return render_template(
        "status/panel.html", engine=engine, start=start, last=last, bars=bars, earlier=earlier, workers=workers, **told
    )


def describe_worker(worker: WorkerState, now: float) -> str:
    """Return a worker's state, and what it has to do."""
    title = TITLES["starting" if worker.has_begun else worker.state]
    has = worker.in_flight + worker.waiting
    if has:
        return f"{title}: {has} request{'s' * (has > 1)}"
    if worker.is_up and worker.scaledown_at is not None:
        return f"{title}, asleep in {math.ceil(max(0.0, worker.scaledown_at - now))} s"
    return title


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


def describe_snapshot(engine: EngineState) -> str:
    if engine.backend == "plain":
        return "None: every start is a full one."
    if engine.backend == "modal":
        return "Modal stores it. The first starts after a deployment create it, later ones are restored from it."
    if engine.disabled:
        return f"{engine.backend} is switched off until the engine starts again: {engine.disabled}"
    if engine.snapshot is None:
        return "None yet: the first start makes one."
    size = f"{engine.snapshot.bytes / 1e6:,.0f} MB on disk" if engine.snapshot.bytes else "a process held in memory"
    return f"{engine.backend}: {size}, made {format_age(engine.snapshot.age_s)}"
