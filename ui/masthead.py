"""The top of the page: its name, the model's, and the state of the engine. The same whatever is shown below."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from serving.errors import ServingError
from ui import render, status
from ui.service import Service

SCRIPT = Path(__file__).parent / "status.js"


def build(service: Service) -> None:
    with gr.Row(elem_id="masthead", equal_height=False):
        header = gr.HTML(render.header(None), elem_id="header")
        gr.HTML(status.pill(), elem_id="engine", js_on_load=SCRIPT.read_text(), apply_default_css=False)

    def describe() -> str:
        try:
            return render.header(service.info)
        except ServingError:
            return render.header(None)

    page = gr.context.Context.root_block
    assert page is not None
    page.load(describe, None, [header], show_progress="hidden", api_visibility="private")
