"""Many questions at once: each question's score with each page, as a heat map and as a CSV."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.components import Component

from serving.embedders.base import Vectors
from serving.errors import ServingError
from serving.library.records import StoredPage
from serving.system.display_names import escape_cell
from ui.components.results import notice, plural
from ui.core.service import Scores, Service
from ui.search import filters
from ui.search.question import selection

COLUMNS = 24
"""Pages of the heat map. The CSV has all."""
STEPS = 5
"""Of colour. Each has letters that can be read on it (assets/style.css)."""
ASK = """
element.addEventListener('click', (event) => {
  const row = event.target.closest('[data-query]');
  if (row) trigger('click', {query: row.dataset.query});
});
"""


@dataclass(frozen=True)
class Many:
    questions: gr.Textbox
    ask: gr.Button
    table: gr.HTML
    save: gr.DownloadButton


def build(service: Service) -> Many:
    limit = service.limits.max_questions
    with gr.Accordion("Many questions at once", open=False, elem_id="many"):
        questions = gr.Textbox(
            label="Questions, one a line", lines=4, max_lines=12, elem_id="questions",
            placeholder="when is the guarantee over?\nwhat did the lamps cost?",
            info=f"Up to {limit}; each is scored with each page",
        )  # fmt: skip
        with gr.Row():
            ask = gr.Button("Score all pages", elem_id="score", size="md", min_width=140)
            save = gr.DownloadButton("Download CSV", visible=False, elem_id="save-scores", size="md", min_width=140)
        table = gr.HTML(elem_id="scores", js_on_load=ASK)
    return Many(questions, ask, table, save)


def connect(service: Service, many: Many, inputs: Sequence[Component]) -> None:
    """`inputs`: collection, target, files, types, dimension."""

    def score(
        questions: object, collection: str, target: str, files: object, types: object, dimension: object
    ) -> tuple[str, Any]:
        try:
            lines = str(questions or "").splitlines()
            of = selection(files, types)
            found = service.scores(lines, service.shelf.key(collection), of, filters.size(dimension), target)
        except ServingError as error:
            return notice("The questions were not scored", error.message, "error"), gr.update(visible=False)
        if not found.pages:
            return notice("There is no page to score", "Add pages, or take something out of the filter."), gr.update(
                visible=False
            )
        return heat_map(found), gr.update(visible=True, value=str(written(found)))

    many.ask.click(
        score, [many.questions, *inputs], [many.table, many.save], show_progress="hidden", api_visibility="private",
        preprocess=False, concurrency_limit=4,
    )  # fmt: skip


def columns(values: Vectors) -> list[int]:
    """The pages that are shown: the best of each question in turn, then its second and so on, at most COLUMNS."""
    order = np.argsort(-values, axis=1, kind="stable").T
    best = list(dict.fromkeys(int(page) for page in order.ravel()))[:COLUMNS]
    return sorted(best)


def steps(row: Vectors) -> list[int]:
    """A question's scores as steps of colour, from its weakest tenth (0) to its best: cosines lie close together, and a
    page nobody could read lies far below all others."""
    low, high = float(np.quantile(row, 0.1)), float(row.max())
    if high == low:
        return [STEPS - 1] * len(row)
    return [max(0, round((STEPS - 1) * (float(score) - low) / (high - low))) for score in row]


def heat_map(found: Scores) -> str:
    shown = columns(found.values)
    heads = "".join(
        f'<th scope="col" title="{titled(found.pages[n])}"><img src="/pages/{found.pages[n].id}.webp" alt=""'
        f' loading="lazy"><span>{titled(found.pages[n])}</span></th>'
        for n in shown
    )
    rows = "".join(
        row(query, values, shown, found.pages) for query, values in zip(found.queries, found.values, strict=True)
    )
    rest = len(found.pages) - len(shown)
    more = f" Shown are the {len(shown)} that answer best; the CSV has all {len(found.pages):,}." if rest else ""
    return (
        f'<p class="summary" role="status"><b>{plural(len(found.queries), "question")}</b> with'
        f" {plural(len(found.pages), 'page')}.{more}<br><small>Each row runs from its weakest pages (lightest) to its"
        " best (★); scores of two questions are not comparable. A question opens its search.</small></p>"
        '<div class="heat" role="region" aria-label="Scores of questions with pages" tabindex="0"><table><thead><tr>'
        f'<th scope="col">Question</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def row(query: str, values: Vectors, shown: Sequence[int], pages: Sequence[StoredPage]) -> str:
    best, text, tones = int(values.argmax()), escape(query, quote=True), steps(values[shown])
    cells = "".join(
        f'<td class="heat-{tone}" title="{text}: {titled(pages[n])}, {values[n]:.3f}">'
        f"{'<b>★<span class=unseen>best </span>' if n == best else ''}{values[n]:.3f}{'</b>' if n == best else ''}</td>"
        for n, tone in zip(shown, tones, strict=True)
    )
    return f'<tr><th scope="row"><button type="button" data-query="{text}">{text}</button></th>{cells}</tr>'


def titled(page: StoredPage) -> str:
    return escape(named(page), quote=True)


def named(page: StoredPage) -> str:
    return page.file + (f", page {page.page}" if page.pages > 1 else "")


def table(found: Scores) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["question", *(escape_cell(named(page)) for page in found.pages)])
    for query, values in zip(found.queries, found.values, strict=True):
        writer.writerow([escape_cell(query), *(f"{score:.6f}" for score in values)])
    return out.getvalue()


def written(found: Scores) -> Path:
    """The CSV as a file among the uploads, which are removed after an hour."""
    base = os.environ.get("GRADIO_TEMP_DIR") or None
    if base:
        Path(base).mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="scores-", dir=base))
    path = folder / "scores.csv"
    path.write_text(table(found), encoding="utf-8-sig", newline="")  # the mark tells Excel that it is UTF-8
    return path
