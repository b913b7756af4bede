"""Many questions at once: each question's score with each page, as a heat map and as a CSV."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.components import Component
from gradio.utils import get_upload_folder
from markupsafe import Markup

from serving.embedders.base import Vectors
from serving.errors import ServingError
from serving.system.display_names import escape_cell
from ui.components.events import PRIVATE, Arguments, read_script
from ui.components.results import name_page, render_error, render_notice
from ui.components.templates import render_template
from ui.core.service import ScoredPages, Service
from ui.search import filters
from ui.search.question import parse_selection

COLUMNS = 24
"""Pages of the heat map. The CSV has all."""
SHADES = 5
"""Each has letters that can be read on it (assets/style.css)."""


class ScoreMatrix:
    """The widgets, made within the block that is being built, and their event."""

    def __init__(self, service: Service) -> None:
        self._service = service
        with gr.Accordion("Many questions at once", open=False, elem_id="many"):
            example = "When does the guarantee end?\nWhat did the lamps cost?"
            hint = f"Up to {service.settings.max_questions}; each is scored against every page"
            size: Arguments = {"lines": 4, "max_lines": 12}
            self._questions = gr.Textbox(
                label="Questions, one per line", elem_id="questions", placeholder=example, info=hint, **size
            )
            with gr.Row():
                self._ask = gr.Button("Score all pages", elem_id="score", size="md", min_width=140)
                self.save = gr.DownloadButton(
                    "Download CSV", visible=False, elem_id="save-scores", size="md", min_width=140
                )
            self.table = gr.HTML(elem_id="scores", js_on_load=read_script("questions.js"))

    def connect(self, inputs: Sequence[Component]) -> None:
        """Connect the button. `inputs`: collection, target, and the filters with the dimension last."""
        asking: Arguments = {**PRIVATE, "preprocess": False, "concurrency_limit": 4}
        self._ask.click(self._score, [self._questions, *inputs], [self.table, self.save], **asking)

    def _score(self, questions: object, collection: str, target: str, *chosen: object) -> tuple[Markup, Any]:
        *selected, dimension = chosen
        try:
            key = self._service.ownership.find_key(collection)
            selection, size = parse_selection(*selected), filters.parse_dimension(dimension)
            found = self._service.score_pages(str(questions or "").splitlines(), key, selection, size, target)
        except ServingError as error:
            return render_error("The questions were not scored", error), gr.update(visible=False)
        if found.pages:
            return render_heat_map(found), gr.update(visible=True, value=str(write_csv(found)))
        advice = "Add pages, or remove something from the filter."
        return render_notice("There are no pages to score", advice), gr.update(visible=False)


def select_columns(values: Vectors) -> list[int]:
    """Return the pages to show: the best of each question in turn, then its second and so on, at most COLUMNS."""
    order = np.argsort(-values, axis=1, kind="stable").T
    best = list(dict.fromkeys(int(page) for page in order.ravel()))[:COLUMNS]
    return sorted(best)


def shade_scores(scores: Vectors) -> list[int]:
    """Return a shade for each of a question's scores, from 0 for its weakest tenth to SHADES - 1 for its best.

    Cosines lie close together, and a page without readable text lies far below all others.
    """
    low, high = float(np.quantile(scores, 0.1)), float(scores.max())
    if high == low:
        return [SHADES - 1] * len(scores)
    return [max(0, round((SHADES - 1) * (float(score) - low) / (high - low))) for score in scores]


@dataclass(frozen=True)
class Cell:
    """One score of the heat map."""

    title: str
    score: str
    tone: int
    best: bool


def render_heat_map(found: ScoredPages) -> Markup:
    """Render the pages that answer best, one row for each question."""
    shown = select_columns(found.values)
    rest = len(found.pages) - len(shown)
    more = f" The {len(shown)} that answer best are shown; the CSV has all {len(found.pages):,}." if rest else ""
    names = [name_page(found.pages[n]) for n in shown]
    rows = []
    for query, values in zip(found.queries, found.values, strict=True):
        best, shades = int(values.argmax()), shade_scores(values[shown])
        cells = [
            Cell(name, f"{values[n]:.3f}", tone, n == best) for n, name, tone in zip(shown, names, shades, strict=True)
        ]
        rows.append({"query": query, "scores": cells})
    columns = [(found.pages[n].id, name) for n, name in zip(shown, names, strict=True)]
    return render_template("search/heat_map.html", pages=len(found.pages), more=more, columns=columns, rows=rows)


def write_csv(found: ScoredPages) -> Path:
    """Return a file with all scores, among the uploads, which are removed after an hour."""
    folder = get_upload_folder()
    Path(folder).mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix="scores-", dir=folder)) / "scores.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as file:  # the mark tells Excel that it is UTF-8
        writer = csv.writer(file)
        writer.writerow(["question", *(escape_cell(name_page(page)) for page in found.pages)])
        for query, values in zip(found.queries, found.values, strict=True):
            writer.writerow([escape_cell(query), *(f"{score:.6f}" for score in values)])
    return path
