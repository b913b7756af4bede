"""The widgets of the Search tab and where they stand. The events that they cause are in `tab`."""

from __future__ import annotations

import gradio as gr
from gradio.components import Component

from ui.components.events import Arguments, read_script
from ui.core.sample_pages import SAMPLE_PAGES
from ui.core.service import Service
from ui.search.collection_tools import CollectionTools
from ui.search.filters import Filters
from ui.search.job_buttons import JobButtons
from ui.search.question import TOP_K, LastSearch
from ui.search.score_matrix import ScoreMatrix

MINE = "my-pages"
SAMPLES = "samples"
TOP_KS = ["4", "8", "12", "20", "50"]


class SearchWidgets:
    """The widgets, made within the block that is being built. `target` holds the name of the server to ask."""

    def __init__(self, service: Service, target: Component) -> None:
        self.target = target
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=290, elem_id="pages-panel"):
                self._add_pages_panel(service)
            with gr.Column(scale=4, min_width=320, elem_id="ask-panel"):
                self._add_question(service)
                self.many = ScoreMatrix(service)
                self.chips = gr.HTML(elem_id="chips", js_on_load=read_script("questions.js"))
                self.summary = gr.HTML(elem_id="summary", js_on_load=read_script("summary.js"))
                with gr.Row(equal_height=False):
                    with gr.Column(scale=3, min_width=300):
                        self.gallery = gr.HTML(elem_id="gallery", js_on_load=read_script("gallery.js"))
                    with gr.Column(scale=2, min_width=300):
                        self.detail = gr.HTML(elem_id="detail", js_on_load=read_script("detail.js"))
        self.last = gr.State(LastSearch())
        # Holds what the address is to name, and asks for what the browser's Back has come to.
        self.address = gr.HTML(html_template="", elem_id="address", js_on_load=read_script("entries.js"))

    def _add_pages_panel(self, service: Service) -> None:
        changing = not service.settings.read_only
        choosing: Arguments = {"allow_custom_value": True, "info": "Choose one, or type a new name"}
        self.collection = gr.Dropdown([MINE, SAMPLES], value=None, label="Collection", elem_id="collection", **choosing)
        self.files = gr.File(
            label="Images, PDFs, zips", file_count="multiple", height=150, elem_id="dropzone", visible=changing
        )
        self.folder = gr.UploadButton("Add a folder", file_count="directory", elem_id="folder", visible=changing)
        self.samples = gr.Button(f"Load the {SAMPLE_PAGES} sample pages", elem_id="samples", visible=changing)
        self.progress = gr.HTML(elem_id="progress")
        self.shipped = gr.HTML(elem_id="shipped", js_on_load=read_script("samples.js"))
        self.jobs = JobButtons()
        self.listing = gr.HTML(elem_id="files", js_on_load=read_script("files.js"))
        self.tools = CollectionTools(service)

    def _add_question(self, service: Service) -> None:
        with gr.Row(elem_id="ask-row"):
            asking: Arguments = {"max_length": service.settings.max_text_chars, "max_lines": 3, "autofocus": True}
            asking |= {"placeholder": "What do you want to find?  ( / )", "min_width": 220, "scale": 6}
            self.query = gr.Textbox(label="Ask", elem_id="ask", **asking)
            choosing: Arguments = {"allow_custom_value": True, "min_width": 120, "scale": 1}
            self.top_k = gr.Dropdown(TOP_KS, value=str(TOP_K), label="Pages to show", elem_id="top-k", **choosing)
            self.ask = gr.Button("Search", variant="primary", elem_id="search", min_width=110, scale=1)
        with gr.Accordion("Image, minimum score and filters", open=False, elem_id="refine"):
            with gr.Row():
                given: Arguments = {"type": "filepath", "image_mode": None, "sources": ["upload", "clipboard"]}
                self.image = gr.Image(
                    label="Image", elem_id="ask-image", height=190, min_width=240, buttons=[], **given
                )
                with gr.Column(min_width=240):
                    hint = "Used when you also ask in words"
                    self.weight = gr.Slider(
                        0, 100, 50, step=5, label="Weight of the image, %", elem_id="weight", info=hint
                    )
                    hint = "Pages with a lower score are hidden; 0 shows all"
                    self.minimum = gr.Slider(0, 1, 0, step=0.01, label="Minimum score", elem_id="minimum", info=hint)
            self.filters = Filters(service)
