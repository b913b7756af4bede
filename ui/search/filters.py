"""What narrows a search down, below the question: files, types, and how many numbers of the vectors are compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from serving.errors import ServingError
from serving.library.records import TYPES, CollectionKey, guess_file_type
from ui.components.wording import format_count
from ui.core.service import Service
from ui.search.question import LastSearch
from ui.servers.target import Target

ALL = "all"
"""Of a vector's numbers."""


@dataclass(frozen=True)
class Filters:
    files: gr.Dropdown
    types: gr.Dropdown
    dimension: gr.Dropdown
    """Shown where the server's vectors can be cut."""

    @property
    def widgets(self) -> list[Component]:
        return [self.files, self.types, self.dimension]


def build() -> Filters:
    with gr.Row():
        files = gr.Dropdown(
            [], value=[], multiselect=True, label="Only these files", elem_id="only-files", min_width=240, scale=2,
        )  # fmt: skip
        types = gr.Dropdown(
            [], value=[], multiselect=True, label="Only these types", elem_id="only-types", min_width=180,
            info="By file name extension",
        )  # fmt: skip
        dimension = gr.Dropdown(
            [ALL], value=ALL, label="Dimensions compared", elem_id="dimension", visible=False, filterable=False,
            min_width=180, info="Fewer are faster and less accurate",
        )  # fmt: skip
    return Filters(files, types, dimension)


def choices(filters: Filters, names: Sequence[tuple[str, int]], *, anew: bool = False) -> dict[Any, Any]:
    """What can be chosen in a collection of these files, each with its pages; `anew`: nothing is chosen yet."""
    emptied: dict[str, Any] = {"value": []} if anew else {}
    counts = Counter[str]()
    for name, pages in names:
        counts[guess_file_type(name)] += pages
    images = sum(pages for kind, pages in counts.items() if kind not in ("pdf", "other"))
    if images and len(counts) > 1:
        counts["image"] = images
    found = [(f"{TYPES[kind]} ({counts[kind]:,})", kind) for kind in TYPES if counts[kind]]
    files = [(f"{name} ({format_count(pages, 'page')})", name) for name, pages in names]
    return {
        filters.files: gr.update(choices=files, **emptied),
        filters.types: gr.update(choices=found, **emptied),
    }


def sizes(target: Target) -> Any:
    """The switch for a server: what it says of itself, which wakes nobody."""
    try:
        about = target.known or target.info()
    except ServingError:
        return gr.update(visible=False, value=ALL)
    smaller = sorted({size for size in about.dimensions if size < about.dimension}, reverse=True)
    named = [(f"all {about.dimension:,}", ALL), *((f"{size:,}", str(size)) for size in smaller)]
    return gr.update(choices=named, value=ALL, visible=bool(smaller))


def parse_dimension(chosen: object) -> int | None:
    """What stands in the switch."""
    text = str(chosen)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else None


def find_ranks(service: Service, asked: LastSearch, collection: CollectionKey, dimension: int | None) -> dict[str, int]:
    """Where each page was by that many numbers, as far as it is told: page ids to ranks. Raises ServingError."""
    hits = service.library.ranking.search(
        collection, asked.vector, FAR, asked.fingerprint, asked.question.of, dimension
    )  # fmt: skip
    others = [hit for hit in hits if hit.page.id != asked.question.like]
    return {hit.page.id: rank for rank, hit in enumerate(others, 1)}


FAR = 200
"""The last rank that is told; what came from behind it says so."""
