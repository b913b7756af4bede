"""The filters below the question: files, types, folder, time, and how many numbers of the vectors are compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import gradio as gr
from gradio.components import Component

from serving.errors import ServingError
from serving.library.records import TYPES, CollectionKey, Selection, guess_file_type, list_folders
from ui.components.events import Arguments
from ui.components.wording import format_count
from ui.core.service import Service
from ui.search.long_choice import Choices, LongChoice
from ui.search.question import ANY_TIME, LastSearch, parse_time
from ui.servers.target import Target

ALL = "all"
"""The choice that compares all numbers of a vector."""
SINCE = [("any time", ANY_TIME), ("today", "1"), ("in the last 7 days", "7"), ("in the last 30 days", "30")]
LAST_RANK = 200
"""The last rank that `find_ranks` reports; a page that comes from behind it says so."""


class Filters:
    """The widgets, made within the block that is being built. `dimension` shows where vectors can be shortened."""

    def __init__(self, service: Service) -> None:
        self._service = service
        with gr.Row():
            some: Arguments = {"choices": [], "value": [], "multiselect": True}
            self.files = gr.Dropdown(label="Only these files", elem_id="only-files", min_width=240, scale=2, **some)
            some |= {"min_width": 180, "info": "By file name extension"}
            self.types = gr.Dropdown(label="Only these types", elem_id="only-types", **some)
            # One of several at most: Gradio's list of a single choice breaks when it has fewer choices than before.
            some |= {"info": "With the folders in it", "max_choices": 1}
            self.folder = gr.Dropdown(label="Only this folder", elem_id="only-folder", **some)
            one: Arguments = {"min_width": 180, "filterable": False}
            self.added = gr.Dropdown(SINCE, value=ANY_TIME, label="Added", elem_id="only-added", **one)
            one = {"min_width": 180, "info": "Fewer are faster and less accurate", "filterable": False}
            self.dimension = gr.Dropdown(
                [ALL], value=ALL, label="Dimensions compared", elem_id="dimension", visible=False, **one
            )
        self._long_files = LongChoice(self.files, "files", self._list_files)
        self._long_folders = LongChoice(self.folder, "folders", self._list_folders)
        self.of_collection: list[Component] = [self.files, self.types, self.folder, self.added]
        self.widgets = [*self.of_collection, self.dimension]

    def connect(self, collection: gr.Dropdown) -> None:
        self._long_files.connect(collection)
        self._long_folders.connect(collection)

    def _list_names(self, collection: str) -> list[tuple[str, int]]:
        return self._service.library.catalogue.list_file_names(self._service.ownership.find_key(collection))

    def _list_files(self, collection: str) -> Choices:
        return name_choices(self._list_names(collection))

    def _list_folders(self, collection: str) -> Choices:
        return name_choices(count_folders(self._list_names(collection)))

    def offer_files(self, names: Sequence[tuple[str, int]], chosen: Selection | None = None) -> dict[Any, Any]:
        """Return the choices for a collection of these files, each with its pages. `chosen`: None leaves what is."""
        counts = Counter[str]()
        for name, pages in names:
            counts[guess_file_type(name)] += pages
        images = sum(pages for kind, pages in counts.items() if kind not in ("pdf", "other"))
        if images and len(counts) > 1:
            counts["image"] = images
        types = [(f"{TYPES[kind]} ({counts[kind]:,})", kind) for kind in TYPES if counts[kind]]
        kept, within = ((), "") if chosen is None else (chosen.files, chosen.folder)
        offered: dict[Any, dict[str, Any]] = {
            self.files: self._long_files.offer(name_choices(names), kept),
            self.types: {"choices": types},
            self.folder: self._long_folders.offer(name_choices(count_folders(names)), [within]),
        }
        if chosen is not None:
            offered[self.files]["value"], offered[self.types]["value"] = list(chosen.files), list(chosen.types)
            offered[self.folder]["value"] = [chosen.folder] if chosen.folder else []
            offered[self.added] = offer_times(chosen.added_after)
        return {widget: gr.update(**more) for widget, more in offered.items()}


def count_folders(names: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return the folders of files, each with its number of pages."""
    folders = Counter[str]()
    for name, pages in names:
        folders.update(dict.fromkeys(list_folders(name), pages))
    return sorted(folders.items())


def name_choices(counted: Sequence[tuple[str, int]]) -> Choices:
    return [(f"{name} ({format_count(pages, 'page')})", name) for name, pages in counted]


def offer_times(chosen: float | None) -> dict[str, Any]:
    """Return the choices of when pages were added, and the chosen one, which may be none of the usual."""
    value = next((value for _, value in SINCE if parse_time(value) == chosen), None)
    if value is not None or chosen is None:
        return {"choices": SINCE, "value": value}
    value = datetime.fromtimestamp(chosen).astimezone().isoformat()
    return {"choices": [*SINCE, (f"since {value[:10]}", value)], "value": value}


def offer_dimensions(target: Target) -> Any:
    """Return the choice of dimensions that a server's model offers. Starts no worker."""
    try:
        model = target.known_info or target.fetch_info()
    except ServingError:
        return gr.update(visible=False, value=ALL)
    smaller = sorted({size for size in model.dimensions if size < model.dimension}, reverse=True)
    choices = [(f"all {model.dimension:,}", ALL), *((f"{size:,}", str(size)) for size in smaller)]
    return gr.update(choices=choices, value=ALL, visible=bool(smaller))


def parse_dimension(chosen: object) -> int | None:
    """Return the number of dimensions that the browser sent; None for all of them."""
    text = str(chosen)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else None


def find_ranks(service: Service, last: LastSearch, collection: CollectionKey) -> dict[str, int]:
    """Return page ids and ranks of the last search, as far as LAST_RANK. Raises ServingError."""
    question = last.question
    hits = service.library.ranking.search(
        collection, last.vector, LAST_RANK, last.fingerprint, question.selection, last.dimension
    )
    others = [hit for hit in hits if hit.page.id != question.like]
    return {hit.page.id: rank for rank, hit in enumerate(others, 1)}
