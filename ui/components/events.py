"""What the events of all tabs have in common: options, and their JavaScript, which is in ui/static/."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from ui.components.templates import render_template

Arguments = dict[str, Any]
PRIVATE: Arguments = {"show_progress": "hidden", "api_visibility": "private"}
"""An event of the page itself: no veil over what changes, and no part of the API."""
STATIC = Path(__file__).parent.parent / "static"


def get_current_page() -> gr.Blocks:
    page = gr.context.Context.root_block
    assert page is not None
    return page


def read_script(name: str) -> str:
    """Return a file of ui/static/: a gr.HTML runs it as `js_on_load`, with its `element`, `trigger` and `watch`."""
    return (STATIC / name).read_text(encoding="utf-8")


def call_script(function: str, *first: object) -> str:
    """Return the `js` of an event that calls a function of ui/static/events.js with `first` and the event's inputs."""
    given = "".join(f"{json.dumps(value)}, " for value in first)
    return f"(...inputs) => window.dormouse.{function}({given}...inputs)"


def render_head() -> Markup:
    scripts = [read_script("address.js"), read_script("keys.js"), read_script("viewer.js"), read_script("events.js")]
    return render_template("head.html", scripts=scripts)
