"""The Cold starts tab: starts a run, shows how it goes, and the report of any run there is.

Knows nothing of how a cold start is measured or proven: that is the bench's, whose process it starts.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from bench.coldstart import report
from bench.coldstart.modal_target import ModalServer
from bench.coldstart.result_file import Result, ResultError
from bench.coldstart.target import LocalEngine, TargetError
from bench.results.record import RUNS
from serving.errors import NotFoundError, ServingError
from serving.system.display_names import cell
from ui.coldstart import cost_panel, gpu_tiers, timeline
from ui.coldstart import sample_plot as samples
from ui.core.bench_runs import Running
from ui.core.service import Service
from ui.servers.modal_target import ModalTarget
from ui.servers.target import Target

SERVER, ENGINES = "server", "engines"
SCRIPT = Path(__file__).parents[1] / "static" / "timeline.js"
LINES = 6
TICK_S = 0.5
"""While a run goes on: a sample is shown so soon after it was written."""
WINDOW_S = 65.0
"""What the bench waits for a server that it cannot scale down: the window of 60 s and a little."""
COLD_S, WARM_S, BEGIN_S = 3.0, 0.03, 8.0
"""For the estimate only: a scaledown with its cold start, a warm request, and what comes before the first of them."""
CONFIRM = """(name, _) => [name, window.confirm(
  'Scale down now? What is being answered is finished first; the next search waits for a start.')]"""


@dataclass(frozen=True)
class Widgets:
    target: Component
    timeline: gr.HTML
    what: gr.Radio
    repetitions: gr.Slider
    warm: gr.Slider
    estimate: gr.HTML
    start: gr.Button
    stop: gr.Button
    down: gr.Button
    live: gr.HTML
    samples: gr.HTML
    run: gr.Dropdown
    beside: gr.Dropdown
    file: gr.UploadButton
    shown: gr.HTML
    timer: gr.Timer


def build(service: Service, target: Component) -> Widgets:
    ways = [("The server of this page", SERVER)]
    if service.engines:
        ways.append(("Two engines beside it: full start and snapshot", ENGINES))
    past = gr.HTML(timeline.frame(), elem_id="timeline", js_on_load=SCRIPT.read_text(), apply_default_css=False)
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=290, elem_id="bench-panel", visible=not service.limits.read_only):
            what = gr.Radio(ways, value=ways[-1][1], label="Measure", elem_id="bench-what")
            repetitions = gr.Slider(1, 20, value=3, step=1, label="Repetitions", elem_id="bench-repetitions")
            warm = gr.Slider(0, 50, value=10, step=1, label="Warm requests in each", elem_id="bench-warm")
            estimate = gr.HTML(elem_id="bench-estimate")
            start = gr.Button("Start", variant="primary", elem_id="bench-start")
            stop = gr.Button("Stop", variant="stop", visible=False, elem_id="bench-stop")
            live = gr.HTML(elem_id="bench-live")
            down = gr.Button("Scale down now", elem_id="scaledown", size="sm")
            sure = gr.Checkbox(visible=False)
        with gr.Column(scale=3, min_width=320, elem_id="bench-runs"):
            dots = gr.HTML(elem_id="bench-samples", apply_default_css=False)
            with gr.Row():
                run = gr.Dropdown([], label="Run", elem_id="bench-run", scale=3, filterable=False)
                beside = gr.Dropdown([], label="Compare with", elem_id="bench-beside", scale=3, filterable=False)
                file = gr.UploadButton(
                    "Load a file", file_types=[".json"], elem_id="bench-file", scale=1, min_width=120,
                    visible=not service.limits.read_only,
                )  # fmt: skip
            shown = gr.HTML(elem_id="bench-report")
            if tiers := gpu_tiers.table(RUNS):
                gr.HTML(tiers, elem_id="bench-tiers")
    cost_panel.build(service, run)
    timer = gr.Timer(TICK_S, active=False)
    widgets = Widgets(
        target, past, what, repetitions, warm, estimate, start, stop, down, live, dots, run, beside, file, shown, timer
    )  # fmt: skip
    Events(service, widgets).connect(sure)
    return widgets


class Events:
    """One method for each thing that can happen; each returns what changes, by widget."""

    def __init__(self, service: Service, widgets: Widgets) -> None:
        self.service = service
        self.w = widgets

    def connect(self, sure: gr.Checkbox) -> None:
        w = self.w
        asked: list[Component] = [w.target, w.what, w.repetitions, w.warm]
        going: list[Component] = [w.start, w.stop, w.live, w.samples, w.timer, w.run, w.beside, w.shown]
        hidden: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        page = gr.context.Context.root_block
        assert page is not None
        page.load(self.arrive, asked, [*going, w.estimate], **hidden)
        gr.on([one.change for one in (w.what, w.repetitions, w.warm)], self.estimated, asked, [w.estimate], **hidden)
        w.timeline.click(self.looked, [w.target], going, **hidden)
        if isinstance(w.target, gr.Dropdown):
            w.target.change(self.turned, asked, [*going, w.estimate], **hidden)
        w.start.click(self.started, asked, going, **hidden)
        w.stop.click(self.stopped, [w.target], going, **hidden)
        w.timer.tick(self.ticked, [w.target, w.run], going, **hidden)
        w.down.click(self.scaled_down, [w.target, sure], None, js=CONFIRM, **hidden)
        gr.on([w.run.input, w.beside.input], self.chosen, [w.run, w.beside], [w.shown], **hidden)
        w.file.upload(self.loaded, [w.file], [w.run, w.beside, w.shown], **hidden)

    def arrive(self, target: str, what: str, repetitions: float, warm: float) -> dict[Component, Any]:
        running = self.service.runs.latest(target)
        return {
            **self.state(running),
            **self.listed(running.id if running is not None and running.going else None),
            self.w.estimate: self.estimated(target, what, repetitions, warm),
        }

    def turned(self, target: str, what: str, repetitions: float, warm: float) -> dict[Component, Any]:
        """To another server; the report that is shown stays."""
        return {**self.looked(target), self.w.estimate: self.estimated(target, what, repetitions, warm)}

    def looked(self, target: str) -> dict[Component, Any]:
        """At a run that this browser may not know of."""
        return self.state(self.service.runs.latest(self.service.targets.or_first(target).name))

    def estimated(self, target: str, what: str, repetitions: float, warm: float) -> str:
        return estimate(self.service.targets.or_first(target), what, int(repetitions), int(warm))

    def started(self, target: str, what: str, repetitions: float, warm: float) -> dict[Component, Any]:
        try:
            return self.state(begin(self.service, target, what, int(repetitions), int(warm)))
        except (ServingError, OSError) as error:
            raise gr.Error(str(error), print_exception=False) from None

    def stopped(self, target: str) -> dict[Component, Any]:
        if (running := self.service.runs.latest(target)) is not None and not self.service.limits.read_only:
            running.stop()
        return self.state(running)

    def ticked(self, target: str, run: str | None) -> dict[Component, Any]:
        """While a run goes on; when it has ended, its report is shown."""
        running = self.service.runs.latest(target)
        if running is None or running.going:
            return self.state(running)
        return {**self.state(running), **self.listed(running.id, run)}

    def scaled_down(self, target: str, sure: bool) -> None:
        if not sure:
            return
        try:
            self.service.library.check_writable()
            scale_down(self.service.targets.of(target))
        except (ServingError, TargetError, OSError) as error:
            raise gr.Error(f"It was not scaled down: {error}", print_exception=False) from None
        gr.Info("Scaled down: nothing is held. The next search brings it back.")

    def chosen(self, run: str | None, beside: str | None) -> str:
        return shown(run, beside)

    def loaded(self, file: str) -> dict[Component, Any]:
        try:
            self.service.library.check_writable()
            return self.listed(self.service.runs.keep(Path(file)))
        except (ServingError, ResultError, OSError) as error:
            raise gr.Error(f"It was not loaded: {error}", print_exception=False) from None

    def listed(self, *wanted: str | None) -> dict[Component, Any]:
        """All runs, with the first of `wanted` that is there shown; else the newest."""
        choices = self.service.runs.choices()
        names = [name for _, name in choices]
        run = next((name for name in [*wanted, *names] if name in names), None)
        return {
            self.w.run: gr.update(choices=choices, value=run),
            self.w.beside: gr.update(choices=[("nothing", ""), *choices], value=""),
            self.w.shown: shown(run, None),
        }

    def state(self, running: Running | None) -> dict[Component, Any]:
        going = running is not None and running.going
        return {
            self.w.start: gr.update(visible=not going),
            self.w.stop: gr.update(visible=going),
            self.w.live: live(self.service, running),
            self.w.samples: measured(self.service, running).dots,
            self.w.timer: gr.Timer(active=going),
        }


def begin(
    service: Service, name: str | None, what: str, repetitions: int, warm: int, test_scaledown: bool = True
) -> Running:  # fmt: skip
    """Starts a run. Raises ServingError, and OSError if the server's admin key cannot be had now."""
    service.library.check_writable()
    target = service.targets.of(name)
    words = ["--num-warmup", str(warm), "--repetitions", str(repetitions), *["--test-scaledown"] * test_scaledown]
    if what == ENGINES:
        running = service.runs.start(target.name, words, {})
    elif isinstance(target, ModalTarget):
        words += ["--modal", target.app, "--mode", "vllm" if target.deployment == "vllm" else "huggingface"]
        running = service.runs.start(target.name, words, {})  # keys and account as this process has them
    else:
        words += ["--url", target.client.url, "--mode", mode(target)]
        running = service.runs.start(target.name, words, keys(target))
    target.watch.repeat()
    return running


def mode(target: Target) -> str:
    """What the bench calls it; it decides only how the result file is named. Raises ServingError."""
    info = target.known or target.info()
    if info.name != "bigemma3":
        return "builtin"
    return "vllm" if "vllm" in info.fingerprint else "huggingface"


def keys(target: Target) -> dict[str, str]:
    """Raises OSError if the admin key cannot be had now."""
    engine = target.watch.engine
    admin = {} if engine is None else {"DORMOUSE_ADMIN_KEY": engine()[1]}
    return {"DORMOUSE_WORKER_KEY": target.client.key, **admin}


def scale_down(target: Target) -> None:
    """Returns when nothing is held. Raises NotFoundError where this page has no admin key for it, else TargetError, or
    OSError if the key cannot be had now."""
    with closing(held(target)) as server:
        server.scale_down(lambda _: None)


def held(target: Target) -> LocalEngine | ModalServer:
    """What brings it to zero. Raises as `scale_down` does."""
    if isinstance(target, ModalTarget):
        return target.bench_target()
    if target.watch.engine is None:
        raise NotFoundError("this page has no admin key of that server: set DORMOUSE_ADMIN_KEY")
    url, admin = target.watch.engine()
    return LocalEngine(target.name, url, target.client.key, admin)


def estimate(target: Target, what: str, repetitions: int, warm: int) -> str:
    """Before anything is started: how long it takes, and whom it touches."""
    ways = 2 if what == ENGINES else 1
    own = what == ENGINES or isinstance(target, ModalTarget) or target.watch.engine is not None
    seconds = BEGIN_S + ways * repetitions * (2 * (COLD_S if own else COLD_S + WINDOW_S) + warm * WARM_S)
    took = f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
    if what == ENGINES:
        touched = "It runs on this machine, beside the server that you search with, and costs nothing."
    else:
        scaled = "scaled down" if own else f"left alone for {WINDOW_S:.0f} s"
        touched = f"This server is {scaled} {2 * repetitions} times: searches meanwhile wait for a start."
        touched += "" if target.local else " Where its seconds are billed, these are too."
    requests_made = ways * repetitions * (warm + 2)
    return f'<p class="note">About {took}, {requests_made} requests. {touched}</p>'


def live(service: Service, running: Running | None) -> str:
    """What the run last said, and the headline as it stands."""
    if running is None:
        return ""
    ended = ENDED.get(running.process.returncode, "It ended with an error:")
    state = "" if running.going else f"<p>{escape(ended)}</p>"
    said = [] if ended in ENDED.values() and not running.going else running.lines(LINES)
    rows = "".join(f"<li>{escape(line)}</li>" for line in said)
    return f'<div class="bench-live" role="status">{state}{measured(service, running).headline}<ol>{rows}</ol></div>'


def measured(service: Service, running: Running | None) -> samples.Told:
    """What a run has measured so far, in words and dots."""
    try:
        if running is not None:
            file = service.runs.path(running.id)
            return samples.told(file, file.stat().st_mtime_ns, running.going)
    except (ResultError, NotFoundError, OSError):
        pass  # before its first sample
    return samples.Told()


ENDED = {0: "The run is done.", 130: "The run was stopped; what it measured is kept."}


def shown(run: str | None, beside: str | None) -> str:
    """The report in a frame of its own, and where to get it."""
    if not run:
        return '<p class="note">No run yet.</p>'
    query = f"?beside={escape(beside)}" if beside else ""
    name = escape(run)
    links = " · ".join(
        f'<a href="/runs/{name}.{kind}{query if kind == "html" else ""}" download>{kind.upper()}</a>'
        for kind in ("json", "csv", "html")
    )
    return (
        f'<p class="note">Download: {links}</p>'
        f'<iframe class="report" title="Report of the run" src="/runs/{name}.html{query}"></iframe>'
    )


def exported(service: Service, name: str, kind: str, beside: str = "") -> tuple[bytes, str]:
    """Content and its type. Raises NotFoundError, ResultError."""
    if kind == "json":
        return service.runs.path(name).read_bytes(), "application/json"
    results = [service.runs.result(one) for one in (name, beside) if one]
    if kind == "csv":
        return table(results), "text/csv; charset=utf-8"
    return report.render_page(results, report.TITLE).encode(), "text/html; charset=utf-8"


def table(results: Sequence[Result]) -> bytes:
    """Every sample as a row; cells that a spreadsheet would take for a formula are marked as text."""
    out = io.StringIO()
    rows = [asdict(sample) for result in results for sample in result.samples]
    writer = csv.writer(out)
    writer.writerow(rows[0] if rows else ["number"])
    writer.writerows([cell(value) for value in row.values()] for row in rows)
    return out.getvalue().encode()
