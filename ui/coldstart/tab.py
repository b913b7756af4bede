"""The Cold starts tab: starts a run, shows its progress, and the report of any run there is.

How a cold start is measured and proven is the business of the bench, whose process is started here.
"""

from __future__ import annotations

import csv
import io
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component
from markupsafe import Markup

from bench.coldstart import report
from bench.coldstart.modal_target import ModalServer
from bench.coldstart.result_file import ResultError
from bench.coldstart.target import LocalEngine, TargetError
from bench.results.record import RUNS
from serving.errors import NotFoundError, ServingError
from serving.system.display_names import escape_cell
from ui.coldstart import cost_panel, gpu_tiers, timeline, waits
from ui.coldstart.sample_plot import RunMarkup, render_run
from ui.components.events import PRIVATE, Arguments, call_script, get_current_page, read_script
from ui.components.templates import render_template
from ui.core.bench_runs import BenchRun
from ui.core.service import Service
from ui.servers.modal_target import ModalTarget
from ui.servers.target import Target

SERVER, ENGINES = "server", "engines"
LINES = 6
TICK_S = 0.5
"""Between two readings of a run in progress: a sample is shown so soon after it was written."""
WINDOW_S = 65.0
"""The bench waits so long for a server that it cannot scale down: the window of 60 s and a little."""
COLD_S, WARM_S, BEGIN_S = 3.0, 0.03, 8.0
"""Used by the estimate only: a scaledown with its cold start, a warm request, and the time before the first one."""
ENDED = {0: "The run is complete.", 130: "The run was stopped; its measurements are kept."}
Changes = dict[Component, Any]


class ColdStartsTab:
    """The tab's widgets, and one method for each event, which returns the changes by widget."""

    def __init__(self, service: Service, target: Component) -> None:
        """Add the tab to the page that is being built. The value of `target` is the name of the chosen server."""
        self.service = service
        self.target = target
        self.timeline = gr.HTML(
            timeline.render_empty(), elem_id="timeline", js_on_load=read_script("timeline.js"), apply_default_css=False
        )
        choices = [("The server of this page", SERVER)]
        if service.engines:
            choices.append(("Two extra engines: full start and snapshot", ENGINES))
        writable = not service.settings.read_only
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=290, elem_id="bench-panel", visible=writable):
                self.what = gr.Radio(choices, value=choices[-1][1], label="Measure", elem_id="bench-what")
                self.repetitions = gr.Slider(1, 20, value=3, step=1, label="Repetitions", elem_id="bench-repetitions")
                self.warm = gr.Slider(
                    0, 50, value=10, step=1, label="Warm requests after each start", elem_id="bench-warm"
                )
                self.estimate = gr.HTML(elem_id="bench-estimate")
                self.start = gr.Button("Start", variant="primary", elem_id="bench-start")
                self.stop = gr.Button("Stop", variant="stop", visible=False, elem_id="bench-stop")
                self.live = gr.HTML(elem_id="bench-live")
                self.down = gr.Button("Scale down now", elem_id="scaledown", size="sm")
                self.confirmed = gr.Checkbox(visible=False)
            with gr.Column(scale=3, min_width=320, elem_id="bench-runs"):
                self.samples = gr.HTML(elem_id="bench-samples", apply_default_css=False)
                with gr.Row():
                    choice: Arguments = {"scale": 3, "filterable": False}
                    self.run = gr.Dropdown([], label="Run", elem_id="bench-run", **choice)
                    self.beside = gr.Dropdown([], label="Compare with", elem_id="bench-beside", **choice)
                    loading: Arguments = {"file_types": [".json"], "scale": 1, "min_width": 120}
                    self.file = gr.UploadButton("Load a file", elem_id="bench-file", visible=writable, **loading)
                self.report = gr.HTML(elem_id="bench-report", js_on_load=read_script("report.js"))
                if waited := waits.render_table(RUNS):
                    gr.HTML(waited, elem_id="bench-waits")
                if tiers := gpu_tiers.render_table(RUNS):
                    gr.HTML(tiers, elem_id="bench-tiers")
        cost_panel.build(service, self.run)
        self.timer = gr.Timer(TICK_S, active=False)
        self._connect()

    def _connect(self) -> None:
        asked: list[Component] = [self.target, self.what, self.repetitions, self.warm]
        state: list[Component] = [
            self.start, self.stop, self.live, self.samples, self.timer, self.run, self.beside, self.report,
        ]  # fmt: skip
        changes = [one.change for one in (self.what, self.repetitions, self.warm)]
        if isinstance(self.target, gr.Dropdown):  # the report that is shown stays
            changes.append(self.target.change)
            self.target.change(self.show_latest, [self.target], state, **PRIVATE)
        get_current_page().load(self.open_tab, asked, [*state, self.estimate], **PRIVATE)
        gr.on(changes, self.update_estimate, asked, [self.estimate], **PRIVATE)
        self.timeline.click(self.show_latest, [self.target], state, **PRIVATE)
        self.start.click(self.start_run, asked, state, **PRIVATE)
        self.stop.click(self.stop_run, [self.target], state, **PRIVATE)
        self.timer.tick(self.refresh, [self.target, self.run], state, **PRIVATE)
        confirm = call_script("confirmScaledown")
        self.down.click(self.scale_down, [self.target, self.confirmed], None, js=confirm, **PRIVATE)
        gr.on([self.run.input, self.beside.input], render_report, [self.run, self.beside], [self.report], **PRIVATE)
        self.file.upload(self.load_file, [self.file], [self.run, self.beside, self.report], **PRIVATE)

    def open_tab(self, target: str, what: str, repetitions: float, warm: float) -> Changes:
        running = self.service.runs.latest(target)
        return {
            **self.show_run(running),
            **self.list_runs(running.id if running is not None and running.is_running else None),
            self.estimate: self.update_estimate(target, what, repetitions, warm),
        }

    def show_latest(self, target: str) -> Changes:
        """Show a run that this browser may not know of."""
        return self.show_run(self.service.runs.latest(self.service.targets.get_or_first(target).name))

    def update_estimate(self, target: str, what: str, repetitions: float, warm: float) -> Markup:
        return render_estimate(self.service.targets.get_or_first(target), what, int(repetitions), int(warm))

    def start_run(self, target: str, what: str, repetitions: float, warm: float) -> Changes:
        try:
            return self.show_run(start_run(self.service, target, what, int(repetitions), int(warm)))
        except (ServingError, OSError) as error:
            raise gr.Error(str(error), print_exception=False) from None

    def stop_run(self, target: str) -> Changes:
        if (running := self.service.runs.latest(target)) is not None and not self.service.settings.read_only:
            running.stop()
        return self.show_run(running)

    def refresh(self, target: str, run: str | None) -> Changes:
        """Show a run while it goes on, and its report when it has ended."""
        running = self.service.runs.latest(target)
        if running is None or running.is_running:
            return self.show_run(running)
        return {**self.show_run(running), **self.list_runs(running.id, run)}

    def scale_down(self, target: str, confirmed: bool) -> None:
        if not confirmed:
            return
        try:
            self.service.library.check_writable()
            scale_down(self.service.targets.get(target))
        except (ServingError, TargetError, OSError) as error:
            raise gr.Error(f"Not scaled down: {error}", print_exception=False) from None
        gr.Info("Scaled down. The next search starts the server again.")

    def load_file(self, file: str) -> Changes:
        try:
            self.service.library.check_writable()
            return self.list_runs(self.service.runs.add_file(Path(file)))
        except (ServingError, ResultError, OSError) as error:
            raise gr.Error(f"The file was not loaded: {error}", print_exception=False) from None

    def list_runs(self, *wanted: str | None) -> Changes:
        """Return all runs, with the first of `wanted` that exists shown, else the newest."""
        choices = self.service.runs.list_choices()
        names = [name for _, name in choices]
        run = next((name for name in [*wanted, *names] if name in names), None)
        return {
            self.run: gr.update(choices=choices, value=run),
            self.beside: gr.update(choices=[("nothing", ""), *choices], value=""),
            self.report: render_report(run, None),
        }

    def show_run(self, running: BenchRun | None) -> Changes:
        is_running = running is not None and running.is_running
        return {
            self.start: gr.update(visible=not is_running),
            self.stop: gr.update(visible=is_running),
            self.live: render_progress(self.service, running),
            self.samples: render_samples(self.service, running).dots,
            self.timer: gr.Timer(active=is_running),
        }


def start_run(
    service: Service, name: str | None, what: str, repetitions: int, warm: int, test_scaledown: bool = True
) -> BenchRun:
    """Start a run. Raises ServingError, and OSError if the server's admin key cannot be had now."""
    service.library.check_writable()
    target = service.targets.get(name)
    arguments = ["--num-warmup", str(warm), "--repetitions", str(repetitions), *["--test-scaledown"] * test_scaledown]
    keys = {}  # for a server on Modal: keys and account as this process has them
    if isinstance(target, ModalTarget) and what != ENGINES:
        arguments += ["--modal", target.app, "--mode", "vllm" if target.deployment == "vllm" else "huggingface"]
    elif what != ENGINES:
        info, engine = target.known_info or target.fetch_info(), target.feed.engine
        # The mode decides only how the result file is named.
        mode = "builtin" if info.name != "bigemma3" else "vllm" if "vllm" in info.fingerprint else "huggingface"
        arguments += ["--url", target.client.url, "--mode", mode]
        keys = {"DORMOUSE_WORKER_KEY": target.client.key}
        if engine is not None:
            keys["DORMOUSE_ADMIN_KEY"] = engine()[1]
    running = service.runs.start(target.name, arguments, keys)
    target.feed.publish_again()
    return running


def scale_down(target: Target) -> None:
    """Return once nothing is held.

    Raises NotFoundError where this page has no admin key for the server, else TargetError, or OSError if the key cannot
    be had now.
    """
    server: LocalEngine | ModalServer
    if isinstance(target, ModalTarget):
        server = target.open_bench_target()
    elif target.feed.engine is None:
        raise NotFoundError("this page has no admin key for that server: set DORMOUSE_ADMIN_KEY")
    else:
        url, admin = target.feed.engine()
        server = LocalEngine(target.name, url, target.client.key, admin)
    with closing(server):
        server.scale_down(lambda _: None)


def render_estimate(target: Target, what: str, repetitions: int, warm: int) -> Markup:
    """Render how long a run will take, and whom it disturbs, before anything is started."""
    series = 2 if what == ENGINES else 1
    own = what == ENGINES or isinstance(target, ModalTarget) or target.feed.engine is not None
    seconds = BEGIN_S + series * repetitions * (2 * (COLD_S if own else COLD_S + WINDOW_S) + warm * WARM_S)
    duration = f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
    if what == ENGINES:
        effect = "It runs on this machine, beside the server that you search with, and costs nothing."
    else:
        scaled = "scaled down" if own else f"left alone for {WINDOW_S:.0f} s"
        effect = f"This server is {scaled} {2 * repetitions} times: searches meanwhile wait for a start."
        effect += "" if target.is_local else " If its running time is billed, so is this."
    text = f"About {duration}, {series * repetitions * (warm + 2)} requests. {effect}"
    return cost_panel.render_note(text)


def render_progress(service: Service, running: BenchRun | None) -> Markup:
    """Render the last lines of the run, and the headline so far."""
    if running is None:
        return Markup()
    ended = "" if running.is_running else ENDED.get(running.process.returncode, "The run ended with an error:")
    lines = [] if ended in ENDED.values() else running.last_lines(LINES)
    headline = render_samples(service, running).headline
    return render_template("coldstart/live.html", ended=ended, headline=headline, lines=lines)


def render_samples(service: Service, running: BenchRun | None) -> RunMarkup:
    """Render the samples of a run so far; nothing before its first one."""
    try:
        if running is not None:
            file = service.runs.result_path(running.id)
            return render_run(file, file.stat().st_mtime_ns, running.is_running)
    except (ResultError, NotFoundError, OSError):
        pass
    return RunMarkup()


def render_report(run: str | None, beside: str | None) -> Markup:
    """Render the report in a frame of its own, with links to its files."""
    return render_template("coldstart/report.html", run=run, beside=beside)


def export_run(service: Service, name: str, kind: str, beside: str = "") -> tuple[bytes, str]:
    """Return a run's file and its media type; as CSV every sample is a row. Raises NotFoundError, ResultError."""
    if kind == "json":
        return service.runs.result_path(name).read_bytes(), "application/json"
    results = [service.runs.load(one) for one in (name, beside) if one]
    if kind == "html":
        return report.render_page(results, report.TITLE).encode(), "text/html; charset=utf-8"
    out = io.StringIO()
    rows = [asdict(sample) for result in results for sample in result.samples]
    writer = csv.writer(out)
    writer.writerow(rows[0] if rows else ["number"])
    # A spreadsheet would run a cell that looks like a formula.
    writer.writerows([escape_cell(value) for value in row.values()] for row in rows)
    return out.getvalue().encode(), "text/csv; charset=utf-8"
