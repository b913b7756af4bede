"""The top of the page: its name, the server that is asked and its model, and the state of its engine.

It is the same above all tabs. The page view keeps which server is asked: each browser tab has its own choice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr
from gradio.components import Component
from markupsafe import Markup

from serving.errors import ServingError
from ui.components import results, status_pill
from ui.components.events import PRIVATE, Arguments, call_script, get_current_page, read_script
from ui.components.templates import render_template
from ui.core.service import Service
from ui.servers.modal_target import NOT_ASKED
from ui.servers.target import Target


def build(service: Service) -> Component:
    """Return the component whose value is the name of the chosen server."""
    with gr.Row(elem_id="page-header", equal_height=False):
        gr.HTML(render_template("header/title.html"), elem_id="header")
        target = make_server_selector(service)
        model = gr.HTML(render_template("header/starting.html"), elem_id="model", js_on_load=read_script("model.js"))
        gr.HTML(
            status_pill.render_pill(), elem_id="engine", js_on_load=read_script("status.js"), apply_default_css=False
        )

    def open_page(request: gr.Request) -> Markup:
        return describe_model(service, service.targets.get_or_first(dict(request.query_params).get("t")))

    def fill_in_titles() -> Iterator[Any]:
        for choices in service.targets.fetch_titles():
            yield gr.update(choices=choices)

    page = get_current_page()
    page.load(open_page, None, [model], **PRIVATE)
    if isinstance(target, gr.Dropdown):
        page.load(fill_in_titles, None, [target], **PRIVATE)
        target.change(None, [target], None, js=call_script("followServer"), **PRIVATE)
        target.input(lambda name: describe_model(service, service.targets.get(name)), [target], [model], **PRIVATE)
    return target


def make_server_selector(service: Service) -> Component:
    """Return a list of the servers, which is not shown where there is only one."""
    first = service.targets.first.name
    if len(service.targets) == 1:
        return gr.State(first)
    look: Arguments = {"filterable": False, "container": False, "min_width": 180}
    return gr.Dropdown(service.targets.list_choices(), value=first, label="Server", elem_id="target", **look)


def describe_model(service: Service, target: Target) -> Markup:
    """Render a server's model, or why it is not known."""
    try:
        return results.render_model(target.fetch_info(), target.name if len(service.targets) > 1 else "")
    except ServingError as error:
        return render_template("header/no_model.html", why=error.message, bad=error.code != NOT_ASKED)
