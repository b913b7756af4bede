"""The section "What it costs" of the Cold starts tab: a month's bill, and which window buys which waits.

Every figure is computed by `bench.cost.bill`, as `python -m bench cost` does, in the page's own process: no server is
asked and nobody is woken. Until the section is opened, nothing is computed.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import gradio as gr
import plotly.graph_objects as go
from markupsafe import Markup

from bench.coldstart.result_file import load_result, select_start_seconds
from bench.cost import arrivals, bill, figures, prices
from bench.cost.bill import Bill, Curve, Usage
from bench.cost.prices import LISTED, Price, Rates
from serving.cloud import modal_account
from serving.cloud.modal_account import AccountError
from serving.errors import NotFoundError
from ui.components import results
from ui.components.events import PRIVATE
from ui.components.templates import render_template
from ui.components.wording import as_sentence, format_count
from ui.core.service import Service

REQUESTS, DURATION_S, WINDOW_S, START_S = 10.0, 5.0, 60.0, 15.0
GPU, CORES, MEMORY_GIB = "L40S", 4.0, 32.0
"""A GPU with room for a 4B model in 16 bits, and the cores and memory beside it."""
MAX_ARRIVALS = 50_000
"""Arrivals of a file; more would keep the page's processor for seconds."""
DEFAULT_NOTE = f"The run shown has no measured start: {START_S:g} s is a guess for restoring a 4B model."


@dataclass(frozen=True)
class CostInputs:
    """The values of the widgets, in their order, and the rates; None where a box is empty."""

    requests: float | None = REQUESTS
    file: str | None = None
    duration: float | None = DURATION_S
    window: float | None = WINDOW_S
    start: float | None = START_S
    gpu: str = GPU
    rate: float | None = None
    cores: float | None = CORES
    memory: float | None = MEMORY_GIB
    rates: Rates = LISTED


def build(service: Service, run: gr.Dropdown) -> None:
    """Add the section. The value of `run` is the name of the run shown, from which a start's seconds are taken."""
    with gr.Accordion("What it costs", open=False, elem_id="cost") as section, gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=290, elem_id="cost-inputs"):
            widgets, note = build_widgets()
            source = gr.HTML(render_source(LISTED), elem_id="cost-source")
            live = gr.Button("Use my Modal account's prices", size="sm", elem_id="cost-live", visible=False)
        with gr.Column(scale=3, min_width=300, elem_id="cost-told"):
            words = gr.HTML(elem_id="cost-words")
            bars = gr.Plot(show_label=False, elem_id="cost-bill")
            curve = gr.Plot(show_label=False, elem_id="cost-curve")
    opened, rates = gr.State(False), gr.State(LISTED)
    gpu, rate = widgets["gpu"], widgets["rate"]
    inputs = [opened, *(widgets[field.name] for field in fields(CostInputs)[:-1]), rates]
    latest: dict[str, Any] = {**PRIVATE, "trigger_mode": "always_last", "concurrency_limit": 1}
    # Whether an account can be asked is found out here: Modal's client is not imported at start.
    section.expand(lambda: (True, gr.update(visible=modal_account.has_token())), None, [opened, live], **PRIVATE)
    changes = [one.change for one in inputs if one is not gpu]
    gr.on(changes, update_costs, inputs, [words, bars, curve], **latest)
    gpu.change(find_rate, [gpu, rates], [rate], **PRIVATE)
    asking = {**PRIVATE, "show_progress": "minimal"}  # it takes a second or two
    live.click(use_account_prices, [gpu], [rates, rate, source], **asking)
    run.change(lambda name: find_measured_start(service, name), [run], [widgets["start"], note], **PRIVATE)


def build_widgets() -> tuple[dict[str, Any], gr.HTML]:
    """Return the widgets by the fields of `CostInputs`, and the note about the start."""
    widgets: dict[str, Any] = {}

    def add_number(name: str, value: float | None, label: str, info: str | None = None) -> None:
        widgets[name] = gr.Number(value, label=label, info=info, elem_id=f"cost-{name}", min_width=120)

    with gr.Group():
        add_number("requests", REQUESTS, "Requests a day", "at random times")
        widgets["file"] = gr.File(
            label="Or arrival times (CSV)", file_types=[".csv", ".txt"], height=140, elem_id="cost-file"
        )
    with gr.Group():
        add_number("duration", DURATION_S, "Seconds per request")
        with gr.Row():
            add_number("window", WINDOW_S, "Window, s")
            add_number("start", START_S, "Start, s")
    note = gr.HTML(render_note(DEFAULT_NOTE), elem_id="cost-start-note")
    with gr.Group():
        with gr.Row():
            widgets["gpu"] = gr.Dropdown(
                list(prices.GPU_PER_S), value=GPU, label="GPU", elem_id="cost-gpu", min_width=120
            )
            add_number("rate", find_rate(GPU), "GPU, $ per hour")
        with gr.Row():
            add_number("cores", CORES, "Cores")
            add_number("memory", MEMORY_GIB, "Memory, GiB")
    return widgets, note


def update_costs(opened: bool, *values: Any) -> tuple[Any, Any, Any]:
    if not opened:
        return gr.skip(), gr.skip(), gr.skip()
    words, bars, curve = calculate_costs(CostInputs(*values))
    return words, gr.Plot(bars, visible=bars is not None), gr.Plot(curve, visible=curve is not None)


def calculate_costs(inputs: CostInputs) -> tuple[Markup, go.Figure | None, go.Figure | None]:
    """Return words, the bill and the curve; or a sentence that names the mistake in the inputs, without figures."""
    try:
        usage = Usage(
            require_number("seconds per request", inputs.duration),
            require_number("the window", inputs.window),
            require_number("the start", inputs.start),
        )
        price = choose_price(inputs)
        moments = arrivals.read_arrivals(Path(inputs.file)) if inputs.file else []
        if len(moments) > MAX_ARRIVALS:
            raise ValueError(
                f"the file has {len(moments):,} arrivals, and this page takes {MAX_ARRIVALS:,}: python -m bench cost"
                " takes them all"
            )
        demand = moments if inputs.file else require_number("requests a day", inputs.requests)
        billed = bill.compute_bill(demand, usage, price)
        found = None
        if billed.requests:
            found = bill.compute_curve(demand, usage, price, sorted({*bill.WINDOWS, usage.window_s}))
    except (ValueError, OSError) as error:
        why = str(error)
        if inputs.file:
            why = why.replace(inputs.file, "the file")
        return results.render_notice("No costs were calculated", as_sentence(why), "error"), None, None
    curve = None if found is None else figures.draw_curve(found, usage.window_s)
    return render_words(billed, usage, found), figures.draw_bill(billed), curve


def require_number(what: str, value: float | None) -> float:
    """Raises ValueError for an empty box."""
    if value is None or not math.isfinite(value):
        raise ValueError(f"enter a number for {what}")
    return float(value)


def find_rate(gpu: str, rates: Rates = LISTED) -> float | None:
    """Return dollars an hour of that GPU alone; None, an empty box, where those rates do not name it."""
    try:
        return round(prices.price_machine(gpu, rates=rates).per_hour, 3)
    except ValueError:
        return None


def choose_price(inputs: CostInputs) -> Price:
    """Return the price by the rates, unless another one was typed. Raises ValueError."""
    cores, memory = require_number("cores", inputs.cores), require_number("memory", inputs.memory)
    known = find_rate(inputs.gpu, inputs.rates)
    rate = None if inputs.rate is None else require_number("the price of the GPU", inputs.rate)
    if rate is None or rate == known:
        return prices.price_machine(inputs.gpu, None, cores, memory, inputs.rates)
    prices.check_range("dollars an hour of the GPU", rate, 0.0, prices.MOST_PER_HOUR)
    beside = prices.price_machine("none", None, cores, memory, inputs.rates).per_hour
    return Price(
        f"{inputs.gpu}, with {cores:g} cores and {memory:g} GiB", rate + beside, "the GPU's price as entered", ""
    )


def use_account_prices(gpu: str) -> tuple[Any, Any, Markup]:
    """Return rates, the GPU's, and their source; the list's, with the reason, where the account cannot be asked."""
    try:
        found = prices.fetch_rates()
    except AccountError as error:
        return gr.skip(), gr.skip(), render_source(LISTED, f"List prices are kept: {error}.")
    return found, find_rate(gpu, found), render_source(found)


def render_note(text: str, alert: str = "") -> Markup:
    return render_template("note.html", text=text, alert=alert)


def render_source(rates: Rates, problem: str = "") -> Markup:
    beside = f"a core ${rates.core * 3600:.4f} and a GiB ${rates.gib * 3600:.4f} an hour"
    return render_note(f"{rates.source}, read {rates.date}; {beside}.", problem)


def find_measured_start(service: Service, run: str | None) -> tuple[Any, Markup]:
    """Return seconds of a start, and a note of their source: the run shown, else a guess."""
    try:
        found = select_start_seconds(load_result(service.runs.result_path(run or "")))
    except (NotFoundError, ValueError, OSError):
        return START_S, render_note(DEFAULT_NOTE)
    median = statistics.median(found)
    text = f"The run shown above has a median start of {median:.3g} s (n={len(found)})."
    return round(median, 3), render_note(f"{text} A larger model takes longer: enter its seconds.")


def render_words(billed: Bill, usage: Usage, found: Curve | None) -> Markup:
    price = billed.price
    lines = [f"{bill.render_break_even(usage, price)}."]
    if billed.requests:
        starts = format_count(round(billed.cold_starts), "start")
        lines.insert(0, f"{billed.cold_share:.0%} of the requests wait for a start: {starts} a month.")
    if found is not None and found.knee is None:
        lines.append("No longer window shortens the p95 at a low price.")
    elif found is not None and found.knee is not None:
        best = found.points[found.knee]
        lines.append(
            f"The knee is at a window of {figures.format_seconds(best.window_s)}: {bill.format_dollars(best.dollars)} a"
            f" month, p95 {best.p95_s:.2f} s. Longer windows gain less per dollar."
        )
    when = f", read {price.date}" if price.date else ""
    note = (
        f"{price.gpu} at ${price.per_hour:.3f} an hour ({price.source}{when}); 30 days. Not counted: credits, failed"
        " starts, and what a deploy bills for its snapshots."
    )
    return render_template("cost/bill.html", headline=bill.render_headline(billed), lines=lines, note=note)
