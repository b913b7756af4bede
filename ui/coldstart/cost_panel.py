"""The section "What it costs" of the Cold starts tab: a month's bill, and which window buys which waits.

Every figure is computed by `bench.cost.bill`, as `python -m bench cost` does, in the page's own process: no server is
asked and nobody is woken. Until the section is opened, nothing is computed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
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
from ui.components.wording import format_count
from ui.core.service import Service

REQUESTS, DURATION_S, WINDOW_S, START_S = 10.0, 5.0, 60.0, 15.0
GPU, CORES, MEMORY_GIB = "L40S", 4.0, 32.0
"""A GPU with room for a 4B model in 16 bits, and what stands beside it."""
MOST = 50_000
"""Arrivals of a file; more would keep the page's processor for seconds."""
DEFAULT_NOTE = f"The run shown has no measured start: {START_S:g} s is a guess for restoring a 4B model."
Shown = tuple[Markup, go.Figure | None, go.Figure | None]
"""Words as HTML, the bill, and the curve; no figures where the words are an error."""


@dataclass(frozen=True)
class Inputs:
    """In the order of `Asked`."""

    requests: gr.Number
    file: gr.File
    duration: gr.Number
    window: gr.Number
    start: gr.Number
    gpu: gr.Dropdown
    rate: gr.Number
    cores: gr.Number
    memory: gr.Number

    def listed(self) -> list[Any]:
        return [getattr(self, name) for name in self.__dataclass_fields__]


@dataclass(frozen=True)
class Asked:
    """What a person typed; None where a box is empty."""

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
    """`run`: its value is the name of the run that is shown, from which a start's seconds are taken."""
    with gr.Accordion("What it costs", open=False, elem_id="cost") as section, gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=290, elem_id="cost-inputs"):
            inputs, note = widgets()
            source = gr.HTML(source_note(LISTED), elem_id="cost-source")
            live = gr.Button(
                "Use my Modal account's prices", size="sm", elem_id="cost-live", visible=False
            )  # fmt: skip
        with gr.Column(scale=3, min_width=300, elem_id="cost-told"):
            words = gr.HTML(elem_id="cost-words")
            bars = gr.Plot(show_label=False, elem_id="cost-bill")
            curve = gr.Plot(show_label=False, elem_id="cost-curve")
    opened, rates = gr.State(False), gr.State(LISTED)
    asked, outputs = [opened, *inputs.listed(), rates], [words, bars, curve]
    latest: dict[str, Any] = {**PRIVATE, "trigger_mode": "always_last", "concurrency_limit": 1}
    section.expand(opening, None, [opened, live], **PRIVATE)
    changes = [one.change for one in (opened, *inputs.listed(), rates) if one is not inputs.gpu]
    gr.on(changes, updated, asked, outputs, **latest)
    inputs.gpu.change(rate_of, [inputs.gpu, rates], [inputs.rate], **PRIVATE)
    asking = {**PRIVATE, "show_progress": "minimal"}  # it takes a second or two
    live.click(account_prices, [inputs.gpu], [rates, inputs.rate, source], **asking)
    run.change(lambda name: measured_start(service, name), [run], [inputs.start, note], **PRIVATE)


def widgets() -> tuple[Inputs, gr.HTML]:
    with gr.Group():
        requests = gr.Number(REQUESTS, label="Requests a day", info="at random times", elem_id="cost-requests")
        file = gr.File(
            label="Or arrival times (CSV)",
            file_types=[".csv", ".txt"],
            height=140,
            elem_id="cost-file",
            type="filepath",
        )
    with gr.Group():
        duration = gr.Number(DURATION_S, label="Seconds per request", elem_id="cost-duration", min_width=120)
        with gr.Row():
            window = gr.Number(WINDOW_S, label="Window, s", elem_id="cost-window", min_width=120)
            start = gr.Number(START_S, label="Start, s", elem_id="cost-start", min_width=120)
    note = gr.HTML(noted(DEFAULT_NOTE), elem_id="cost-start-note")
    with gr.Group():
        with gr.Row():
            gpu = gr.Dropdown(list(prices.GPU_PER_S), value=GPU, label="GPU", elem_id="cost-gpu", min_width=120)
            rate = gr.Number(listed_rate(GPU), label="GPU, $ per hour", elem_id="cost-rate", min_width=120)
        with gr.Row():
            cores = gr.Number(CORES, label="Cores", elem_id="cost-cores", min_width=120)
            memory = gr.Number(MEMORY_GIB, label="Memory, GiB", elem_id="cost-memory", min_width=120)
    return Inputs(requests, file, duration, window, start, gpu, rate, cores, memory), note


def opening() -> tuple[bool, Any]:
    """Also whether an account can be asked: to know it, Modal's client is imported, which no page's start waits for."""
    return True, gr.update(visible=modal_account.has_token())


def updated(opened: bool, *values: Any) -> tuple[Any, Any, Any]:
    if not opened:
        return gr.skip(), gr.skip(), gr.skip()
    said, bars, curve = told(Asked(*values))
    return said, gr.Plot(bars, visible=bars is not None), gr.Plot(curve, visible=curve is not None)


def told(asked: Asked) -> Shown:
    """What came of it, or a sentence that says what is wrong."""
    try:
        usage, price = Usage(*numbers(asked)), priced(asked)
        demand = demanded(asked)
        billed = bill.compute_bill(demand, usage, price)
        found = None
        if billed.requests:
            found = bill.compute_curve(demand, usage, price, sorted({*bill.WINDOWS, usage.window_s}))
    except (ValueError, OSError) as error:
        why = str(error)
        if asked.file:
            why = why.replace(asked.file, "the file")
        return results.render_notice("No costs were calculated", why[:1].upper() + why[1:] + ".", "error"), None, None
    curve = None if found is None else figures.draw_curve(found, usage.window_s)
    return words(billed, usage, found), figures.draw_bill(billed), curve


def numbers(asked: Asked) -> tuple[float, float, float]:
    return (
        typed("seconds per request", asked.duration),
        typed("the window", asked.window),
        typed("the start", asked.start),
    )


def typed(what: str, value: float | None) -> float:
    """Raises ValueError for an empty box."""
    if value is None or not math.isfinite(value):
        raise ValueError(f"enter a number for {what}")
    return float(value)


def demanded(asked: Asked) -> float | Sequence[float]:
    """Requests a day, or the arrivals of the file if there is one. Raises ValueError, OSError."""
    if not asked.file:
        return typed("requests a day", asked.requests)
    found = arrivals.read_arrivals(Path(asked.file))
    if len(found) > MOST:
        raise ValueError(
            f"the file has {len(found):,} arrivals, and this page takes {MOST:,}: python -m bench cost takes them all"
        )
    return found


def listed_rate(gpu: str, rates: Rates = LISTED) -> float:
    """Dollars an hour of that GPU alone. Raises ValueError where those rates do not name it."""
    return round(prices.price_machine(gpu, rates=rates).per_hour, 3)


def rate_of(gpu: str, rates: Rates) -> Any:
    """For the box; what is not known stays empty."""
    try:
        return listed_rate(gpu, rates)
    except ValueError:
        return None


def priced(asked: Asked) -> Price:
    """By the rates, unless another one was typed. Raises ValueError."""
    cores, memory = typed("cores", asked.cores), typed("memory", asked.memory)
    known = rate_of(asked.gpu, asked.rates)
    rate = known if asked.rate is None else typed("the price of the GPU", asked.rate)
    if rate == known:
        return prices.price_machine(asked.gpu, None, cores, memory, asked.rates)
    prices.check_range("dollars an hour of the GPU", rate, 0.0, prices.MOST_PER_HOUR)
    beside = prices.price_machine("none", None, cores, memory, asked.rates).per_hour
    return Price(
        f"{asked.gpu}, with {cores:g} cores and {memory:g} GiB", rate + beside, "the GPU's price as entered", ""
    )


def account_prices(gpu: str) -> tuple[Any, Any, Markup]:
    """Rates, the GPU's, and their source; the list's stay, with the reason, where the account cannot be asked."""
    try:
        found = prices.fetch_rates()
    except AccountError as error:
        return gr.skip(), gr.skip(), source_note(LISTED, f"List prices are kept: {error}.")
    return found, rate_of(gpu, found), source_note(found)


def noted(text: str) -> Markup:
    return render_template("note.html", text=text, alert="")


def source_note(rates: Rates, problem: str = "") -> Markup:
    beside = f"a core ${rates.core * 3600:.4f} and a GiB ${rates.gib * 3600:.4f} an hour"
    return render_template("note.html", text=f"{rates.source}, read {rates.date}; {beside}.", alert=problem)


def measured_start(service: Service, run: str | None) -> tuple[Any, Markup]:
    """Seconds, and where they are from; a guess, and said to be one, if the run that is shown has measured none."""
    try:
        found = select_start_seconds(load_result(service.runs.path(run or "")))
    except (NotFoundError, ValueError, OSError):
        return START_S, noted(DEFAULT_NOTE)
    median = statistics.median(found)
    text = f"The run shown above has a median start of {median:.3g} s (n={len(found)})."
    return round(median, 3), noted(f"{text} A larger model takes longer: enter its seconds.")


def words(billed: Bill, usage: Usage, found: Curve | None) -> Markup:
    price = billed.price
    lines = []
    if billed.requests:
        starts = format_count(round(billed.cold_starts), "start")
        lines.append(f"{billed.cold_share:.0%} of the requests wait for a start: {starts} a month.")
    lines.append(f"{bill.render_break_even(usage, price)}.")
    if found is not None:
        lines.append(knee_words(found))
    when = f", read {price.date}" if price.date else ""
    note = (
        f"{price.gpu} at ${price.per_hour:.3f} an hour ({price.source}{when}); 30 days. Not counted: credits, failed"
        " starts, and what a deploy bills for its snapshots."
    )
    return render_template("cost/bill.html", headline=bill.render_headline(billed), lines=lines, note=note)


def knee_words(found: Curve) -> str:
    if found.knee is None:
        return "No longer window shortens the p95 at a low price."
    best = found.points[found.knee]
    spent = bill.format_dollars(best.dollars)
    return (
        f"The knee is at a window of {figures.format_seconds(best.window_s)}: {spent} a month, p95"
        f" {best.p95_s:.2f} s. Longer windows gain less per dollar."
    )
