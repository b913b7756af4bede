"""The Cold starts tab: starts a run, shows how it goes, and the report of any run there is.

Knows nothing of how a cold start is measured or proven: that is the bench's, whose process it starts.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component
from markupsafe import Markup

from bench.coldstart import report
from bench.coldstart.modal_target import ModalServer
from bench.coldstart.result_file import Result, ResultError
from bench.coldstart.target import LocalEngine, TargetError
from bench.results.record import RUNS
from serving.errors import NotFoundError, ServingError
from serving.system.display_names import escape_cell
from ui.coldstart import cost_panel, gpu_tiers, timeline
from ui.coldstart import sample_plot as samples
from ui.components.events import PRIVATE, call_script, get_current_page, read_script
from ui.components.templates import render_template
from ui.core.bench_runs import Running
from ui.core.service import Service
from ui.servers.modal_target import ModalTarget
from ui.servers.target import Target

SERVER, ENGINES = "server", "engines"
LINES = 6
TICK_S = 0.5
"""While a run goes on: a sample is shown so soon after it was written."""
WINDOW_S = 65.0
"""What the bench waits for a server that it cannot scale down: the window of 60 s and a little."""
COLD_S, WARM_S, BEGIN_S = 3.0, 0.03, 8.0
"""For the estimate only: a scaledown with its cold start, a warm request, and what comes before the first of them."""


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
        ways.append(("Two extra engines: full start and snapshot", ENGINES))
    past = gr.HTML(timeline.frame(), elem_id="timeline", js_on_load=read_script("timeline.js"), apply_default_css=False)
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=290, elem_id="bench-panel", visible=not service.settings.read_only):
            what = gr.Radio(ways, value=ways[-1][1], label="Measure", elem_id="bench-what")
            repetitions = gr.Slider(1, 20, value=3, step=1, label="Repetitions", elem_id="bench-repetitions")
            warm = gr.Slider(0, 50, value=10, step=1, label="Warm requests after each start", elem_id="bench-warm")
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
                    visible=not service.settings.read_only,
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
        page = get_current_page()
        page.load(self.arrive, asked, [*going, w.estimate], **PRIVATE)
        gr.on([one.change for one in (w.what, w.repetitions, w.warm)], self.estimated, asked, [w.estimate], **PRIVATE)
        w.timeline.click(self.looked, [w.target], going, **PRIVATE)
        if isinstance(w.target, gr.Dropdown):
            w.target.change(self.turned, asked, [*going, w.estimate], **PRIVATE)
        w.start.click(self.started, asked, going, **PRIVATE)
        w.stop.click(self.stopped, [w.target], going, **PRIVATE)
        w.timer.tick(self.ticked, [w.target, w.run], going, **PRIVATE)
        w.down.click(self.scaled_down, [w.target, sure], None, js=call_script("confirmScaledown"), **PRIVATE)
        gr.on([w.run.input, w.beside.input], self.chosen, [w.run, w.beside], [w.shown], **PRIVATE)
        w.file.upload(self.loaded, [w.file], [w.run, w.beside, w.shown], **PRIVATE)

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

    def estimated(self, target: str, what: str, repetitions: float, warm: float) -> Markup:
        return estimate(self.service.targets.or_first(target), what, int(repetitions), int(warm))

    def started(self, target: str, what: str, repetitions: float, warm: float) -> dict[Component, Any]:
        try:
            return self.state(begin(self.service, target, what, int(repetitions), int(warm)))
        except (ServingError, OSError) as error:
            raise gr.Error(str(error), print_exception=False) from None

    def stopped(self, target: str) -> dict[Component, Any]:
        if (running := self.service.runs.latest(target)) is not None and not self.service.settings.read_only:
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
            raise gr.Error(f"Not scaled down: {error}", print_exception=False) from None
        gr.Info("Scaled down. The next search starts the server again.")

    def chosen(self, run: str | None, beside: str | None) -> Markup:
        return shown(run, beside)

    def loaded(self, file: str) -> dict[Component, Any]:
        try:
            self.service.library.check_writable()
            return self.listed(self.service.runs.keep(Path(file)))
        except (ServingError, ResultError, OSError) as error:
            raise gr.Error(f"The file was not loaded: {error}", print_exception=False) from None

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
        raise NotFoundError("this page has no admin key for that server: set DORMOUSE_ADMIN_KEY")
    url, admin = target.watch.engine()
    return LocalEngine(target.name, url, target.client.key, admin)


def estimate(target: Target, what: str, repetitions: int, warm: int) -> Markup:
    """Render how long a run will take, and whom it disturbs, before anything is started."""
    ways = 2 if what == ENGINES else 1
    own = what == ENGINES or isinstance(target, ModalTarget) or target.watch.engine is not None
    seconds = BEGIN_S + ways * repetitions * (2 * (COLD_S if own else COLD_S + WINDOW_S) + warm * WARM_S)
    took = f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
    if what == ENGINES:
        touched = "It runs on this machine, beside the server that you search with, and costs nothing."
    else:
        scaled = "scaled down" if own else f"left alone for {WINDOW_S:.0f} s"
        touched = f"This server is {scaled} {2 * repetitions} times: searches meanwhile wait for a start."
        touched += "" if target.local else " If its running time is billed, so is this."
    requests_made = ways * repetitions * (warm + 2)
    return render_template("note.html", text=f"About {took}, {requests_made} requests. {touched}", alert="")


def live(service: Service, running: Running | None) -> Markup:
    """Render the last lines of the run, and the headline so far."""
    if running is None:
        return Markup()
    ended = ENDED.get(running.process.returncode, "The run ended with an error:")
    said = [] if ended in ENDED.values() and not running.going else running.lines(LINES)
    return render_template(
        "coldstart/live.html", ended="" if running.going else ended, headline=measured(service, running).headline,
        lines=said,
    )  # fmt: skip


def measured(service: Service, running: Running | None) -> samples.Told:
    """What a run has measured so far, in words and dots."""
    try:
        if running is not None:
            file = service.runs.path(running.id)
            return samples.told(file, file.stat().st_mtime_ns, running.going)
    except (ResultError, NotFoundError, OSError):
        pass  # before its first sample
    return samples.Told()


ENDED = {0: "The run is complete.", 130: "The run was stopped; its measurements are kept."}


def shown(run: str | None, beside: str | None) -> Markup:
    """Render the report in a frame of its own, with links to its files."""
    return render_template("coldstart/report.html", run=run, beside=beside)


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
    writer.writerows([escape_cell(value) for value in row.values()] for row in rows)
    return out.getvalue().encode()
