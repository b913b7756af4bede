"""The top of the page: its name, the server that is asked and its model, and the state of its engine.

The same whatever is shown below. Which server is asked is kept in the page view: each browser tab has its own choice.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from serving.errors import ServingError
from ui.components import results, status_pill
from ui.core.service import Service
from ui.servers.modal_target import NOT_ASKED
from ui.servers.target import Target

SCRIPT = Path(__file__).parents[1] / "static" / "status.js"
CLOSE = """
const leave = () => element.querySelector('.model[open]')?.removeAttribute('open');
element.addEventListener('keydown', (event) => {
  if (event.key !== 'Escape' || !element.querySelector('.model[open]')) return;
  leave();
  element.querySelector('.model > summary').focus();
});
element.addEventListener('focusout', (event) => {
  if (event.relatedTarget && !element.contains(event.relatedTarget)) leave();
});
document.addEventListener('pointerdown', (event) => { if (!element.contains(event.target)) leave(); });
"""
CHOSEN = "(name) => { window.dispatchEvent(new CustomEvent('dormouse-target', {detail: name ?? ''})); }"
"""Told to the pill, which then follows that server's engine."""


def build(service: Service) -> Component:
    """Returns the component whose value is the name of the chosen target."""
    with gr.Row(elem_id="masthead", equal_height=False):
        gr.HTML(results.HEADER, elem_id="header")
        target = selector(service)
        model = gr.HTML(results.STARTING, elem_id="model", js_on_load=CLOSE)
        gr.HTML(status_pill.pill(), elem_id="engine", js_on_load=SCRIPT.read_text(), apply_default_css=False)

    def arrive(request: gr.Request) -> str:
        return described(service, service.targets.or_first(dict(request.query_params).get("t")))

    def titles() -> Iterator[Any]:
        for choices in service.targets.introduce():
            yield gr.update(choices=choices)

    page = gr.context.Context.root_block
    assert page is not None
    hidden: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    page.load(arrive, None, [model], **hidden)
    if isinstance(target, gr.Dropdown):
        page.load(titles, None, [target], **hidden)
        target.change(None, [target], None, js=CHOSEN, api_visibility="private")
        target.input(lambda name: described(service, service.targets.of(name)), [target], [model], **hidden)
    return target


def selector(service: Service) -> Component:
    """Nothing is shown where there is nothing to choose."""
    first = service.targets.first.name
    if len(service.targets) == 1:
        return gr.State(first)
    return gr.Dropdown(
        service.targets.choices(), value=first, label="Server", elem_id="target", filterable=False, container=False,
        min_width=180,
    )  # fmt: skip


def described(service: Service, target: Target) -> str:
    try:
        return results.model(target.info(), target.name if len(service.targets) > 1 else "")
    except ServingError as error:
        return results.no_model(error.message, bad=error.code != NOT_ASKED)
