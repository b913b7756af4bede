"""The widgets of the Search tab, and where they stand. What happens when they are used is in `search`."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr
from gradio.components import Component

from ui.components.scripts import read_script
from ui.core.sample_pages import SAMPLE_PAGES
from ui.core.service import Service
from ui.search import collection_tools, filters, score_matrix
from ui.search.question import TOP_K, LastSearch

MINE = "my-pages"
SAMPLES = "samples"
TOP_KS = ["4", "8", "12", "20", "50"]


@dataclass(frozen=True)
class Widgets:
    target: Component
    """Its value is the name of the server that is asked."""
    collection: gr.Dropdown
    files: gr.File
    folder: gr.UploadButton
    samples: gr.Button
    progress: gr.HTML
    cancel: gr.Button
    listing: gr.HTML
    query: gr.Textbox
    ask: gr.Button
    top_k: gr.Dropdown
    image: gr.Image
    weight: gr.Slider
    minimum: gr.Slider
    filters: filters.Filters
    many: score_matrix.Many
    chips: gr.HTML
    summary: gr.HTML
    gallery: gr.HTML
    detail: gr.HTML
    asked: gr.State
    """An `LastSearch`."""


def build(service: Service, target: Component) -> tuple[Widgets, collection_tools.Controls]:
    changing = not service.settings.read_only
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=290, elem_id="pages-panel"):
            collection = gr.Dropdown(
                [MINE, SAMPLES], value=None, label="Collection", allow_custom_value=True, elem_id="collection",
                info="Choose one, or type a new name",
            )  # fmt: skip
            files = gr.File(
                label="Images, PDFs, zips", file_count="multiple", height=150, elem_id="dropzone", type="filepath",
                visible=changing,
            )  # fmt: skip
            folder = gr.UploadButton(
                "Add a folder", file_count="directory", elem_id="folder", type="filepath", visible=changing
            )
            samples = gr.Button(f"Load the {SAMPLE_PAGES} sample pages", elem_id="samples", visible=changing)
            progress = gr.HTML(elem_id="progress")
            cancel = gr.Button("Cancel", visible=False, elem_id="cancel", size="sm", variant="stop")
            listing = gr.HTML(elem_id="files", js_on_load=read_script("files.js"))
            controls = collection_tools.build(service.settings.read_only)
        with gr.Column(scale=4, min_width=320, elem_id="ask-panel"):
            with gr.Row(elem_id="ask-row"):
                query = gr.Textbox(
                    label="Ask", placeholder="What do you want to find?  ( / )", elem_id="ask", scale=6, autofocus=True,
                    max_length=service.settings.max_text_chars, lines=1, max_lines=3, min_width=220,
                )  # fmt: skip
                top_k = gr.Dropdown(
                    TOP_KS, value=str(TOP_K), label="Pages to show", allow_custom_value=True, elem_id="top-k",
                    min_width=120, scale=1,
                )  # fmt: skip
                ask = gr.Button("Search", variant="primary", elem_id="search", min_width=110, scale=1)
            image, weight, minimum, narrowed = refinements()
            many = score_matrix.build(service)
            chips = gr.HTML(elem_id="chips", js_on_load=read_script("questions.js"))
            summary = gr.HTML(elem_id="summary")
            with gr.Row(equal_height=False):
                with gr.Column(scale=3, min_width=300):
                    gallery = gr.HTML(elem_id="gallery", js_on_load=read_script("gallery.js"))
                with gr.Column(scale=2, min_width=300):
                    detail = gr.HTML(elem_id="detail", js_on_load=read_script("detail.js"))
    asked = gr.State(LastSearch())
    widgets = Widgets(
        target, collection, files, folder, samples, progress, cancel, listing, query, ask, top_k, image, weight,
        minimum, narrowed, many, chips, summary, gallery, detail, asked,
    )  # fmt: skip
    return widgets, controls


def refinements() -> tuple[gr.Image, gr.Slider, gr.Slider, filters.Filters]:
    """Make what changes a search beside its words: an image and its share, a minimum score, and filters."""
    with gr.Accordion("Image, minimum score and filters", open=False, elem_id="refine"):
        with gr.Row():
            image = gr.Image(
                label="Image", type="filepath", image_mode=None, sources=["upload", "clipboard"], height=190,
                elem_id="ask-image", buttons=[], min_width=240,
            )  # fmt: skip
            with gr.Column(min_width=240):
                weight = gr.Slider(
                    0, 100, value=50, step=5, label="Share of the image, %", elem_id="weight",
                    info="When there are words too",
                )  # fmt: skip
                minimum = gr.Slider(
                    0, 1, value=0, step=0.01, label="Minimum score", elem_id="minimum",
                    info="Pages with a lower score are hidden; 0 shows all",
                )  # fmt: skip
        return image, weight, minimum, filters.build()
