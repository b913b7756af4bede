"""The top of the page: its name, the server that is asked and its model, and the state of its engine.

The same whatever is shown below. Which server is asked is kept in the page view: each browser tab has its own choice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr
from gradio.components import Component

from serving.errors import ServingError
from ui.components import results, status_pill
from ui.components.events import PRIVATE, get_current_page
from ui.components.scripts import call_script, read_script
from ui.components.templates import render_template
from ui.core.service import Service
from ui.servers.modal_target import NOT_ASKED
from ui.servers.target import Target


def build(service: Service) -> Component:
    """Returns the component whose value is the name of the chosen target."""
    with gr.Row(elem_id="masthead", equal_height=False):
        gr.HTML(render_template("header/title.html"), elem_id="header")
        target = make_server_selector(service)
        model = gr.HTML(render_template("header/starting.html"), elem_id="model", js_on_load=read_script("model.js"))
        gr.HTML(
            status_pill.render_pill(), elem_id="engine", js_on_load=read_script("status.js"), apply_default_css=False
        )

    def arrive(request: gr.Request) -> str:
        return describe_model(service, service.targets.or_first(dict(request.query_params).get("t")))

    def titles() -> Iterator[Any]:
        for choices in service.targets.introduce():
            yield gr.update(choices=choices)

    page = get_current_page()
    page.load(arrive, None, [model], **PRIVATE)
    if isinstance(target, gr.Dropdown):
        page.load(titles, None, [target], **PRIVATE)
        target.change(None, [target], None, js=call_script("followServer"), **PRIVATE)
        target.input(lambda name: describe_model(service, service.targets.of(name)), [target], [model], **PRIVATE)
    return target


def make_server_selector(service: Service) -> Component:
    """Nothing is shown where there is nothing to choose."""
    first = service.targets.first.name
    if len(service.targets) == 1:
        return gr.State(first)
    return gr.Dropdown(
        service.targets.choices(), value=first, label="Server", elem_id="target", filterable=False, container=False,
        min_width=180,
    )  # fmt: skip


def describe_model(service: Service, target: Target) -> str:
    try:
        return results.render_model(target.info(), target.name if len(service.targets) > 1 else "")
    except ServingError as error:
        return results.render_no_model(error.message, bad=error.code != NOT_ASKED)
