"""Many questions at once: each question's score with each page, as a heat map and as a CSV."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.components import Component
from markupsafe import Markup

from serving.embedders.base import Vectors
from serving.errors import ServingError
from serving.library.records import StoredPage
from serving.system.display_names import escape_cell
from ui.components.events import PRIVATE
from ui.components.results import render_notice
from ui.components.scripts import read_script
from ui.components.templates import render_template
from ui.core.service import Scores, Service
from ui.search import filters
from ui.search.question import parse_selection

COLUMNS = 24
"""Pages of the heat map. The CSV has all."""
STEPS = 5
"""Of colour. Each has letters that can be read on it (assets/style.css)."""


@dataclass(frozen=True)
class Many:
    questions: gr.Textbox
    ask: gr.Button
    table: gr.HTML
    save: gr.DownloadButton


def build(service: Service) -> Many:
    limit = service.settings.max_questions
    with gr.Accordion("Many questions at once", open=False, elem_id="many"):
        questions = gr.Textbox(
            label="Questions, one per line", lines=4, max_lines=12, elem_id="questions",
            placeholder="when is the guarantee over?\nwhat did the lamps cost?",
            info=f"Up to {limit}; each is scored against every page",
        )  # fmt: skip
        with gr.Row():
            ask = gr.Button("Score all pages", elem_id="score", size="md", min_width=140)
            save = gr.DownloadButton("Download CSV", visible=False, elem_id="save-scores", size="md", min_width=140)
        table = gr.HTML(elem_id="scores", js_on_load=read_script("questions.js"))
    return Many(questions, ask, table, save)


def connect(service: Service, many: Many, inputs: Sequence[Component]) -> None:
    """`inputs`: collection, target, files, types, dimension."""

    def score(
        questions: object, collection: str, target: str, files: object, types: object, dimension: object
    ) -> tuple[Markup, Any]:
        try:
            lines = str(questions or "").splitlines()
            of = parse_selection(files, types)
            found = service.scores(lines, service.shelf.key(collection), of, filters.parse_dimension(dimension), target)
        except ServingError as error:
            return render_notice("The questions were not scored", error.message, "error"), gr.update(visible=False)
        if not found.pages:
            return render_notice(
                "There are no pages to score", "Add pages, or remove a file or type from the filter."
            ), gr.update(visible=False)
        return render_heat_map(found), gr.update(visible=True, value=str(write_csv(found)))

    many.ask.click(
        score, [many.questions, *inputs], [many.table, many.save], preprocess=False, concurrency_limit=4, **PRIVATE
    )


def select_columns(values: Vectors) -> list[int]:
    """The pages that are shown: the best of each question in turn, then its second and so on, at most COLUMNS."""
    order = np.argsort(-values, axis=1, kind="stable").T
    best = list(dict.fromkeys(int(page) for page in order.ravel()))[:COLUMNS]
    return sorted(best)


def shade_scores(row: Vectors) -> list[int]:
    """A question's scores as steps of colour, from its weakest tenth (0) to its best: cosines lie close together, and a
    page nobody could read lies far below all others."""
    low, high = float(np.quantile(row, 0.1)), float(row.max())
    if high == low:
        return [STEPS - 1] * len(row)
    return [max(0, round((STEPS - 1) * (float(score) - low) / (high - low))) for score in row]


@dataclass(frozen=True)
class Cell:
    title: str
    score: str
    tone: int
    best: bool


def render_heat_map(found: Scores) -> Markup:
    shown = select_columns(found.values)
    rest = len(found.pages) - len(shown)
    more = f" The {len(shown)} that answer best are shown; the CSV has all {len(found.pages):,}." if rest else ""
    return render_template(
        "search/heat_map.html", pages=len(found.pages), more=more,
        columns=[(found.pages[n].id, named(found.pages[n])) for n in shown],
        rows=[
            {"query": query, "scores": make_cells(values, shown, found.pages)}
            for query, values in zip(found.queries, found.values, strict=True)
        ],
    )  # fmt: skip


def make_cells(values: Vectors, shown: Sequence[int], pages: Sequence[StoredPage]) -> list[Cell]:
    best, tones = int(values.argmax()), shade_scores(values[shown])
    return [Cell(named(pages[n]), f"{values[n]:.3f}", tone, n == best) for n, tone in zip(shown, tones, strict=True)]


def named(page: StoredPage) -> str:
    return page.file + (f", page {page.page}" if page.pages > 1 else "")


def format_csv(found: Scores) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["question", *(escape_cell(named(page)) for page in found.pages)])
    for query, values in zip(found.queries, found.values, strict=True):
        writer.writerow([escape_cell(query), *(f"{score:.6f}" for score in values)])
    return out.getvalue()


def write_csv(found: Scores) -> Path:
    """The CSV as a file among the uploads, which are removed after an hour."""
    base = os.environ.get("GRADIO_TEMP_DIR") or None
    if base:
        Path(base).mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="scores-", dir=base))
    path = folder / "scores.csv"
    path.write_text(format_csv(found), encoding="utf-8-sig", newline="")  # the mark tells Excel that it is UTF-8
    return path
