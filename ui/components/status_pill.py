"""The engine's state in words, as HTML: the pill in the masthead and the panel behind it.

Pure functions; every text that is not ours is escaped. What runs on by itself (a countdown, a start) is marked with
`data-left` and `data-elapsed`, and counted in the browser (`status.js`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ui.servers.state import CONNECTING, Facts, News, Row, Snapshot, Unknown

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
KINDS = {"created": "started and saved", "restored": "restored", "plain": "started plainly"}
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
    "keep": "keep snapshot",
    "restore": "restore",
    "wake": "wake up",
    "weights": "copy weights",
    "bind": "open socket",
    "probe": "check answers",
    "answer": "answer",
}
"""In the order in which they come; a start has some of them."""
ICONS = {
    "zero": '<path d="M15.5 12.6A6.8 6.8 0 0 1 7.4 4.5a6.8 6.8 0 1 0 8.1 8.1z" fill="currentColor"/>',
    "starting": '<path class="turns" d="M10 3.2a6.8 6.8 0 1 1-6.8 6.8" fill="none"/>',
    "snapshotting": '<rect x="3" y="4.5" width="14" height="11.5" rx="2.5" fill="none"/>'
    '<circle cx="10" cy="10.2" r="2.6" fill="currentColor" stroke="none"/>',
    "restoring": '<path d="M2.5 16h15" fill="none"/><path d="M5.2 13.2a4.8 4.8 0 0 1 9.6 0z" fill="currentColor"/>'
    '<path d="M10 2.8v2.6M3.6 5.6l1.8 1.8M16.4 5.6l-1.8 1.8" fill="none"/>',
    "serving": '<circle cx="10" cy="10" r="7.6" fill="currentColor"/><path class="hole" d="M6.6 10.3l2.4 2.4 4.5-5"'
    ' fill="none"/>',
    "scaling_down": '<path d="M10 3v8.4M6 8l4 4 4-4M4 16.5h12" fill="none"/>',
    "failed": '<path d="M10 2.6 18 16.6H2z" fill="currentColor"/><path class="hole" d="M10 8v4M10 14.2v.2"'
    ' fill="none"/>',
    "unknown": '<circle cx="10" cy="10" r="7" fill="none" stroke-dasharray="2.6 2.8"/>',
}
"""A shape for each state: colour alone would not do."""


def pill(news: News = CONNECTING) -> str:
    """The whole widget; later only its parts are replaced."""
    found = parts(news)
    return (
        f'<details class="engine" data-state="{state(news)}"><summary title="The embedder: what reads and ranks pages">'
        f'<span class="icon" data-part="icon">{found["icon"]}</span>'
        f'<span class="words" data-part="words">{found["words"]}</span></summary>'
        f'<div class="engine-panel" data-part="panel">{found["panel"]}</div></details>'
        f'<span class="unseen" role="status" aria-live="polite" data-part="said"></span>'
    )


def message(news: News) -> dict[str, Any]:
    """One event for a browser."""
    return {"state": state(news), "said": said(news), "parts": parts(news)}


def parts(news: News) -> dict[str, str]:
    icon = f'<svg viewBox="0 0 20 20" aria-hidden="true">{ICONS[state(news)]}</svg>'
    if isinstance(news, Unknown):
        return {"icon": icon, "words": words(news.title, "", news.why), "panel": f"<p>{sentence(news.why)}</p>"}
    meter = progress(news)
    return {"icon": icon, "words": words(TITLES[news.look], doing(news), small(news)) + meter, "panel": panel(news)}


def state(news: News) -> str:
    return "unknown" if isinstance(news, Unknown) else news.look


def said(news: News) -> str:
    if isinstance(news, Unknown):
        return f"{news.title}: {news.why}"
    return f"{SAID[news.look]}: {news.reason}" if news.look == "failed" else SAID[news.look]


# The pill


def words(title: str, rest: str, note: str) -> str:
    """`rest` is markup, the others are text."""
    return f'<span><b>{escape(title)}</b> <span class="rest">{rest}</span></span><small>{escape(note)}</small>'


def doing(facts: Facts) -> str:
    """What is going on, or what comes next. Markup."""
    if facts.start is not None:
        return elapsed(facts.start.elapsed_ms, expected(facts))
    if facts.look == "zero":
        return escape(awaited(facts))
    if facts.look != "serving":
        return ""
    left = facts.seconds_left
    if left is not None:
        return f'asleep in <span data-left="{left:.2f}">{-int(-left // 1)}</span> s'
    return "working" if facts.in_flight else "stays awake" if facts.min_containers else ""


def awaited(facts: Facts) -> str:
    verb = "wakes" if facts.next.kind == "restored" else "starts"
    usual = facts.next.expected_ms
    return f"{verb} with the next search" if usual is None else f"{verb} in about {seconds(usual)}"


def expected(facts: Facts) -> float | None:
    """Milliseconds that the start going on should take. In its first moment the engine has not yet said its kind."""
    return facts.next.expected_ms if facts.start is None or facts.state == "zero" else facts.start.expected_ms


def elapsed(milliseconds: float, usual: float | None) -> str:
    about = "" if usual is None else f" of about {seconds(usual)}"
    return f'<span data-elapsed="{milliseconds:.1f}">{seconds(milliseconds)}</span>{about}'


def progress(facts: Facts) -> str:
    """A thin bar, filled as far as such starts have taken so far; running to and fro if there was none."""
    usual = expected(facts)
    if facts.start is None:
        return ""
    if not usual:
        return '<span class="meter endless"><i></i></span>'
    width = min(100.0, 100 * facts.start.elapsed_ms / usual)
    return f'<span class="meter"><i data-meter="{usual:.1f}" style="width:{width:.1f}%"></i></span>'


def small(facts: Facts) -> str:
    """The backend, and what is to be said of it now."""
    if facts.look == "failed":
        return facts.reason
    backend = f"{facts.backend} is switched off" if facts.disabled else facts.backend
    if facts.start is not None:
        phase = facts.start.phase or ""
        steps = [backend, "from its snapshot" * (facts.look == "restoring"), PHASES.get(phase, phase)]
        return " · ".join(step for step in steps if step)
    if facts.look == "serving" and facts.last_start is not None:
        return f"{backend} · {KINDS.get(facts.last_start.kind, facts.last_start.kind)} in {took(facts.last_start)}"
    return f"{backend} · {held(facts)}" if facts.look == "zero" else backend


def held(facts: Facts) -> str:
    """What is kept in memory while the embedder sleeps: nothing before a first start, or without a backend."""
    if facts.snapshot is None or facts.disabled:
        return NOTHING
    what = HELD.get(facts.tier, facts.tier)
    if facts.held is None or not facts.held.host_bytes:
        return what
    saved = f", {facts.held.gpu_saved / 1e9:.1f} GB of it from the GPU" if facts.held.gpu_saved else ""
    return f"{what} ({facts.held.host_bytes / 1e9:.1f} GB{saved})"


# The panel


def panel(facts: Facts) -> str:
    return lead(facts) + latest(facts) + snapshots(facts) + passed_over(facts) + earlier(facts)


def lead(facts: Facts) -> str:
    if facts.look == "failed":
        return f"<p>{sentence(facts.reason)} After a short pause, the next search tries again.</p>"
    about = {
        "zero": f"No embedder runs ({held(facts)}). The next search brings one back.",
        "starting": "The embedder is coming up. Searches wait for it.",
        "snapshotting": "The embedder is warm. Its memory is being saved, so that later starts need not do all this.",
        "restoring": "The embedder comes back as it was saved. Searches wait for it.",
        "serving": "The embedder answers. After a while without a search it goes and gives its memory back.",
        "scaling_down": "The embedder goes and gives its memory back. The next search brings one back.",
    }[facts.look]
    return f"<p>{escape(about)}</p>"


def latest(facts: Facts) -> str:
    """The start that is going on, else the last one: phase by phase."""
    start, last = facts.start, facts.last_start
    if start is not None:
        phase = start.phase or ""
        rows = {**start.phases, **({phase: 0.0} if phase and phase not in start.phases else {})}
        return f"<section><h3>This start</h3>{bars(rows, phase)}{why(start.reason)}</section>"
    if last is None:
        return "<section><h3>Last start</h3><p>None yet.</p></section>"
    first = "" if last.first_answer_ms is None else f", first answer after {seconds(last.first_answer_ms)}"
    result = "failed" if last.outcome == "failed" else f"ready after {seconds(last.ready_ms)}{first}"
    return (
        f"<section><h3>Last start <small>{escape(KINDS.get(last.kind, last.kind))}, {ago(facts.now - last.at)}</small>"
        f"</h3>{bars(last.phases)}<p>{sentence(result)}</p>{why(last.reason)}</section>"
    )


def why(reason: str) -> str:
    return f'<p class="why">{sentence(reason)}</p>' if reason else ""


def bars(phases: Mapping[str, float], running: str = "") -> str:
    """One row for each phase, each bar beginning where the one before ended."""
    total = sum(max(0.0, value) for value in phases.values()) or 1.0
    rows, began = [], 0.0
    for name, value in phases.items():
        milliseconds = max(0.0, value)
        if milliseconds >= 0.5 or name == running:
            width = max(0.6, 100 * milliseconds / total)
            figure = "…" if name == running else f"{milliseconds:,.0f} ms"
            rows.append(
                f'<li><span>{escape(PHASES.get(name, name))}</span><span class="track">'
                f'<i style="left:{100 * began / total:.1f}%;width:{width:.1f}%"></i></span><span>{figure}</span></li>'
            )
        began += milliseconds
    return f'<ol class="phases">{"".join(rows)}</ol>' if rows else ""


def snapshots(facts: Facts) -> str:
    if facts.backend == "plain":
        text = "None: every start is a full one."
    elif facts.backend == "modal":
        text = "Modal keeps it. The first starts after a deployment make it, the later ones come back from it."
    elif facts.disabled:
        text = f"{facts.backend} is switched off until the engine starts again: {facts.disabled}"
    elif facts.snapshot is None:
        text = "None yet: the first start makes one."
    else:
        text = f"{facts.backend}: {size(facts.snapshot)}, made {ago(facts.snapshot.age_s)}"
    return f"<section><h3>Snapshot</h3><p>{escape(text)}</p></section>"


def passed_over(facts: Facts) -> str:
    rows = "".join(f"<p><b>{escape(name)}</b>: {escape(reason)}</p>" for name, reason in facts.refused.items())
    return f"<section><h3>Not used here</h3>{rows}</section>" if rows else ""


def earlier(facts: Facts) -> str:
    rows = [row for row in facts.history if row != facts.last_start or facts.start is not None]
    return f"<section><h3>Starts before</h3>{table(rows, facts.now)}</section>" if rows else ""


def table(rows: Sequence[Row], now: float) -> str:
    cells = "".join(
        f"<tr><td>{ago(now - row.at)}</td><td>{escape(KINDS.get(row.kind, row.kind))}</td>"
        f"<td>{'failed' if row.outcome == 'failed' else took(row)}</td></tr>"
        for row in rows
    )
    return f"<table>{cells}</table>"


# Figures


def took(row: Row) -> str:
    return seconds(row.ready_ms)


def seconds(milliseconds: float) -> str:
    value = milliseconds / 1000
    return f"{value:.2f} s" if value < 10 else f"{value:.0f} s"


def ago(age: float) -> str:
    for unit, length in (("day", 86_400), ("h", 3_600), ("min", 60)):
        if age >= length:
            count = int(age // length)
            return f"{count} {unit}{'s' if unit == 'day' and count > 1 else ''} ago"
    return "just now"


def size(snapshot: Snapshot) -> str:
    return (
        f"{snapshot.bytes / 1e6:,.0f} MB on disk"
        if snapshot.bytes
        else "a warmed-up process held in memory, its children are the workers"
    )


def sentence(text: str) -> str:
    """Escaped, with a capital and a full stop."""
    return escape(text[:1].upper() + text[1:] + "." * (text[-1:] not in (".", "…", "?", "!", "")))
